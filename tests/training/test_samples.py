"""Batches of alignment samples: distinct targets, honest negatives, the chance of an item to be drawn."""

import numpy as np
import pytest

from rarec_hf.training.samples import AlignmentCollator, AlignmentDataset


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
