"""Batches of alignment samples: distinct targets, honest negatives, the chance of an item to be drawn."""

import numpy as np
import pytest
import torch

from rarec_hf.token_texts import SharedTexts
from rarec_hf.training.samples import AlignmentCollator, AlignmentDataset, text_grouped_orders


@pytest.fixture
def data(split):
    return AlignmentDataset(split.interactions, split.alignment_samples())


def test_rows_are_what_the_split_allows(data, split):
    for row in range(len(data)):
        user, end = data.samples.users[row], data.samples.ends[row]
        history = split.interactions.history(user)
        assert user in split.alignment_users
        assert end < split.train_ends[user]
        np.testing.assert_array_equal(data[row]["history"], history[:end])
        assert data[row]["target"] == history[end]


def test_log_q_is_the_share_among_targets(data):
    shares = np.exp(data.log_q)
    assert shares.sum() == pytest.approx(1.0, abs=1e-5)
    item = data.samples.targets[0]
    assert shares[item] == pytest.approx((data.samples.targets == item).mean())


def test_items_are_the_texts_that_training_needs(data):
    expected = {int(i) for row in range(len(data)) for i in [*data[row]["history"][-2:], data[row]["target"]]}
    assert set(data.items(2).tolist()) == expected
    assert set(data.items(0).tolist()) == set(data.samples.targets.tolist())


def test_a_batch_holds_each_target_once_and_no_false_negative(make_processor):
    samples = [
        {"history": np.array([1, 2]), "target": 5},
        {"history": np.array([5, 3]), "target": 7},
        {"history": np.array([9]), "target": 5},
    ]
    log_q = np.arange(12, dtype=np.float32)
    batch = AlignmentCollator(make_processor(), 8, log_q)(samples)
    assert batch["items"].tolist() == [5, 7]
    assert batch["targets"].tolist() == [0, 1, 0]
    # neither the target nor an item of the whole history is a negative
    assert batch["negatives"].tolist() == [[False, True], [False, False], [False, True]]
    assert batch["item_log_q"].tolist() == [5.0, 7.0]
    assert batch["history"].tolist() == [[1, 2], [5, 3], [9, -1]]


def test_a_batch_holds_each_text_once(split, make_processor):
    processor = make_processor([f"w{n}" for n in range(30)], max_history_items=6, history_block=3)
    data = AlignmentDataset(split.interactions, split.alignment_samples(), processor)
    collate = AlignmentCollator(processor, 8, texts=data.texts)
    rows = list(range(0, len(data), 2))
    batch = collate([data[row] for row in rows])
    assert len(batch["user_text_ids"]) == len({data.texts.rows[row] for row in rows}) < len(rows)
    for n, row in enumerate(rows):
        text = batch["user_text_ids"][batch["user_text_rows"][n], : batch["user_text_ends"][n]].tolist()
        assert text == processor.user_text(data[row]["history"]).ids


def test_samples_of_a_text_stand_together_and_lengths_are_alike():
    rng = np.random.default_rng(0)
    texts = [[0] * int(length) for length in rng.integers(1, 100, 400)]
    rows = np.repeat(np.arange(400), rng.integers(1, 4, 400)).tolist()
    shared = SharedTexts(texts, rows, [len(texts[row]) for row in rows])
    sampler = text_grouped_orders(shared, batch_size=8, seed=0)
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(len(rows))) and first != second and len(sampler) == len(rows)
    assert first == list(text_grouped_orders(shared, batch_size=8, seed=0))
    batches = [first[start : start + 8] for start in range(0, len(first), 8)]
    padded = sum(len(batch) * max(shared.ends[row] for row in batch) for batch in batches)
    assert padded < 1.15 * sum(shared.ends)
    apart = sum(
        len({n for n, batch in enumerate(batches) if any(rows[r] == text for r in batch)}) for text in range(400)
    )
    assert apart < 1.3 * 400  # a text that ends one batch and begins the next


def test_the_later_targets_of_a_user_are_no_negatives_of_the_earlier(make_processor):
    samples = [
        {"history": np.array([1]), "target": 2, "user": 4},
        {"history": np.array([1, 2]), "target": 3, "user": 4},
        {"history": np.array([9]), "target": 3, "user": 7},
        {"history": np.array([8]), "target": 5, "user": 8},
    ]
    negatives = AlignmentCollator(make_processor(), 8)(samples)["negatives"]  # of items 2, 3, 5
    assert negatives.tolist() == [[False, False, True], [False, False, True], [True, False, True], [True, True, False]]


def test_the_whole_catalogue_as_candidates(make_processor):
    samples = [{"history": np.array([1, 2]), "target": 5}, {"history": np.array([3]), "target": 7}]
    batch = AlignmentCollator(make_processor(), 8, np.zeros(12, dtype=np.float32), n_negatives=-1)(samples)
    assert batch["items"].tolist() == list(range(12)) and "item_log_q" not in batch
    assert batch["targets"].tolist() == [5, 7]
    assert (~batch["negatives"]).nonzero().tolist() == [[0, 1], [0, 2], [0, 5], [1, 3], [1, 7]]


def test_further_negatives_are_drawn_evenly_and_corrected_for(make_processor):
    samples = [{"history": np.array([1, 2]), "target": 5}, {"history": np.array([3]), "target": 7}]
    shares = np.full(12, 1e-9, dtype=np.float32)
    shares[[5, 7]] = 0.5
    collate = AlignmentCollator(make_processor(), 8, np.log(shares), n_negatives=4)
    seen = np.zeros(12)
    for number in range(300):
        batch = collate([{**sample, "user": 2 * number + row} for row, sample in enumerate(samples)])
        items = batch["items"]
        assert items[batch["targets"]].tolist() == [5, 7] and len(items) == len(set(items.tolist()))
        seen[items] += 1
        for row, sample in enumerate(samples):
            out = {int(i) for i, negative in zip(items, batch["negatives"][row], strict=True) if not negative}
            assert out == {int(i) for i in items if i in (*sample["history"], sample["target"])}
    others = np.delete(np.arange(12), [5, 7])
    assert seen[[5, 7]].tolist() == [300, 300]
    np.testing.assert_allclose(seen[others] / 300, 1 - (11 / 12) ** 4, atol=0.09)
    with torch.random.fork_rng():  # the same batch draws the same, whatever else was drawn
        torch.rand(3)
        again = collate([{**sample, "user": 2 * number + row} for row, sample in enumerate(samples)])
    assert torch.equal(again["items"], items)
    at = {int(i): float(q) for i, q in zip(items, batch["item_log_q"], strict=True)}
    assert at[5] == pytest.approx(np.log(0.5 + 4 / 12 / 2), abs=1e-5)
    assert all(q == pytest.approx(np.log(4 / 12 / 2), abs=1e-5) for i, q in at.items() if i not in (5, 7))
