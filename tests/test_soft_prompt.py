from __future__ import annotations

import pytest
import torch

from rarec_hf.backbone_cache import LayerShape
from rarec_hf.soft_prompt import SoftPromptGenerator

# K and V of different width, other head counts in other layers
UNEVEN = {0: LayerShape(2, 3, 5), 1: LayerShape(1, 4, 4), 3: LayerShape(3, 2, 1)}  # layer 2 has no keys
EVEN = dict.fromkeys(range(3), LayerShape(2, 3, 4))


def generator(shapes=UNEVEN, id_dim=6, context_length=2, **arguments):
    torch.manual_seed(0)
    made = SoftPromptGenerator(shapes, id_dim, context_length, **arguments)
    if made.context is not None:
        torch.nn.init.normal_(made.context)
    return made


def test_shapes_of_keys_and_values_follow_the_backbone():
    prompts = generator()(torch.randn(4, 3, 6))
    for number, (layer, shape) in enumerate(UNEVEN.items()):
        keys, values = prompts.layers[layer]
        assert keys.shape == (4, shape.heads, 2 + 3, shape.key_dim)
        assert values.shape == (4, shape.heads, 2 + 3, shape.value_dim)
        assert prompts.pooled_values[number].shape == (4, shape.heads * shape.value_dim)
    assert generator().length == 3


def test_each_layer_has_its_own_projector_and_instruction():
    """p^l = W^l v + b^l and c^l, read off the matrices by hand."""
    made, vectors = generator(), torch.randn(2, 1, 6)
    prompts, start = made(vectors), 0
    for layer, shape in UNEVEN.items():
        for head in range(shape.heads):
            width = shape.key_dim + shape.value_dim
            weight, bias = made.projector.weight[start : start + width], made.projector.bias[start : start + width]
            expected = vectors[:, 0] @ weight.T + bias
            keys, values = (part[:, head] for part in prompts.layers[layer])
            torch.testing.assert_close(torch.cat([keys[:, 2], values[:, 2]], -1), expected)
            context = made.context[:, start : start + width].expand(2, -1, -1)
            assert torch.equal(torch.cat([keys[:, :2], values[:, :2]], -1), context)
            start += width
    assert start == made.projector.out_features == sum(made.widths)


def test_pooled_values_leave_the_instruction_out_and_average_the_id_vectors():
    made, vectors = generator(), torch.randn(2, 3, 6)
    prompts = made(vectors)
    with torch.no_grad():
        made.context.add_(100)
    again = made(vectors)
    for number, layer in enumerate(UNEVEN):
        expected = prompts.layers[layer][1][:, :, 2:].mean(2).flatten(1)
        torch.testing.assert_close(prompts.pooled_values[number], expected)
        assert torch.equal(again.pooled_values[number], prompts.pooled_values[number])


def test_one_projector_for_all_layers():
    made = generator(EVEN, context_length=0, layer_specific=False)
    assert made.projector.out_features == 14
    prompts = made(torch.randn(2, 1, 6))
    for layer in (1, 2):
        assert torch.equal(prompts.layers[layer][0], prompts.layers[0][0])
        assert torch.equal(prompts.layers[layer][1], prompts.layers[0][1])
    own = generator(EVEN, context_length=0)(torch.randn(2, 1, 6))
    assert not torch.equal(own.layers[1][0], own.layers[0][0])


def test_without_id_vectors_it_is_prefix_tuning():
    made = generator(id_dim=0)
    assert made.projector is None
    assert made.length == 2
    prompts = made(torch.randn(3, 1, 6))
    assert prompts.pooled_values is None
    assert prompts.layers[0][0].shape == (3, 2, 2, 3)
    assert torch.equal(made(torch.randn(3, 1, 6)).layers[0][0], prompts.layers[0][0])


def test_segment_begins_where_it_is_told():
    segment = generator()(torch.randn(2, 1, 6)).segment(torch.tensor([5, 2]), group=3)
    assert segment.columns.position.tolist() == [[5, 6, 7], [2, 3, 4]]
    assert segment.columns.group.tolist() == [[3] * 3] * 2
    assert bool(segment.columns.real.all())


def test_impossible_soft_prompts_are_refused():
    with pytest.raises(ValueError, match="ID vectors, a contextual instruction, or both"):
        generator(id_dim=0, context_length=0)
    with pytest.raises(ValueError, match="needs equal cache shapes.*layer_specific_projectors=True"):
        generator(UNEVEN, layer_specific=False)
