"""Ranks of targets over the full catalogue, and the metrics computed from them.

With one target per user the ideal DCG is 1, so NDCG@k is the discount `1 / log2(place + 1)` of the target's place when
that is at most k. Where other items have exactly the target's score its place among them is unknown: every metric here
is its expectation over the `ties + 1` equally likely places. A scorer that gives all items the same score thus comes
out at a hit rate of exactly k / candidates, not at 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

DEFAULT_KS = (1, 5, 10, 20, 50, 100)
_SHORT_NAMES = {"hit_rate": "HR", "ndcg": "NDCG", "mrr": "MRR"}


@dataclass(frozen=True, eq=False)
class Ranks:
    """
    Where each evaluated user's target stands. One row per user.

    Args:
        greater (`np.ndarray` of shape `(n,)`): Candidates that score strictly higher than the target.
        ties (`np.ndarray` of shape `(n,)`): Candidates other than the target that have exactly its score.
        candidates (`np.ndarray` of shape `(n,)`): Items that were ranked, target included.

    Raises:
        ValueError: Columns differ in length, are not whole numbers, or contradict each other.
    """

    greater: np.ndarray
    ties: np.ndarray
    candidates: np.ndarray

    def __post_init__(self):
        for name in ("greater", "ties", "candidates"):
            column = np.asarray(getattr(self, name))
            if column.ndim != 1 or (column.size and column.dtype.kind not in "iu"):
                raise ValueError(
                    f"`{name}` must be a 1-D array of integers, got shape {column.shape}, dtype {column.dtype}."
                )
            object.__setattr__(self, name, column.astype(np.int64))
        if not len(self.greater) == len(self.ties) == len(self.candidates):
            raise ValueError(
                "`greater`, `ties` and `candidates` must have one row per user, got "
                f"{len(self.greater)}, {len(self.ties)} and {len(self.candidates)} rows."
            )
        wrong = (self.greater < 0) | (self.ties < 0) | (self.greater + self.ties >= self.candidates)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                "`greater` and `ties` must be at least 0 and leave room for the target among the candidates, got "
                f"{self.greater[row]}, {self.ties[row]} and {self.candidates[row]} candidates in row {row}."
            )

    def __len__(self) -> int:
        return len(self.greater)

    @property
    def mid_rank(self) -> np.ndarray:
        """The middle of the places that the target may hold, counted from 1; `(n,)` float."""
        return 1 + self.greater + self.ties / 2

    @classmethod
    def concatenate(cls, parts: Sequence[Ranks]) -> Ranks:
        """The rows of several `Ranks`, one after the other."""
        if not parts:
            raise ValueError("`parts` holds no ranks to join; give at least one `Ranks`.")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def flatten_histories(
    histories: Iterable[np.ndarray], n_items: int, *, first_row: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """
    Lists of item indices as two flat columns: row number (from 0) and item index.

    Args:
        histories (iterable of integer sequences): One per row, empty ones allowed.
        n_items (`int`): Size of the catalogue; every index must be in `0..n_items-1`.
        first_row (`int`, *optional*, defaults to 0): Added to row numbers in error messages.

    Raises:
        ValueError: A row is not a flat list of integers or holds an index outside the catalogue.
    """
    arrays = [np.asarray(history) for history in histories]
    for row, array in enumerate(arrays):
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(
                f"Row {first_row + row}: expected a 1-D array of integer item indices, got shape {array.shape}, "
                f"dtype {array.dtype}. Map external item ids to item indices first."
            )
    lengths = np.array([array.size for array in arrays], dtype=np.int64)
    rows = np.repeat(np.arange(len(arrays)), lengths)
    filled = [array.astype(np.int64, copy=False) for array in arrays if array.size]
    items = np.concatenate(filled) if filled else np.empty(0, dtype=np.int64)
    outside = (items < 0) | (items >= n_items)
    if outside.any():
        at = int(np.argmax(outside))
        raise ValueError(
            f"Row {first_row + rows[at]}: item index {items[at]} is outside the catalogue, "
            f"expected 0 to {n_items - 1}."
        )
    return rows, items


def ranks_from_scores(
    scores: np.ndarray, targets: np.ndarray, excluded: Sequence[np.ndarray], *, first_row: int = 0
) -> Ranks:
    """
    Count, for each user, how many candidates score higher than the target and how many score the same.

    Args:
        scores (`np.ndarray` of shape `(n, n_items)`): Higher is better. `-inf` means "never" for items that are not
            the target; scores of excluded items are not looked at.
        targets (`np.ndarray` of shape `(n,)`): Item index of each user's target.
        excluded (`list[np.ndarray]`): Item indices taken out of each user's ranking; repeats count once.
        first_row (`int`, *optional*, defaults to 0): Added to row numbers in error messages.

    Raises:
        ValueError: Wrong shapes, indices outside the catalogue, a target among its user's excluded items, NaN among
            the candidates' scores, or a target whose score is not finite.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.ndim != 2 or scores.dtype.kind not in "fiu":
        raise ValueError(
            f"`scores` must be numbers of shape (n, n_items), got shape {scores.shape}, dtype {scores.dtype}."
        )
    n, n_items = scores.shape
    if targets.shape != (n,) or (n and targets.dtype.kind not in "iu"):
        raise ValueError(
            f"`targets` must be one item index per row of `scores`, expected shape ({n},) of integers, "
            f"got {targets.shape}, dtype {targets.dtype}."
        )
    if len(excluded) != n:
        raise ValueError(
            f"`excluded` must have one entry per row of `scores` (empty ones allowed), expected {n}, "
            f"got {len(excluded)}."
        )
    flatten_histories(targets[:, None], n_items, first_row=first_row)  # every target is in the catalogue

    out = np.zeros((n, n_items), dtype=bool)  # (n, n_items), True where not a candidate
    out[flatten_histories(excluded, n_items, first_row=first_row)] = True
    every_row = np.arange(n)
    refuse_rows(
        out[every_row, targets],
        "the target is among the excluded items, so it has no rank. Leave it out of `excluded`",
        first_row,
    )
    refuse_rows((np.isnan(scores) & ~out).any(axis=1), "a candidate's score is NaN. Mend the scorer", first_row)
    own = scores[every_row, targets][:, None]  # (n, 1)
    refuse_rows(~np.isfinite(own[:, 0]), "the target's score is infinite. Give targets finite scores", first_row)

    kept = ~out
    return Ranks(
        greater=((scores > own) & kept).sum(axis=1),
        ties=((scores == own) & kept).sum(axis=1) - 1,  # the target equals itself
        candidates=kept.sum(axis=1),
    )


def refuse_rows(wrong: np.ndarray, reason: str, first_row: int = 0) -> None:
    """Raise a `ValueError` that names the first row where `wrong` (`(n,)` bool) holds, and how many there are."""
    if wrong.any():
        raise ValueError(f"Row {first_row + int(np.argmax(wrong))} ({int(wrong.sum())} of {len(wrong)}): {reason}.")


def metric_per_user(ranks: Ranks, metric: str) -> np.ndarray:
    """
    One metric for every user, as its expectation over the places a tied target may hold; `(n,)` float.

    Args:
        ranks (`Ranks`): Where the targets stand.
        metric (`str`): `"hit_rate@k"`, `"ndcg@k"` for any k from 1 on, or `"mrr"`. A k larger than the catalogue is
            allowed: the hit rate is then 1 and NDCG the whole discount.

    Raises:
        ValueError: Unknown metric, or a k that is no positive integer.
    """
    family, _, cutoff = metric.partition("@")
    if metric != "mrr" and (family not in ("hit_rate", "ndcg") or not cutoff.isdecimal() or int(cutoff) < 1):
        raise ValueError(f"Unknown metric {metric!r}; expected 'hit_rate@k' or 'ndcg@k' (integer k >= 1), or 'mrr'.")
    places = ranks.ties + 1  # the target is at one of greater + 1 .. greater + places
    last = ranks.greater + places
    deepest = int(last.max(initial=0))
    if family == "hit_rate":
        return np.clip(int(cutoff) - ranks.greater, 0, places) / places
    k = deepest if metric == "mrr" else min(int(cutoff), deepest)
    place = np.arange(1, k + 1)
    gain = 1 / place if metric == "mrr" else 1 / np.log2(place + 1)
    total = np.concatenate([[0.0], np.cumsum(gain)])  # total[r] is the gain summed over places 1..r
    return (total[np.minimum(last, k)] - total[np.minimum(ranks.greater, k)]) / places


def metrics_per_user(ranks: Ranks, ks: Sequence[int] = DEFAULT_KS) -> dict[str, np.ndarray]:
    """`hit_rate@k` and `ndcg@k` for each k of `ks`, and `mrr`: one value per user, see `metric_per_user`."""
    names = [f"{family}@{k}" for family in ("hit_rate", "ndcg") for k in ks]
    return {name: metric_per_user(ranks, name) for name in [*names, "mrr"]}


def summarize(ranks: Ranks, ks: Sequence[int] = DEFAULT_KS) -> dict[str, float]:
    """
    The means over users of `metrics_per_user`, and `mean_rank` (the mean of the middle ranks).

    Raises:
        ValueError: No user was ranked.
    """
    if not len(ranks):
        raise ValueError("No user was ranked, so there is nothing to average; give at least one user with a target.")
    means = {name: float(values.mean()) for name, values in metrics_per_user(ranks, ks).items()}
    return means | {"mean_rank": float(ranks.mid_rank.mean())}


def metric_label(metric: str) -> str:
    """The short form used in tables and charts, `"hit_rate@10"` -> `"HR@10"`."""
    family, at, k = metric.partition("@")
    return _SHORT_NAMES.get(family, family) + at + k


__all__ = [
    "DEFAULT_KS",
    "Ranks",
    "flatten_histories",
    "metric_label",
    "metric_per_user",
    "metrics_per_user",
    "ranks_from_scores",
    "refuse_rows",
    "summarize",
]
