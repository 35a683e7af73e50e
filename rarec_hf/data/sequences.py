"""Parts of many users' histories without a Python object for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

__all__ = ["Sequences", "covered"]


class Sequences(Sequence):
    """
    A read-only list of arrays that are pieces of one flat array: row `r` is `flat_items[starts[r]:ends[r]]`, a view.

    Args:
        flat_items (`np.ndarray` of shape `(n,)`): the array that all rows are cut from.
        starts, ends (`np.ndarray` of shape `(n_rows,)`): where each row begins and ends.
    """

    def __init__(self, flat_items: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        if len(starts) != len(ends):
            raise ValueError(f"`starts` and `ends` must have the same length, got {len(starts)} and {len(ends)}.")
        self.flat_items, self.starts, self.ends = flat_items, starts, ends

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, row: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, row: slice) -> Sequences: ...

    def __getitem__(self, row: int | slice) -> np.ndarray | Sequences:
        if isinstance(row, slice):
            return Sequences(self.flat_items, self.starts[row], self.ends[row])
        return self.flat_items[self.starts[row] : self.ends[row]]

    def __repr__(self) -> str:
        return f"Sequences({len(self)} rows, {int(self.lengths().sum())} items)"

    def lengths(self) -> np.ndarray:
        """The length of each row; `(n_rows,)` int."""
        return self.ends - self.starts

    def flat(self) -> np.ndarray:
        """All rows, one after the other; `(lengths().sum(),)`."""
        lengths = self.lengths()
        if (lengths >= 0).all() and (self.starts[1:] >= self.ends[:-1]).all():  # one after the other there, too
            return self.flat_items[covered(self.starts, lengths, len(self.flat_items))]
        places = np.arange(lengths.sum()) + np.repeat(self.starts - (lengths.cumsum() - lengths), lengths)
        return self.flat_items[places]


def covered(starts: np.ndarray, lengths: np.ndarray, n: int) -> np.ndarray:
    """`(n,)` bool: which places lie in any of the runs of these starts and lengths; runs may overlap or be empty."""
    change = np.zeros(n + 1, dtype=np.int32)
    np.add.at(change, starts, 1)
    np.subtract.at(change, starts + lengths, 1)
    return np.cumsum(change[:-1], out=change[:-1]) > 0
