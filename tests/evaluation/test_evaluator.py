from __future__ import annotations

import numpy as np
import pytest

from rarec_hf.evaluation import Ranks, paired_difference, rank_targets

N_ITEMS = 30


class Histories:
    """Rows that exist only when asked for, with nothing but a length and an index."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        if not 0 <= row < self.n:
            raise IndexError(row)
        return np.random.default_rng(row).choice(N_ITEMS - 5, size=row % 4, replace=False)


class Scorer:
    """A score that depends on the history alone; remembers the size of every batch it was given."""

    def __init__(self):
        self.batches = []

    def __call__(self, histories):
        self.batches.append(len(histories))
        weight = np.arange(1, N_ITEMS + 1)
        return np.stack([np.sin(weight * (1 + history.sum())).round(1) for history in histories])


@pytest.fixture
def targets():
    return 25 + np.arange(23) % 5


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_batch_size_changes_nothing_and_bounds_the_batch(batch_size, targets):
    expected = rank_targets(Scorer(), [Histories(23)[row] for row in range(23)], targets, N_ITEMS, progress=False)
    scorer = Scorer()
    ranks = rank_targets(scorer, Histories(23), targets, N_ITEMS, batch_size=batch_size, progress=False)
    assert sum(scorer.batches) == 23 and max(scorer.batches) <= batch_size
    for name in ("greater", "ties", "candidates"):
        assert getattr(ranks, name).tolist() == getattr(expected, name).tolist()
    assert ranks.candidates.tolist() == [N_ITEMS - row % 4 for row in range(23)]


def test_seen_items_stay_when_asked(targets):
    ranks = rank_targets(Scorer(), Histories(23), targets, N_ITEMS, exclude_seen=False, progress=False)
    assert set(ranks.candidates) == {N_ITEMS}


def test_ranks_by_hand():
    def scorer(histories):
        return np.array([[4.0, 3.0, 2.0, 1.0]] * len(histories))

    histories = [np.array([0]), np.array([], dtype=int), np.array([1, 0, 1])]
    ranks = rank_targets(scorer, histories, [2, 2, 3], 4, batch_size=2, progress=False)
    assert ranks.greater.tolist() == [1, 2, 1]
    assert ranks.candidates.tolist() == [3, 4, 2]


def refused(scorer, histories, targets, message, **options):
    with pytest.raises(ValueError, match=message):
        rank_targets(scorer, histories, targets, 4, progress=False, batch_size=2, **options)


def test_bad_rows_are_refused_before_anything_is_scored():
    def scorer(histories):
        raise AssertionError("scored before all rows were checked")

    good = np.array([0])
    refused(scorer, [], [], "at least one history")
    refused(scorer, [good, good], [1], "one target for each")
    refused(scorer, [good, good, np.array([1, 2])], [1, 1, 2], "Row 2 .*its own history.*exclude_seen=False")
    refused(scorer, [good, good, np.array([7])], [1, 1, 2], "Row 2: item index 7")
    refused(scorer, [good, good, good], [1, 1, 4], "Row 2: item index 4")
    refused(scorer, [good, good, np.array(["x"])], [1, 1, 2], "Row 2: expected a 1-D array of integer")


def test_bad_scores_are_refused_with_the_row_of_the_whole_table():
    histories = [np.array([0])] * 3
    refused(lambda h: np.zeros((len(h), 3)), histories, [1, 1, 2], r"expected \(2, 4\), got \(2, 3\)")
    refused(lambda h: np.zeros((3, 4)), histories, [1, 1, 2], "shape")

    def broken(batch):
        return np.full((len(batch), 4), np.nan if len(batch) == 1 else 0.0)

    refused(broken, histories, [1, 1, 2], "Row 2 .*NaN")


def ranks_of(places, candidates=10):
    greater = np.asarray(places) - 1
    return Ranks(greater, np.zeros_like(greater), np.full(len(greater), candidates))


def test_paired_interval_by_hand():
    # hit_rate@1 of a: 1 1 1 0, of b: 0 1 0 0; differences 1 0 1 0: mean 1/2, standard deviation sqrt(1/3)
    result = paired_difference(ranks_of([1, 1, 1, 2]), ranks_of([2, 1, 3, 4]), "hit_rate@1", method="normal")
    half = 1.959963984540054 * np.sqrt(1 / 3) / np.sqrt(4)
    assert result.mean == 0.5
    assert (result.low, result.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert result.relative == 0.5 / 0.25


def test_bootstrap_agrees_with_plain_resampling_and_with_the_normal_interval():
    rng = np.random.default_rng(3)
    a, b = rng.integers(1, 9, 400), rng.integers(1, 11, 400)
    result = paired_difference(ranks_of(a), ranks_of(b), "ndcg@5", n_resamples=4000)
    gain = np.where(np.arange(12) <= 5, 1 / np.log2(np.arange(12) + 1, where=np.arange(12) > 0, out=np.ones(12)), 0)
    differences = gain[a] - gain[b]
    plain = differences[rng.integers(0, 400, (4000, 400))].mean(axis=1)
    assert result.mean == pytest.approx(differences.mean())
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.004)
    normal = paired_difference(ranks_of(a), ranks_of(b), "ndcg@5", method="normal")
    assert (result.low, result.high) == pytest.approx((normal.low, normal.high), abs=0.004)
    assert result == paired_difference(ranks_of(a), ranks_of(b), "ndcg@5", n_resamples=4000)
    narrow = paired_difference(ranks_of(a), ranks_of(b), "ndcg@5", confidence=0.5)
    assert result.low < narrow.low < result.mean < narrow.high < result.high


def test_no_difference_and_no_base():
    same = paired_difference(ranks_of([1, 5, 9]), ranks_of([1, 5, 9]))
    assert (same.mean, same.low, same.high, same.relative) == (0, 0, 0, 0)
    assert np.isnan(paired_difference(ranks_of([1, 9]), ranks_of([9, 9]), "hit_rate@1").relative)


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        (ranks_of([1, 2]), {}, "3 and 2 rows"),
        (ranks_of([1, 2, 3], candidates=9), {}, "Row 0 was ranked among 10 candidates in one and 9"),
        (ranks_of([1, 2, 3]), {"confidence": 95}, "confidence"),
        (ranks_of([1, 2, 3]), {"method": "t"}, "Unknown method 't'"),
        (ranks_of([1, 2, 3]), {"metric": "ndcg"}, "Unknown metric"),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused(other, options, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(ranks_of([1, 2, 3]), other, **options)
