"""Metrics of targets ranked over the full catalogue: one value per user, and their means.

Where other items have exactly the target's score its place among them is unknown: every metric here is its expectation
over the `ties + 1` equally likely places. A scorer that gives all items the same score thus comes out at a hit rate of
exactly k / candidates, not at 1.

A user may have several targets, all ranked with the same history. Per user then recall@k is the share of the targets
among the first k, hit rate@k whether any is, NDCG@k the targets' summed discounts `1 / log2(place + 1)` over those of
the best order, `min(k, n_targets)` of them, and MRR the reciprocal of the best place; MRR@k counts 0 where that is
beyond k. With one target recall is the hit rate and NDCG@k the target's discount.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .ranks import Ranks

DEFAULT_KS = (1, 5, 10, 20, 50, 100)
_SHORT_NAMES = {"hit_rate": "HR", "ndcg": "NDCG", "mrr": "MRR", "recall": "Recall"}


def metric_per_user(ranks: Ranks | Sequence[Ranks], metric: str) -> np.ndarray:
    """
    One metric for every user, as its expectation over the places that tied targets may hold; `(n_users,)` float, in
    the order of the users' first rows.

    Args:
        ranks (`Ranks`, or several): Where the targets stand; of several, such as one a seed, the mean.
        metric (`str`): `"hit_rate@k"`, `"recall@k"`, `"ndcg@k"`, `"mrr@k"` for any k from 1 on, or `"mrr"`. A k larger
            than the catalogue is allowed: hit rate and recall are then 1, NDCG and MRR count every target.

    Raises:
        ValueError: Unknown metric, or a k that is no positive integer.
    """
    if not isinstance(ranks, Ranks):
        return np.mean([metric_per_user(one, metric) for one in ranks], axis=0)
    family, _, cutoff = metric.partition("@")
    known = family in ("hit_rate", "recall", "ndcg", "mrr") and cutoff.isdecimal() and int(cutoff) >= 1
    if metric != "mrr" and not known:
        raise ValueError(
            f"Unknown metric {metric!r}; expected 'hit_rate@k', 'recall@k', 'ndcg@k' or 'mrr@k' (integer k >= 1), or "
            "'mrr'."
        )
    user = ranks.user_of_row()
    counts = np.bincount(user)  # targets of each user
    k = int(cutoff) if cutoff else _deepest(ranks)
    if family == "mrr":
        return _reciprocal(ranks, k) if len(counts) == len(ranks) else _best_reciprocal(ranks, user, k)
    if family == "ndcg":
        gains = np.bincount(user, weights=_discounts(ranks, k))
        ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(counts.max(initial=0)) + 2))])
        return gains / ideal[np.minimum(k, counts)]
    if family == "recall" or len(counts) == len(ranks):
        places = ranks.ties + 1  # the target is at one of greater + 1 .. greater + places
        return np.bincount(user, weights=np.clip(k - ranks.greater, 0, places) / places) / counts
    return _any_hit(ranks, user, k)


def _mean_gain(ranks: Ranks, gain: np.ndarray) -> np.ndarray:
    """The mean of `gain[place - 1]` over each target's places; places beyond `gain` count 0."""
    total = np.concatenate([[0.0], np.cumsum(gain)])  # total[r] is the gain summed over places 1..r
    places, k = ranks.ties + 1, len(gain)
    return (total[np.minimum(ranks.greater + places, k)] - total[np.minimum(ranks.greater, k)]) / places


def _deepest(ranks: Ranks) -> int:
    return int((ranks.greater + ranks.ties + 1).max(initial=0))


def _discounts(ranks: Ranks, k: int) -> np.ndarray:
    return _mean_gain(ranks, 1 / np.log2(np.arange(min(k, _deepest(ranks))) + 2))


def _reciprocal(ranks: Ranks, k: int) -> np.ndarray:
    return _mean_gain(ranks, 1 / np.arange(1, min(k, _deepest(ranks)) + 1))


def _tied_before(ranks: Ranks, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows ordered by user and place, and for each how many targets of the user with the same score come before it."""
    order = np.lexsort((ranks.greater, user))
    users, greater = user[order], ranks.greater[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (users[1:] != users[:-1]) | (greater[1:] != greater[:-1])
    starts = np.flatnonzero(new)
    return order, np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))


def _any_hit(ranks: Ranks, user: np.ndarray, k: int) -> np.ndarray:
    # m targets of a user that share one score lie at random among its g places, of which h are within k: none of them
    # hits with chance (g-h)/g * (g-h-1)/(g-1) * ..., one factor a target. Other scores have places of their own.
    order, before = _tied_before(ranks, user)
    places = (ranks.ties + 1)[order]
    within = np.clip(k - ranks.greater[order], 0, places)
    miss = np.maximum(places - within - before, 0) / (places - before)
    return 1 - np.multiply.reduceat(miss, np.flatnonzero(np.diff(user[order], prepend=-1)))


def _best_reciprocal(ranks: Ranks, user: np.ndarray, k: int) -> np.ndarray:
    order, before = _tied_before(ranks, user)
    first = np.flatnonzero(np.diff(user[order], prepend=-1))  # each user's best row
    best = ranks.greater[order][first]
    tied = np.bincount(user[order][ranks.greater[order] == best[user[order]]])  # targets that share the best score
    cases = np.stack([best, (ranks.ties + 1)[order][first], tied], axis=1)
    distinct, inverse = np.unique(cases, axis=0, return_inverse=True)
    values = np.empty(len(distinct))
    for row, (greater, places, m) in enumerate(distinct):
        # The first of m targets among `places`: at place j with chance P(none before) * m / (places left).
        j = np.arange(places - m + 1)
        later = np.concatenate([[1.0], np.cumprod(1 - m / (places - j[:-1]))])
        place = greater + 1 + j
        values[row] = (later * m / (places - j) / place)[place <= k].sum()
    return values[inverse.reshape(-1)]


def metrics_per_user(ranks: Ranks, ks: Sequence[int] = DEFAULT_KS) -> dict[str, np.ndarray]:
    """
    `hit_rate@k` and `ndcg@k` for each k of `ks`, and `mrr`: one value per user, see `metric_per_user`. Where a user
    has several targets also `recall@k`, which is the hit rate otherwise.
    """
    return {name: metric_per_user(ranks, name) for name in metric_names(ranks, ks)}


def metric_names(ranks: Ranks, ks: Sequence[int] = DEFAULT_KS) -> list[str]:
    """The metrics that tell something of these ranks."""
    families = ("hit_rate", "ndcg") if ranks.n_users == len(ranks) else ("recall", "hit_rate", "ndcg")
    return [*(f"{family}@{k}" for family in families for k in ks), "mrr"]


def summarize(ranks: Ranks, ks: Sequence[int] = DEFAULT_KS) -> dict[str, float]:
    """
    The means over users of `metrics_per_user`, and `mean_rank` (the mean over users of their mean middle rank).

    Raises:
        ValueError: No user was ranked.
    """
    if not len(ranks):
        raise ValueError("No user was ranked, so there is nothing to average; give at least one user with a target.")
    means = {name: float(values.mean()) for name, values in metrics_per_user(ranks, ks).items()}
    user = ranks.user_of_row()
    return means | {"mean_rank": float((np.bincount(user, weights=ranks.mid_rank) / np.bincount(user)).mean())}


def metric_label(metric: str) -> str:
    """The short form used in tables and charts, `"hit_rate@10"` -> `"HR@10"`."""
    family, at, k = metric.partition("@")
    return _SHORT_NAMES.get(family, family) + at + k


__all__ = ["DEFAULT_KS", "metric_label", "metric_names", "metric_per_user", "metrics_per_user", "summarize"]
