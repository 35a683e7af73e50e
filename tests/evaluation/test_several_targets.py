"""Several targets of a user: metrics by hand and against every order of the ties, histories scored once."""

from __future__ import annotations

from itertools import permutations
from math import log2

import numpy as np
import pytest
import torch

from rarec_hf.evaluation import Ranks, metric_per_user, paired_difference, rank_targets, ranks_from_scores, summarize

# User 7: targets first, third and sixth of ten. User 3: one target, fourth.
RANKS = Ranks(np.array([0, 2, 5, 3]), np.zeros(4, int), np.full(4, 10), users=np.array([7, 7, 7, 3]))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("recall@1", [1 / 3, 0]),
        ("recall@3", [2 / 3, 0]),
        ("recall@6", [1, 1]),
        ("hit_rate@1", [1, 0]),
        ("hit_rate@4", [1, 1]),
        ("ndcg@1", [1, 0]),
        ("ndcg@2", [1 / (1 + 1 / log2(3)), 0]),
        ("ndcg@4", [(1 + 1 / 2) / (1 + 1 / log2(3) + 1 / 2), 1 / log2(5)]),
        ("ndcg@10", [(1 + 1 / 2 + 1 / log2(7)) / (1 + 1 / log2(3) + 1 / 2), 1 / log2(5)]),
        ("mrr", [1, 1 / 4]),
        ("mrr@3", [1, 0]),
    ],
)
def test_metrics_by_hand(metric, expected):
    assert metric_per_user(RANKS, metric) == pytest.approx(np.array(expected, dtype=float), abs=1e-12)


def test_users_weigh_alike_whatever_their_number_of_targets():
    summary = summarize(RANKS, ks=(3,))
    assert list(summary) == ["recall@3", "hit_rate@3", "ndcg@3", "mrr", "mean_rank"]
    assert summary["recall@3"] == pytest.approx((2 / 3 + 0) / 2)
    assert summary["mean_rank"] == pytest.approx(((1 + 3 + 6) / 3 + 4) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_ties_are_the_mean_over_every_order_of_equal_scores(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, 6).astype(float)  # many ties
    targets = rng.choice(6, size=3, replace=False)
    ranks = ranks_from_scores(scores[None], targets, [()] * 3, score_rows=np.zeros(3, int), users=np.array([4, 4, 4]))
    names = [f"{family}@{k}" for family in ("recall", "hit_rate", "ndcg") for k in (1, 2, 3, 5)] + ["mrr", "mrr@2"]
    sums = dict.fromkeys(names, 0.0)
    orders = [o for o in permutations(range(6)) if all(scores[o[i]] >= scores[o[i + 1]] for i in range(5))]
    for order in orders:
        places = np.array([order.index(target) for target in targets])
        exact = Ranks(places, np.zeros(3, int), np.full(3, 6), users=np.zeros(3, int))
        for name in names:
            sums[name] += metric_per_user(exact, name)[0] / len(orders)
    for name in names:
        assert metric_per_user(ranks, name)[0] == pytest.approx(sums[name], abs=1e-9), name


def test_constant_scorer_finds_k_of_the_candidates():
    ranks = ranks_from_scores(
        np.zeros((1, 50)), np.arange(4), [()] * 4, score_rows=np.zeros(4, int), users=np.zeros(4, int)
    )
    assert metric_per_user(ranks, "recall@10") == pytest.approx(10 / 50)
    # none of 4 among the first 10 of 50
    assert metric_per_user(ranks, "hit_rate@10") == pytest.approx(1 - 40 * 39 * 38 * 37 / (50 * 49 * 48 * 47))


def test_one_target_each_is_as_without_users():
    named = Ranks(RANKS.greater, RANKS.ties, RANKS.candidates, users=np.array([9, 2, 5, 0]))
    plain = Ranks(RANKS.greater, RANKS.ties, RANKS.candidates)
    assert summarize(named) == summarize(plain)
    assert metric_per_user(named, "mrr").tolist() == metric_per_user(plain, "mrr").tolist()
    assert metric_per_user(plain, "recall@3").tolist() == metric_per_user(plain, "hit_rate@3").tolist()


def test_paired_difference_is_over_users():
    other = Ranks(RANKS.greater + 1, RANKS.ties, RANKS.candidates, RANKS.users)
    difference = paired_difference(RANKS, other, "recall@3")
    assert difference.mean == pytest.approx((2 / 3 - 1 / 3 + 0) / 2)
    with pytest.raises(ValueError, match="2 users in one and 3 in the other"):
        paired_difference(RANKS, Ranks(other.greater, other.ties, other.candidates, np.array([7, 7, 5, 3])))


def test_users_must_fit_the_rows():
    with pytest.raises(ValueError, match="expected 4, got 3"):
        Ranks(RANKS.greater, RANKS.ties, RANKS.candidates, users=np.array([1, 1, 2]))
    with pytest.raises(ValueError, match="1 of 2 parts do not name their users"):
        Ranks.concatenate([RANKS, Ranks(RANKS.greater, RANKS.ties, RANKS.candidates)])


HISTORIES = [np.array([0, 1]), np.array([0, 1]), np.array([0, 1]), np.array([2]), np.array([2]), np.array([2, 3])]
USERS, TARGETS = np.array([5, 5, 5, 1, 8, 8]), np.array([2, 3, 4, 0, 0, 1])


class Remembering:
    def __init__(self, as_tensor=False):
        self.calls, self.as_tensor = [], as_tensor

    def __call__(self, histories):
        self.calls += [history.tolist() for history in histories]
        scores = np.stack([np.cos(np.arange(5) * (1 + history.sum())) for history in histories])
        return torch.from_numpy(scores) if self.as_tensor else scores


@pytest.mark.parametrize("batch_size", [1, 2, 9])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_a_history_with_several_targets_is_scored_once(batch_size, exclude_seen):
    options = {"exclude_seen": exclude_seen, "batch_size": batch_size, "progress": False}
    scorer, plain = Remembering(), Remembering()
    ranks = rank_targets(scorer, HISTORIES, TARGETS, 5, users=USERS, **options)
    assert scorer.calls == [[0, 1], [2], [2], [2, 3]]  # another user's equal history is scored for that user
    each = rank_targets(plain, HISTORIES, TARGETS, 5, **options)
    assert len(plain.calls) == 6
    for name in ("greater", "ties", "candidates"):
        assert getattr(ranks, name).tolist() == getattr(each, name).tolist()
    assert ranks.users.tolist() == USERS.tolist() and each.users is None


def test_tensors_rank_as_arrays_do():
    arrays, tensors = (rank_targets(Remembering(t), HISTORIES, TARGETS, 5, progress=False) for t in (False, True))
    assert arrays.greater.tolist() == tensors.greater.tolist()


def test_scorers_that_know_users_are_told_them():
    class ByUser(Remembering):
        takes_users = True

        def __call__(self, histories, users):
            self.calls.append(users.tolist())
            return np.tile(np.arange(5.0), (len(histories), 1)) * np.where(users == 8, -1, 1)[:, None]

    scorer = ByUser()
    ranks = rank_targets(scorer, HISTORIES, TARGETS, 5, users=USERS, batch_size=3, progress=False)
    assert scorer.calls == [[5, 1, 8], [8]]
    assert ranks.greater.tolist() == [2, 1, 0, 3, 0, 1]
    with pytest.raises(ValueError, match="ByUser scores users it knows; give `users`"):
        rank_targets(scorer, HISTORIES, TARGETS, 5, progress=False)
