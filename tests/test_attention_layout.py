from __future__ import annotations

import pytest
import torch

from rarec_hf.attention_layout import Columns
from rarec_hf.backbone_pass import run_backbone
from rarec_hf.backbone_probe import base_model_of, measure_backbone
from rarec_hf.segments import Segment

KINDS = ["llama", "qwen3", "gemma3", "mistral", "llama4", "gpt2"]
EACH_BACKBONE = pytest.mark.parametrize(
    ("kind", "attention"), [(kind, attention) for kind in KINDS for attention in ("eager", "sdpa")]
)


@pytest.fixture
def measured(make_backbone):
    """`measured(kind, attention, **config)` -> base model and spec."""

    def make(kind, attention="sdpa", **overrides):
        model = make_backbone(kind, attention, **overrides)
        return base_model_of(model), measure_backbone(model)

    return make


@pytest.fixture(autouse=True)
def no_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def some_text(length, batch=1):
    ids = torch.randint(0, 256, (batch, length))
    return ids, torch.ones_like(ids)


def keys_and_values(spec, length, batch=1, scale=1.0):
    """Random keys and values as a soft prompt gives them."""
    return {
        i: (
            scale * torch.randn(batch, s.heads, length, s.key_dim),
            scale * torch.randn(batch, s.heads, length, s.value_dim),
        )
        for i, s in spec.shapes.items()
    }


def soft_prompt(spec, length, start, batch=1, group=0):
    columns = Columns.soft_prompts(batch, length, start, torch.device("cpu"), group)
    return Segment(columns, keys_and_values(spec, length, batch))


def close(a, b, tolerance=1e-4):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


# the four layouts against the bare backbone --------------------------------------------------------------------------


@EACH_BACKBONE
def test_kept_text_then_text_equals_one_pass_of_the_bare_backbone(measured, kind, attention):
    base, spec = measured(kind, attention)
    ids, mask = some_text(14)  # gemma3, mistral, llama4: windows of 4
    bare = base(input_ids=ids).last_hidden_state
    head, kept = run_backbone(base, spec, ids[:, :6], Columns.text(mask[:, :6]), keep=True)
    rest = Columns.text(mask[:, 6:], start=6, order_start=6)
    tail, _ = run_backbone(base, spec, ids[:, 6:], rest, past=[kept])
    close(torch.cat([head, tail], 1), bare)
    dropped, _ = run_backbone(base, spec, ids[:, 6:], rest)
    assert (dropped - bare[:, 6:]).abs().amax(-1)[
        :, :3
    ].min() > 0.1  # what the comparison would show without the cache


@EACH_BACKBONE
def test_text_appended_in_several_pieces_equals_one_pass(measured, kind, attention):
    base, spec = measured(kind, attention)
    ids, mask = some_text(13)
    past, states = [], []
    for start, stop in ((0, 5), (5, 6), (6, 13)):
        columns = Columns.text(mask[:, start:stop], start=start, order_start=start)
        hidden, kept = run_backbone(base, spec, ids[:, start:stop], columns, past, keep=True)
        past, states = [*past, kept], [*states, hidden]
    close(torch.cat(states, 1), base(input_ids=ids).last_hidden_state)


@EACH_BACKBONE
def test_before_text_soft_prompts_are_what_a_cache_of_text_would_be(measured, kind, attention):
    """A kept text handed over as soft prompts reads as text, but for windows: they hide text and no soft prompt."""
    base, spec = measured(kind, attention)
    ids, mask = some_text(12)
    _, kept = run_backbone(base, spec, ids[:, :3], Columns.text(mask[:, :3]), keep=True)
    kept.columns = Columns.soft_prompts(1, 3, 0, ids.device)
    tail, _ = run_backbone(base, spec, ids[:, 3:], Columns.text(mask[:, 3:], start=3), past=[kept])
    bare = base(input_ids=ids).last_hidden_state[:, 3:]
    if spec.windows:
        assert (tail - bare).abs().amax(-1)[:, 3:].min() > 0.05
    else:
        close(tail, bare)


@EACH_BACKBONE
def test_every_position_in_one_pass_equals_one_by_one_and_does_not_leak(measured, kind, attention):
    base, spec = measured(kind, attention)
    ids, mask = some_text(12)
    readout, positions = some_text(2)[0], (3, 7, 12)

    def readouts(of_ids, groups):
        _, kept = run_backbone(base, spec, of_ids, Columns.text(mask), keep=True)
        prompts = [Segment(Columns.soft_prompts(1, 2, p, ids.device, g), layers[g]) for g, p in groups]
        columns = [Columns.readouts(torch.ones_like(readout), p + 2, p, g) for g, p in groups]
        tokens = readout.repeat(1, len(groups))
        hidden, _ = run_backbone(base, spec, tokens, Columns.cat(columns), past=[kept, *prompts])
        return hidden.unflatten(1, (len(groups), 2))

    layers = {group: keys_and_values(spec, 2) for group in (1, 2, 3)}
    groups = list(enumerate(positions, start=1))
    together = readouts(ids, groups)
    for n, (group, position) in enumerate(groups):
        close(together[:, n], readouts(ids, [(group, position)])[:, 0])
        # and each equals what the plain layout gives of the text cut at its position
        _, kept = run_backbone(base, spec, ids[:, :position], Columns.text(mask[:, :position]), keep=True)
        own = Segment(Columns.soft_prompts(1, 2, position, ids.device), layers[group])
        columns = Columns.readouts(torch.ones_like(readout), position + 2, position)
        alone, _ = run_backbone(base, spec, readout, columns, past=[kept, own])
        close(together[:, n], alone)
    changed = ids.clone()
    changed[:, 7:] = (changed[:, 7:] + 100) % 256
    after = readouts(changed, groups)
    close(after[:, :2], together[:, :2])
    assert (after[:, 2] - together[:, 2]).abs().max() > 0.1


def test_a_readout_of_the_shared_group_reads_no_further_than_it_should(measured):
    base, spec = measured("llama")
    ids, mask = some_text(8)
    readout = torch.tensor([[5]])
    states = []
    for tokens in (ids, torch.cat([ids[:, :5], ids[:, 5:].flip(1)], 1)):
        _, kept = run_backbone(base, spec, tokens, Columns.text(mask), keep=True)
        columns = Columns.readouts(torch.ones_like(readout), 5, 5, reads_until=torch.tensor([5]))
        states.append(run_backbone(base, spec, readout, columns, past=[kept])[0])
    close(*states)
    close(states[0], base(input_ids=torch.cat([ids[:, :5], readout], 1)).last_hidden_state[:, -1:])


# padding -------------------------------------------------------------------------------------------------------------


@EACH_BACKBONE
def test_padding_on_either_side_or_in_the_middle_changes_nothing(measured, kind, attention):
    base, spec = measured(kind, attention)
    rows, readout = [some_text(n)[0] for n in (9, 4, 6)], some_text(2)[0]
    prompts = keys_and_values(spec, 2, batch=3)
    lengths = torch.tensor([9, 4, 6])

    def run(ids, mask, chosen, after):
        of = torch.tensor(chosen)
        own = {i: (k[of], v[of]) for i, (k, v) in prompts.items()}
        ones = torch.ones(len(of), 2, dtype=torch.long)
        if after:
            _, kept = run_backbone(base, spec, ids, Columns.text(mask), keep=True)
            soft = Segment(Columns.soft_prompts(len(of), 2, lengths[of], ids.device), own)
            columns = Columns.readouts(ones, lengths[of] + 2, lengths[of])
            return run_backbone(base, spec, readout.expand(len(of), -1), columns, past=[kept, soft])[0]
        columns = Columns.cat([Columns.text(mask, start=2), Columns.readouts(ones, lengths[of] + 2, lengths[of])])
        soft = Segment(Columns.soft_prompts(len(of), 2, 0, ids.device), own)
        tokens = torch.cat([ids, readout.expand(len(of), -1)], 1)
        return run_backbone(base, spec, tokens, columns, past=[soft])[0][:, -2:]

    for after in (False, True):
        alone = torch.cat([run(row, torch.ones_like(row), [n], after) for n, row in enumerate(rows)])
        for side in ("left", "right"):
            ids, mask = torch.full((3, 11), 7), torch.zeros(3, 11, dtype=torch.long)
            for n, row in enumerate(rows):
                where = slice(0, row.shape[1]) if side == "right" else slice(11 - row.shape[1], 11)
                ids[n, where], mask[n, where] = row, 1
            close(run(ids, mask, [0, 1, 2], after), alone)


# what sees a soft prompt ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["gemma3", "mistral"])
def test_every_text_token_sees_the_soft_prompt_directly_under_a_window(measured, kind, attention):
    layers = {"layer_types": ["sliding_attention"]} if kind == "gemma3" else {}
    base, spec = measured(kind, attention, num_hidden_layers=1, **layers)  # one layer: no way around
    ids, mask = some_text(12)
    columns = Columns.text(mask, start=2)
    soft = soft_prompt(spec, 2, 0)
    with_prompt, _ = run_backbone(base, spec, ids, columns, past=[soft])
    soft.layers = {i: (k, v + 1) for i, (k, v) in soft.layers.items()}
    changed, _ = run_backbone(base, spec, ids, columns, past=[soft])
    assert (changed - with_prompt).abs().amax(-1).min() > 1e-3
    # while text is still hidden by the window
    soft.columns = Columns.text(mask[:, :2])
    rest = Columns.text(mask, start=2, order_start=2)
    as_text, _ = run_backbone(base, spec, ids, rest, past=[soft])
    soft.layers = {i: (k, v + 1) for i, (k, v) in soft.layers.items()}
    still, _ = run_backbone(base, spec, ids, rest, past=[soft])
    close(as_text[:, 3:], still[:, 3:])
    assert (as_text[:, :3] - still[:, :3]).abs().amax(-1).min() > 1e-3


def test_soft_prompts_take_up_positions_but_no_room_in_the_window(measured):
    """Three soft prompts between text and text: the window still reaches four tokens of text back."""
    base, spec = measured("mistral", num_hidden_layers=1)
    ids, mask = some_text(6)
    _, kept = run_backbone(base, spec, ids[:, :5], Columns.text(mask[:, :5]), keep=True)
    soft, columns = soft_prompt(spec, 3, 5), Columns.readouts(mask[:, 5:], 8, 5)
    before, _ = run_backbone(base, spec, ids[:, 5:], columns, past=[kept, soft])
    seen = []
    for token in range(5):
        bump = torch.zeros(1, 1, 5, 1)
        bump[:, :, token] = 1
        other = Segment(kept.columns, {i: (k, v + bump) for i, (k, v) in kept.layers.items()})
        after, _ = run_backbone(base, spec, ids[:, 5:], columns, past=[other, soft])
        seen.append(not torch.equal(before, after))
    assert seen == [False, False, True, True, True]


# cache layers and refusals -------------------------------------------------------------------------------------------


def test_a_cache_can_be_read_twice(measured):
    base, spec = measured("llama")
    ids, mask = some_text(8)
    _, kept = run_backbone(base, spec, ids[:, :4], Columns.text(mask[:, :4]), keep=True)
    rest = Columns.text(mask[:, 4:], 4, 4)
    first, _ = run_backbone(base, spec, ids[:, 4:], rest, past=[kept])
    second, _ = run_backbone(base, spec, ids[:, 4:], rest, past=[kept])
    assert torch.equal(first, second)
    assert kept.layers[0][0].shape[2] == 4


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_more_positions_than_the_backbone_carries(measured, kind):
    name = "n_positions" if kind == "gpt2" else "max_position_embeddings"
    base, spec = measured(kind, **{name: 12})
    assert spec.max_positions == 12
    ids, mask = some_text(11)
    run_backbone(base, spec, ids[:, :10], Columns.text(mask[:, :10], start=2), past=[soft_prompt(spec, 2, 0)])
    with pytest.raises(ValueError, match="13 positions.*exceed the 12"):
        run_backbone(base, spec, ids, Columns.text(mask, start=2), past=[soft_prompt(spec, 2, 0)])


def test_a_segment_of_too_few_layers_and_columns_of_another_width(measured):
    base, spec = measured("llama")
    ids, mask = some_text(4)
    short = soft_prompt(spec, 2, 0)
    del short.layers[2]
    with pytest.raises(ValueError, match="holds 2 cache layers with keys and values, the backbone has 3"):
        run_backbone(base, spec, ids, Columns.text(mask, start=2), past=[short])
    with pytest.raises(ValueError, match=r"columns of shape \(1, 4\).*got \(1, 3\)"):
        run_backbone(base, spec, ids, Columns.text(mask[:, :3]))
