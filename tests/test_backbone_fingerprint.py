from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rarec_hf.backbone_fingerprint import check_fingerprint, weights_fingerprint


def tiny_llama(seed: int = 0, **kwargs) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, num_key_value_heads=2, **sizes, **kwargs))


@pytest.mark.parametrize("tied", [True, False])
def test_fingerprint_is_the_same_in_fp32_and_bf16_and_for_bf16_weights_in_fp16(tied):
    model = tiny_llama(tie_word_embeddings=tied)
    in_fp32 = weights_fingerprint(model)
    assert weights_fingerprint(model.to(torch.bfloat16)) == in_fp32
    assert weights_fingerprint(model.to(torch.float16)) == in_fp32  # was bf16 by now: fp16 holds the same values


@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"]
)
def test_fingerprint_differs_when_a_parameter_does(name):
    model, other = tiny_llama(), tiny_llama()
    assert weights_fingerprint(model) == weights_fingerprint(other)
    with torch.no_grad():
        other.get_parameter(name).mul_(1.01)  # more than bf16's rounding, 1/256 at most
    assert weights_fingerprint(model) != weights_fingerprint(other)


def test_fingerprint_of_weights_that_are_not_there_is_refused():
    with torch.device("meta"):
        model = tiny_llama()
    with pytest.raises(ValueError, match="meta device"):
        weights_fingerprint(model)


def quantised(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """As bitsandbytes leaves a model: 8-bit matrices, embeddings and norms as they were."""
    for layer in model.model.layers:
        for module in layer.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight = torch.nn.Parameter(module.weight.detach().to(torch.int8), requires_grad=False)
    return model


def test_quantised_model_is_compared_by_what_quantisation_leaves_alone():
    plain, same, other = weights_fingerprint(tiny_llama()), quantised(tiny_llama()), quantised(tiny_llama(seed=1))
    assert weights_fingerprint(same).split(":")[1] == "-"
    check_fingerprint(plain, same, "path:/somewhere")
    check_fingerprint(weights_fingerprint(same), tiny_llama(), "path:/somewhere")
    with pytest.raises(ValueError, match="fingerprint"):
        check_fingerprint(plain, other, "path:/somewhere")


def test_wrong_weights_are_refused_with_both_fingerprints_and_the_address():
    expected, model = weights_fingerprint(tiny_llama()), tiny_llama(seed=1)
    check_fingerprint(expected, tiny_llama(), "path:/somewhere")
    with pytest.raises(ValueError, match=f"{expected}.*{weights_fingerprint(model)}.*path:/somewhere"):
        check_fingerprint(expected, model, "path:/somewhere")
