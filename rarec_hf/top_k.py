"""The best items of a catalogue, scored a piece at a time: memory grows neither with the catalogue nor with users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

SCORES_AT_ONCE = 2**24  # 64 MiB in fp32


def best_items(
    score: Callable[[slice, slice], Tensor],
    n_users: int,
    n_items: int,
    k: int,
    seen: Sequence[Sequence[int] | np.ndarray] | None = None,
    scores_at_once: int = SCORES_AT_ONCE,
    whole_pieces_of: int = 1,
) -> tuple[Tensor, Tensor]:
    """
    The `k` best items of each user, best first, equal scores in catalogue order: what a stable sort of all scores
    gives.

    Args:
        score: `score(users, items)`, both slices, gives scores `(users, items)`.
        seen (`list[list[int]]`, *optional*): items that each user must not be given; no dense mask is made of them.
        scores_at_once (`int`): how many scores exist at a time.
        whole_pieces_of (`int`): slices of items that are scored begin at multiples of it; more scores may exist then.

    Returns:
        scores and item indices, both `(n_users, min(k, n_items))`; where fewer items are left, scores of -inf stand at
        the end.

    Raises:
        ValueError: a score among the best is NaN, or `k` is below 1.
    """
    at_once = users_scored_at_once(n_users, n_items, scores_at_once)
    values, items = best_of_part(score, n_users, n_items, k, seen, at_once, scores_at_once, whole_pieces_of)
    _refuse_nan(values)
    return values, items


def users_scored_at_once(n_users: int, n_items: int, scores_at_once: int = SCORES_AT_ONCE) -> int:
    """How many users a call of `score` is of, at most."""
    return max(1, min(n_users, scores_at_once // max(1, min(n_items, 4096))))


def best_of_part(
    score: Callable[[slice, slice], Tensor],
    n_users: int,
    n_items: int,
    k: int,
    seen: Sequence[Sequence[int] | np.ndarray] | None,
    users_at_once: int,
    scores_at_once: int = SCORES_AT_ONCE,
    whole_pieces_of: int = 1,
) -> tuple[Tensor, Tensor]:
    """`best_items` of a part of a catalogue, which may have no item, for [`merged`]; NaN stands first."""
    if k < 1:
        raise ValueError(f"`k` must be at least 1, got {k}.")
    k, parts = min(k, n_items), []
    if not k or not n_users:
        return torch.empty(n_users, k), torch.empty(n_users, k, dtype=torch.long)
    items_at_once = max(1, scores_at_once // users_at_once // whole_pieces_of) * whole_pieces_of
    for start in range(0, n_users, users_at_once):
        users = slice(start, min(start + users_at_once, n_users))
        parts.append(_of_users(score, users, n_items, k, None if seen is None else seen[users], items_at_once))
    values, items = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return values, items


def merged(parts: Sequence[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """
    What `best_items` gives of a catalogue, from the best of its parts.

    Args:
        parts (`list[tuple[Tensor, Tensor]]`): scores and item indices of the catalogue, `(n_users, at most k)`: all
            that a part has, or `k`; the parts in catalogue order.

    Raises:
        ValueError: a score among the best is NaN.
    """
    values, items = (torch.cat(tensors, 1) for tensors in zip(*parts, strict=True))
    values, order = values.sort(dim=1, descending=True, stable=True)
    values, items = values[:, :k], items.gather(1, order[:, :k])
    _refuse_nan(values)
    return values, items


def _refuse_nan(values: Tensor) -> None:
    if bool(values.isnan().any()):
        row = int(values.isnan().any(1).nonzero()[0])
        raise ValueError(
            f"The scores of user {row} of {len(values)} are not numbers (NaN); the model's weights are damaged."
        )


def _of_users(
    score: Callable[[slice, slice], Tensor], users: slice, n_items: int, k: int, seen: Any, items_at_once: int
) -> tuple[Tensor, Tensor]:
    pairs = None if seen is None else _by_item(seen)
    best: tuple[Tensor, Tensor] | None = None
    for start in range(0, n_items, items_at_once):
        stop = min(start + items_at_once, n_items)
        scores = score(users, slice(start, stop))
        if pairs is not None:
            rows, items = pairs
            first, last = np.searchsorted(items, (start, stop))
            if last > first:
                where = torch.as_tensor(np.stack([rows[first:last], items[first:last] - start]), device=scores.device)
                scores = scores.index_put((where[0], where[1]), scores.new_tensor(float("-inf")))
        if best is None:
            best = _top(scores, k, start)
            continue
        # Only a row whose best here beats the last of its best so far can change
        better = ~(scores.amax(1) <= best[0][:, -1]) | torch.tensor(best[0].shape[1] < k, device=scores.device)
        rows = better.nonzero().flatten()
        if not len(rows):
            continue
        values, items = _top(scores if len(rows) == len(scores) else scores[rows], k, start)
        values, items = torch.cat([best[0][rows], values], 1), torch.cat([best[1][rows], items], 1)
        values, order = values.sort(dim=1, descending=True, stable=True)
        if best[0].shape[1] < k:  # the first pieces were smaller than k, and every row is here
            best = values[:, :k], items.gather(1, order[:, :k])
        else:
            best[0][rows], best[1][rows] = values[:, :k], items.gather(1, order[:, :k])
    return best


def _top(scores: Tensor, k: int, offset: int) -> tuple[Tensor, Tensor]:
    """The best `k` columns, equal scores by column, with `offset` added to the columns."""
    n = scores.shape[1]
    if k >= n:
        values, items = scores.sort(dim=1, descending=True, stable=True)
        return values, items + offset
    values, items = scores.topk(k + 1, dim=1)
    # `topk` takes any of equal scores: where they stand on both sides of the last place, sort in full
    torn = (values[:, k - 1] == values[:, k]).nonzero().flatten()
    values, items = values[:, :k], items[:, :k]
    items, order = items.sort(1)
    values, by_value = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    items = items.gather(1, by_value)
    if len(torn):
        whole, order = scores[torn].sort(dim=1, descending=True, stable=True)
        values[torn], items[torn] = whole[:, :k], order[:, :k]
    return values, items + offset


def _by_item(seen: Sequence[Sequence[int] | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and items of all seen pairs, sorted by item."""
    rows = np.repeat(np.arange(len(seen)), [len(items) for items in seen])
    items = np.concatenate([np.asarray(items, dtype=np.int64) for items in seen]) if len(seen) else np.empty(0, int)
    order = np.argsort(items, kind="stable")
    return rows[order], items[order]


__all__ = ["best_items", "best_of_part", "merged", "users_scored_at_once"]
