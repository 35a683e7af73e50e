"""The mask rule, positions and cache layers by hand, without a backbone."""

from __future__ import annotations

import torch

from rarec_hf.attention_layout import READOUT, SOFT_PROMPT, TEXT, Columns, Window, visibility
from rarec_hf.backbone_cache import ReadOnlyLayer


def test_mask_rule_on_hand_made_columns():
    device = torch.device("cpu")
    one = torch.ones(1, 1, dtype=torch.long)
    keys = Columns.cat(
        [
            Columns.text(torch.tensor([[0, 1, 1, 1]])),
            Columns.soft_prompts(1, 1, 3, device, group=1),
            Columns.soft_prompts(1, 1, 3, device, group=2),
            Columns.soft_prompts(1, 1, 3, device),
            Columns.readouts(one, 4, 2, group=1),
            Columns.readouts(one, 5, 3, group=2),
        ]
    )
    assert keys.kind.tolist() == [[TEXT] * 4 + [SOFT_PROMPT] * 3 + [READOUT] * 2]
    assert keys.order.tolist() == [[0, 0, 1, 2, 0, 0, 0, 2, 3]]
    assert len(keys) == 9
    query = Columns.cat(
        [
            Columns.text(torch.tensor([[0, 1, 1]])),
            Columns.readouts(one, 4, 2, group=1),
            Columns.readouts(one, 5, 3, group=2),
        ]
    )
    expected = [
        [0, 1, 1, 1, 1, 1, 1, 1, 1],  # padding: every real key
        [0, 1, 0, 0, 0, 0, 1, 0, 0],  # text 0: itself and the shared soft prompt
        [0, 1, 1, 0, 0, 0, 1, 0, 0],  # text 1
        [0, 1, 1, 0, 1, 0, 1, 1, 0],  # readout of group 1: two tokens of text, its own soft prompt and itself
        [0, 1, 1, 1, 0, 1, 1, 0, 1],  # readout of group 2: three
    ]
    assert visibility(query, keys).int().tolist() == [expected]
    sliding = visibility(query, keys, Window("sliding", 2)).int()
    assert sliding[0, 3].tolist() == [0, 0, 1, 0, 1, 0, 1, 1, 0]  # order 2 reaches back to 1; soft prompts stay
    assert sliding[0, 4].tolist() == [0, 0, 0, 1, 0, 1, 1, 0, 1]
    chunked = visibility(query, keys, Window("chunked", 2)).int()
    assert chunked[0, 3].tolist() == [0, 0, 0, 0, 1, 0, 1, 1, 0]  # order 2 begins a block
    assert chunked[0, 4].tolist() == [0, 0, 0, 1, 0, 1, 1, 0, 1]


def test_positions_of_padded_text_and_what_follows():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]])
    text = Columns.text(mask, start=2)
    assert text.position.tolist() == [[2, 2, 2, 3, 4], [2, 3, 3, 3, 3]]
    assert text.order.tolist() == [[0, 0, 0, 1, 2], [0, 1, 1, 1, 1]]
    readouts = Columns.readouts(torch.ones(2, 2), torch.tensor([5, 4]), torch.tensor([3, 2]))
    assert readouts.position.tolist() == [[5, 6], [4, 5]]
    assert readouts.order.tolist() == [[3, 4], [2, 3]]
    assert readouts.reads_until.tolist() == [[3, 3], [2, 2]]


def test_read_only_layer_stores_nothing_and_casts_at_the_boundary():
    past = (torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    layer = ReadOnlyLayer([past])
    new = torch.full((1, 2, 2, 4), 0.5, dtype=torch.bfloat16)
    for _ in range(2):
        keys, values = layer.update(new, new)
        assert keys.shape == values.shape == (1, 2, 5, 4)
        assert keys.dtype == values.dtype == torch.bfloat16
        assert layer.get_seq_length() == 3
        assert layer.new is None
