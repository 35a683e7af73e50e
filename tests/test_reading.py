from __future__ import annotations

import pytest
import torch

KINDS = ["llama", "qwen3", "gemma3", "mistral", "llama4", "gpt2"]
HISTORY = (1, 2, 3, 4, 5, 6, 7)


def passes(model):
    """Rows and columns of each pass through the backbone."""
    shapes = []
    model.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return shapes


def positions_of(model, histories, titles=None):
    if titles is not None:
        model.processor.titles = titles
    return model.processor.user_inputs(histories, 8, shared=model.processor.shared_texts(histories))


def read(model, inputs, one_by_one=False):
    vectors = model.id_encoder.user_vectors(inputs["history"])
    ids, mask, readout = (inputs[f"user_{name}"] for name in ("text_ids", "text_mask", "readout_ids"))
    if not one_by_one:
        rows, ends = inputs["user_text_rows"], inputs["user_text_ends"]
        return model.read("user", ids, mask, readout, vectors, rows=rows, ends=ends)
    states = []
    for n, (row, end) in enumerate(zip(inputs["user_text_rows"], inputs["user_text_ends"], strict=True)):
        text = ids[row : row + 1, :end]
        states.append(model.read("user", text, torch.ones_like(text), readout, vectors[n : n + 1]).state)
    return torch.cat(states)


@pytest.fixture
def model_with_blocks(make_model, make_processor):
    def make(*args, **config):
        model = make_model(*args, **config)
        model.processor = make_processor(max_history_items=8, history_block=8, max_text_tokens=96)
        return model

    return make


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_position_from_one_text_pass_equals_one_by_one(model_with_blocks, kind):
    model = model_with_blocks(kind)
    histories = [
        HISTORY[:2],
        (8, 9),
        HISTORY,
        (8,),
        HISTORY[:5],
        HISTORY[:1],
    ]  # two texts, unequal numbers of readings
    inputs = positions_of(model, histories)
    assert len(inputs["user_text_ids"]) == 2
    shapes = passes(model)
    together = read(model, inputs).state
    assert len(shapes) == 2 and all(rows == 2 for rows, _ in shapes)
    alone = read(model, inputs, one_by_one=True)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert (together[0] - together[4]).abs().max() > 0.05


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_no_later_title_and_no_other_reading_leaks(model_with_blocks, kind):
    model = model_with_blocks(kind)
    histories = [HISTORY[:2], HISTORY[:5], HISTORY]
    titles = list(model.processor.titles)
    before = read(model, positions_of(model, histories)).state
    titles[HISTORY[5]] = "zzzz"  # the sixth item
    model.processor._pieces._known.clear()
    after = read(model, positions_of(model, histories, titles)).state
    torch.testing.assert_close(before[:2], after[:2], atol=1e-5, rtol=0)
    assert (before[2] - after[2]).abs().max() > 0.05
    inputs = positions_of(model, histories, titles)
    inputs["history"][2, 0] = 11  # another vector for the third reading alone
    other = read(model, inputs).state
    torch.testing.assert_close(after[:2], other[:2], atol=1e-5, rtol=0)
    assert (after[2] - other[2]).abs().max() > 0.05


def test_positions_of_the_papers_layout_and_of_refusing_backbones_are_read_one_by_one(model_with_blocks):
    histories = [HISTORY[:2], HISTORY, HISTORY[:5]]
    for config in ({"soft_prompt_position": "before_text"}, {}):
        model = model_with_blocks(**config)
        if not config:
            model.spec = type(model.spec)(**(vars(model.spec) | {"every_position": "it takes no mask"}))
        inputs, shapes = positions_of(model, histories), passes(model)
        together = read(model, inputs).state
        assert all(rows == 3 for rows, _ in shapes)
        torch.testing.assert_close(together, read(model, inputs, one_by_one=True), atol=1e-4, rtol=0)


def test_gradients_and_loss_of_every_position_equal_those_one_by_one(model_with_blocks):
    histories = [HISTORY[:2], HISTORY[:4], HISTORY[:6], (9,)]

    def gradients(shared):
        model = model_with_blocks(alignment_weight=0.5, objective="cross_entropy")
        model.score_head.set_gains(1.0, 1.0)
        processor = model.processor
        texts = processor.shared_texts(histories) if shared else None
        batch = processor.user_inputs(histories, 8, shared=texts) | processor.item_inputs((3, 5, 7, 2))
        model.train()
        output = model(**batch, targets=torch.tensor([0, 1, 2, 3]))
        output.loss.backward()
        return output.loss.item(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    (one_loss, one), (loss, together) = gradients(False), gradients(True)
    assert loss == pytest.approx(one_loss, abs=1e-5)
    assert one.keys() == together.keys()
    for name, gradient in one.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(together[name], gradient, atol=1e-4 * scale + 1e-9, rtol=1e-3)


@pytest.mark.parametrize(
    ("rows", "ends", "message"),
    [([0, 2], [3, 3], "one of the 2"), ([0, 1], [3, 99], "ends after 99"), ([0, 1], [0, 3], "ends after 0"),
     ([0], [3], r"expected `rows` and `ends` of shape \(2,\)")],
)  # fmt: skip
def test_positions_out_of_range_are_named(model_with_blocks, rows, ends, message):
    model = model_with_blocks()
    inputs = positions_of(model, [(1, 2), (8, 9)])
    inputs |= {"user_text_rows": torch.tensor(rows), "user_text_ends": torch.tensor(ends)}
    with pytest.raises(ValueError, match=message):
        read(model, inputs)
