"""Where targets stand among the candidates: counted from scores, kept as three whole numbers a target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from .counting import as_tensor, counted

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Ranks:
    """
    Where each target stands. One row per target; a user who has several targets has several rows.

    Args:
        greater (`np.ndarray` of shape `(n,)`): Candidates that score strictly higher than the target.
        ties (`np.ndarray` of shape `(n,)`): Candidates other than the target that have exactly its score.
        candidates (`np.ndarray` of shape `(n,)`): Items that were ranked, target included. A user's other targets are
            candidates like any other item.
        users (`np.ndarray` of shape `(n,)`, *optional*): A whole number that names the user of each row. Without it
            every row is a user of its own.

    Raises:
        ValueError: Columns differ in length, are not whole numbers, or contradict each other.
    """

    greater: np.ndarray
    ties: np.ndarray
    candidates: np.ndarray
    users: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("greater", "ties", "candidates", "users"):
            if name == "users" and self.users is None:
                continue
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
        if self.users is not None and len(self.users) != len(self.greater):
            raise ValueError(
                f"`users` must name the user of every row, expected {len(self.greater)}, got {len(self.users)}."
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

    def __repr__(self) -> str:
        if not len(self):
            return "Ranks(0 targets)"
        least, most = self.candidates.min(), self.candidates.max()
        among = f"{most}" if least == most else f"{least} to {most}"
        return (
            f"Ranks({len(self)} targets of {self.n_users} users among {among} candidates, "
            f"median rank {np.median(self.mid_rank):g})"
        )

    @property
    def mid_rank(self) -> np.ndarray:
        """The middle of the places that the target may hold, counted from 1; `(n,)` float."""
        return 1 + self.greater + self.ties / 2

    def user_of_row(self) -> np.ndarray:
        """The number of each row's user, counted from 0 in the order of their first rows; `(n,)` int."""
        if self.users is None:
            return np.arange(len(self))
        _, first, inverse = np.unique(self.users, return_index=True, return_inverse=True)
        number = np.empty(len(first), dtype=np.int64)
        number[np.argsort(first)] = np.arange(len(first))
        return number[inverse]

    @property
    def n_users(self) -> int:
        """How many users the rows are of."""
        return len(self) if self.users is None else len(np.unique(self.users))

    def take(self, rows: np.ndarray) -> Ranks:
        """The rows `rows` (indices or a mask), in that order."""
        users = None if self.users is None else self.users[rows]
        return Ranks(self.greater[rows], self.ties[rows], self.candidates[rows], users)

    @classmethod
    def concatenate(cls, parts: Sequence[Ranks]) -> Ranks:
        """
        The rows of several `Ranks`, one after the other.

        Raises:
            ValueError: Nothing to join, or only some of the parts name their users.
        """
        if not parts:
            raise ValueError("`parts` holds no ranks to join; give at least one `Ranks`.")
        unnamed = sum(part.users is None for part in parts)
        if unnamed not in (0, len(parts)):
            raise ValueError(f"{unnamed} of {len(parts)} parts do not name their users; give `users` in all or none.")
        names = [field.name for field in fields(cls) if field.name != "users" or not unnamed]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


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
    from ..data.sequences import Sequences  # its package needs pandas, which a reader of ranks does not

    if isinstance(histories, Sequences):
        lengths, items = histories.lengths(), histories.flat().astype(np.int64, copy=False)
    else:
        arrays = [np.asarray(history) for history in histories]
        for row, array in enumerate(arrays):
            if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
                raise ValueError(
                    f"Row {first_row + row}: expected a 1-D array of integer item indices, got shape {array.shape}, "
                    f"dtype {array.dtype}. Map external item ids to item indices first."
                )
        lengths = np.array([array.size for array in arrays], dtype=np.int64)
        filled = [array.astype(np.int64, copy=False) for array in arrays if array.size]
        items = np.concatenate(filled) if filled else np.empty(0, dtype=np.int64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    outside = (items < 0) | (items >= n_items)
    if outside.any():
        at = int(np.argmax(outside))
        raise ValueError(
            f"Row {first_row + rows[at]}: item index {items[at]} is outside the catalogue, "
            f"expected 0 to {n_items - 1}."
        )
    return rows, items


def ranks_from_scores(
    scores: np.ndarray | torch.Tensor,
    targets: np.ndarray,
    excluded: Sequence[np.ndarray],
    *,
    score_rows: np.ndarray | None = None,
    users: np.ndarray | None = None,
    first_row: int = 0,
) -> Ranks:
    """
    Count, for each target, how many candidates score higher than it and how many score the same.

    Args:
        scores (`np.ndarray` or `torch.Tensor` of shape `(n, n_items)`): Higher is better; compared where they are.
            `-inf` means "never" for items that are not the target; scores of excluded items are not looked at.
        targets (`np.ndarray` of shape `(n,)`): Item index of each row's target.
        excluded (`list[np.ndarray]`): Item indices taken out of each target's ranking; repeats count once.
        score_rows (`np.ndarray` of shape `(n_targets,)`, *optional*): The row of `scores` that each target is ranked
            in, where several targets share one; `targets` and `excluded` then have `n_targets` rows.
        users (`np.ndarray`, *optional*): Names the user of each target, see [`Ranks`].
        first_row (`int`, *optional*, defaults to 0): Added to row numbers in error messages.

    Raises:
        ValueError: Wrong shapes, indices outside the catalogue, a target among its user's excluded items, NaN among
            the candidates' scores, or a target whose score is not finite.
    """
    import torch

    scores, targets = as_tensor(scores), np.asarray(targets)
    n_scored, n_items = scores.shape
    n = n_scored if score_rows is None else len(score_rows)
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
    refuse_outside(targets, n_items, first_row)
    rows, items = flatten_histories(excluded, n_items, first_row=first_row)
    rows, items = np.divmod(np.unique(rows * n_items + items), n_items)  # each pair once
    in_excluded = np.bincount(rows, weights=items == targets[rows], minlength=n) > 0
    refuse_rows(
        in_excluded, "the target is among the excluded items, so it has no rank. Leave it out of `excluded`", first_row
    )
    places = np.arange(n) if score_rows is None else np.asarray(score_rows)  # row of `scores` of each target
    place, target = (torch.from_numpy(a.astype(np.int64)).to(scores.device) for a in (places, targets))
    own = scores[place, target]  # (n,)
    above, level, nan = counted(scores, None if score_rows is None else places, own, rows, items)
    refuse_unrankable(nan, ~torch.isfinite(own).cpu().numpy(), first_row)
    return Ranks(
        greater=above,
        ties=level - 1,  # the target equals itself
        candidates=n_items - np.bincount(rows, minlength=n),
        users=users,
    )


def refuse_outside(items: np.ndarray, n_items: int, first_row: int = 0) -> None:
    """Raise a `ValueError` that names the first row whose item index (`(n,)` int) is outside the catalogue."""
    outside = (items < 0) | (items >= n_items)
    if outside.any():
        at = int(np.argmax(outside))
        raise ValueError(
            f"Row {first_row + at}: item index {items[at]} is outside the catalogue, expected 0 to {n_items - 1}."
        )


def refuse_rows(wrong: np.ndarray, reason: str, first_row: int = 0) -> None:
    """Raise a `ValueError` that names the first row where `wrong` (`(n,)` bool) holds, and how many there are."""
    if wrong.any():
        raise ValueError(f"Row {first_row + int(np.argmax(wrong))} ({int(wrong.sum())} of {len(wrong)}): {reason}.")


def refuse_unrankable(nan: np.ndarray, infinite: np.ndarray, first_row: int = 0) -> None:
    """Raise a `ValueError` where a candidate's score is NaN, or the target's own is infinite; both `(n,)` bool."""
    refuse_rows(nan, "a candidate's score is NaN. Mend the scorer", first_row)
    refuse_rows(infinite, "the target's score is infinite. Give targets finite scores", first_row)


__all__ = ["Ranks", "flatten_histories", "ranks_from_scores", "refuse_outside", "refuse_rows", "refuse_unrankable"]
