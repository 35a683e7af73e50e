"""Which interactions stay, of those sorted by user and time: repeats and the k-core; and what breaks ties."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .columns import row_name
from .ordering import stable_groups

__all__ = ["k_core_positions", "tie_break", "without_repeats"]


def without_repeats(
    users: np.ndarray, items: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    """
    The first interaction of each user with each item.

    Args:
        users, items, times (`np.ndarray` of shape `(n,)`): sorted by user and time.

    Returns:
        the three arrays without later interactions of the same pair, and how many of these were equal in time, too,
        and how many not.
    """
    by_pair, repeat = stable_groups(users, items)  # equal pairs become neighbours, in order of time inside a pair
    repeats, before = by_pair[1:][repeat], by_pair[:-1][repeat]
    exact = int((times[repeats] == times[before]).sum())
    if len(repeats):
        first = np.ones(len(users), dtype=bool)
        first[repeats] = False
        users, items, times = users[first], items[first], times[first]
    return users, items, times, {"exact_duplicates_dropped": exact, "repeats_dropped": len(repeats) - exact}


def k_core_positions(users: np.ndarray, items: np.ndarray, k_core: int) -> np.ndarray:
    """Positions of the interactions that remain when every user and every item keeps at least `k_core` of them."""
    kept = np.arange(len(users))
    while True:
        enough = (np.bincount(users[kept])[users[kept]] >= k_core) & (np.bincount(items[kept])[items[kept]] >= k_core)
        if enough.all():
            return kept
        kept = kept[enough]


def tie_break(column: pd.Series) -> np.ndarray:
    """
    The column that orders equal timestamps, as numbers.

    Raises:
        ValueError: a cell that is no finite number, with its row.
    """
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax())
        raise ValueError(
            f"interactions: the column `{column.name}` breaks ties between equal timestamps and must hold numbers, "
            f"found {column.iloc[row]!r} in {row_name(column, row)}. Rename the column if it means something else."
        )
    return values
