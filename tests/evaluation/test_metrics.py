from __future__ import annotations

from math import log2

import numpy as np
import pytest
import torch

from rarec_hf.evaluation.metrics import metric_per_user, metrics_per_user, summarize
from rarec_hf.evaluation.ranks import Ranks, ranks_from_scores

# Five items. Row 0: target third. Row 1: target first. Row 2: target ties with two others for places 2 to 4.
# Row 3: target alone at the bottom.
SCORES = np.array(
    [
        [0.9, 0.8, 0.7, 0.1, 0.0],
        [5.0, 1.0, 2.0, 3.0, 4.0],
        [1.0, 0.5, 0.5, 0.5, 0.1],
        [4.0, 3.0, 2.0, 1.0, -7.0],
    ]
)
TARGETS = np.array([2, 0, 3, 4])
NOTHING = [np.array([], dtype=np.int64)] * 4


def rank(scores=SCORES, targets=TARGETS, excluded=NOTHING):
    return ranks_from_scores(scores, targets, excluded)


def random_case(seed, n=40, n_items=60):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(n_items, dtype=np.float32), (n, 1)), axis=1)  # no ties
    return scores, rng.integers(0, n_items, n)


def test_ranks_by_hand():
    ranks = rank()
    assert ranks.greater.tolist() == [2, 0, 1, 4]
    assert ranks.ties.tolist() == [0, 0, 2, 0]
    assert ranks.candidates.tolist() == [5, 5, 5, 5]
    assert ranks.mid_rank.tolist() == [3, 1, 3, 5]
    assert len(ranks) == 4


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("hit_rate@1", [0, 1, 0, 0]),
        ("hit_rate@2", [0, 1, 1 / 3, 0]),
        ("hit_rate@3", [1, 1, 2 / 3, 0]),
        ("hit_rate@4", [1, 1, 1, 0]),
        ("hit_rate@5", [1, 1, 1, 1]),
        ("hit_rate@900", [1, 1, 1, 1]),
        ("ndcg@1", [0, 1, 0, 0]),
        ("ndcg@2", [0, 1, 1 / 3 * (1 / log2(3)), 0]),
        ("ndcg@3", [1 / 2, 1, 1 / 3 * (1 / log2(3) + 1 / 2), 0]),
        ("ndcg@5", [1 / 2, 1, 1 / 3 * (1 / log2(3) + 1 / 2 + 1 / log2(5)), 1 / log2(6)]),
        ("ndcg@900", [1 / 2, 1, 1 / 3 * (1 / log2(3) + 1 / 2 + 1 / log2(5)), 1 / log2(6)]),
        ("mrr", [1 / 3, 1, 1 / 3 * (1 / 2 + 1 / 3 + 1 / 4), 1 / 5]),
        ("mrr@3", [1 / 3, 1, 1 / 3 * (1 / 2 + 1 / 3), 0]),
        ("mrr@900", [1 / 3, 1, 1 / 3 * (1 / 2 + 1 / 3 + 1 / 4), 1 / 5]),
    ],
)
def test_metrics_by_hand(metric, expected):
    assert metric_per_user(rank(), metric) == pytest.approx(np.array(expected, dtype=float), abs=1e-12)


def test_summary_is_the_mean_of_every_metric():
    summary = summarize(rank(), ks=(3, 5))
    assert list(summary) == ["hit_rate@3", "hit_rate@5", "ndcg@3", "ndcg@5", "mrr", "mean_rank"]
    assert summary["hit_rate@3"] == pytest.approx((1 + 1 + 2 / 3 + 0) / 4)
    assert summary["ndcg@3"] == pytest.approx((1 / 2 + 1 + 1 / 3 * (1 / log2(3) + 1 / 2)) / 4)
    assert summary["mean_rank"] == (3 + 1 + 3 + 5) / 4
    assert all(type(value) is float for value in summary.values())


@pytest.mark.parametrize("seen", [0, 1, 7])
def test_constant_scorer_hits_k_of_the_candidates(seen):
    n_items = 50
    ranks = ranks_from_scores(np.zeros((3, n_items)), np.array([49, 48, 20]), [np.arange(seen)] * 3)
    for k in (1, 5, 10, 20):
        assert metric_per_user(ranks, f"hit_rate@{k}").tolist() == [k / (n_items - seen)] * 3
    assert ranks.mid_rank.tolist() == [(n_items - seen + 1) / 2] * 3


def test_expectation_equals_the_average_over_every_place_of_a_tie():
    tied = Ranks(np.array([3]), np.array([4]), np.array([30]))
    places = Ranks(np.arange(3, 8), np.zeros(5, dtype=int), np.full(5, 30))
    for name, value in metrics_per_user(tied, ks=(1, 4, 5, 6, 20)).items():
        assert value[0] == pytest.approx(metric_per_user(places, name).mean(), abs=1e-12), name


def test_excluded_items_leave_the_ranking_and_repeats_count_once():
    excluded = [np.array([0, 0, 1]), NOTHING[0], np.array([1]), np.array([3])]
    ranks = rank(excluded=excluded)
    assert ranks.greater.tolist() == [0, 0, 1, 3]
    assert ranks.ties.tolist() == [0, 0, 1, 0]
    assert ranks.candidates.tolist() == [3, 5, 4, 4]


def test_minus_infinity_means_never_and_nan_of_an_excluded_item_is_not_looked_at():
    scores = SCORES.copy()
    scores[0, 0], scores[0, 1] = -np.inf, np.nan
    assert rank(scores, excluded=[np.array([1]), *NOTHING[1:]]).greater[0] == 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64", "uint8", "bfloat16"])
@pytest.mark.parametrize("chunk", [1, 130, 1 << 19])
def test_every_dtype_and_chunk_counts_exactly(dtype, chunk, monkeypatch):
    monkeypatch.setattr("rarec_hf.evaluation.counting.CHUNK", chunk)
    rng = np.random.default_rng(1)
    scores = torch.from_numpy(rng.integers(0, 9, (20, 60))).to(getattr(torch, dtype))
    targets = rng.integers(0, 60, 20)
    excluded = [np.setdiff1d(rng.integers(0, 60, 9), target) for target in targets]
    given = scores if dtype == "bfloat16" else scores.numpy()
    ranks = ranks_from_scores(given, targets, excluded)
    for row, (target, out) in enumerate(zip(targets, excluded, strict=True)):
        kept = np.delete(scores[row].double().numpy(), out)
        own = scores[row, target].item()
        assert ranks.greater[row] == (kept > own).sum() and ranks.ties[row] == (kept == own).sum() - 1
        assert ranks.candidates[row] == 60 - len(out)


def test_infinite_candidates_are_no_nan():
    scores = SCORES.copy()
    scores[0, 0], scores[1, 1] = np.inf, -np.inf
    assert rank(scores).greater.tolist() == [2, 0, 1, 4]


def test_read_only_and_strided_scores_are_taken():
    assert rank(np.broadcast_to(SCORES[0], (4, 5))).greater.tolist() == [2, 0, 3, 4]
    assert rank(np.asfortranarray(SCORES)).greater.tolist() == [2, 0, 1, 4]


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_ranx(seed):
    ranx = pytest.importorskip("ranx")
    scores, targets = random_case(seed)
    excluded = [np.setdiff1d([1, 5, 9], target) for target in targets]
    ranks = ranks_from_scores(scores, targets, excluded)
    qrels = ranx.Qrels({f"u{row}": {f"i{target}": 1} for row, target in enumerate(targets)})
    run = ranx.Run(
        {
            f"u{row}": {f"i{item}": float(s) for item, s in enumerate(line) if item not in excluded[row]}
            for row, line in enumerate(scores)
        }
    )
    theirs = ranx.evaluate(qrels, run, ["hit_rate@5", "hit_rate@20", "ndcg@5", "ndcg@20", "mrr", "mrr@5"])
    ours = summarize(ranks, ks=(5, 20)) | {"mrr@5": metric_per_user(ranks, "mrr@5").mean()}
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": SCORES[0]}, "shape"),
        ({"scores": SCORES.astype(str)}, "dtype"),
        ({"targets": TARGETS[:3]}, r"expected shape \(4,\)"),
        ({"targets": TARGETS.astype(float)}, "integers"),
        ({"targets": np.array([2, 0, 3, 5])}, "Row 3: item index 5 is outside"),
        ({"targets": np.array([2, -1, 3, 4])}, "Row 1: item index -1 is outside"),
        ({"excluded": NOTHING[:2]}, "expected 4"),
        ({"excluded": [*NOTHING[:3], np.array([9])]}, "Row 3: item index 9 is outside"),
        ({"excluded": [*NOTHING[:3], np.array(["a"])]}, "Row 3: expected a 1-D array of integer"),
        ({"excluded": [NOTHING[0], np.array([3, 0]), *NOTHING[2:]]}, "Row 1 .*excluded"),
    ],
)
def test_wrong_input_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        rank(**change)


@pytest.mark.parametrize(
    ("item", "value", "message"),
    [(3, np.nan, "NaN"), (0, np.nan, "NaN"), (3, np.inf, "infinite"), (3, -np.inf, "infinite")],
)
def test_bad_scores_are_refused_with_their_row(item, value, message):
    scores = SCORES.copy()
    scores[2, item] = value
    with pytest.raises(ValueError, match=f"Row 2 .*{message}"):
        rank(scores)


@pytest.mark.parametrize("metric", ["ndcg", "hit_rate@0", "ndcg@-1", "ndcg@1.5", "recall@0", "mrr@0", "mrr@", ""])
def test_unknown_metric_is_refused(metric):
    with pytest.raises(ValueError, match="Unknown metric"):
        metric_per_user(rank(), metric)


def test_ranks_refuse_contradictions():
    with pytest.raises(ValueError, match="row 1"):
        Ranks(np.array([0, 3]), np.array([0, 2]), np.array([5, 5]))
    with pytest.raises(ValueError, match="one row per user"):
        Ranks(np.array([0]), np.array([0, 0]), np.array([5]))
    with pytest.raises(ValueError, match="integers"):
        Ranks(np.array([0.5]), np.array([0]), np.array([5]))
    with pytest.raises(ValueError, match="No user"):
        summarize(Ranks(*[np.array([], dtype=int)] * 3))
