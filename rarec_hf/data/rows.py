"""The rows of an interactions table as codes and times, broken ones refused or dropped and counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .columns import MALFORMED, read_ids, row_name
from .ordering import renumber
from .texts import Texts
from .timestamps import parse_times, recognise_unit, refuse_unreadable

__all__ = ["Rows", "read_rows"]


@dataclass(frozen=True, eq=False)
class Rows:
    """
    What a table of interactions says, row by row.

    Attributes:
        users, items (`np.ndarray` of shape `(n_kept,)`): codes, in the order of first appearance.
        times (`np.ndarray` of shape `(n_kept,)`): int64, or float64 where fractions came.
        unit (`str`): of the times.
        user_ids, item_ids ([`Texts`]): the id of each code.
        kept (`np.ndarray` or `slice`): the rows of the table that are left, in their order.
        items_of_all_rows (`np.ndarray` of shape `(n_rows,)`): item codes again, -1 for rows that were dropped.
        report (`dict[str, int | str]`): how many rows were read, and how many dropped for each reason.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    unit: str
    user_ids: Texts
    item_ids: Texts
    kept: np.ndarray | slice
    items_of_all_rows: np.ndarray
    report: dict[str, int | str]


def read_rows(
    frame: pd.DataFrame, user_column: str, item_column: str, timestamp_column: str, timestamp_unit: str, drop: bool
) -> Rows:
    """
    Args:
        frame (`pd.DataFrame`): with these three columns.
        timestamp_unit (`str`): `"auto"`, or what to take it for; dates are seconds in any case.
        drop (`bool`): drop broken rows and count each by its first reason (user id, item id, time), instead of an
            error that names the first.

    Raises:
        ValueError: broken rows, or none that is whole; two units of time.
    """
    column = frame[timestamp_column]
    with ThreadPoolExecutor(2) as pool:  # hashing texts leaves the interpreter free for the other columns
        found_users = pool.submit(read_ids, frame[user_column], "interactions", drop)
        found_items = pool.submit(read_ids, frame[item_column], "interactions", drop)
        times, unreadable, dates = parse_times(column)
    (users, user_ids), (items, item_ids) = found_users.result(), found_items.result()
    report: dict[str, int | str] = {"interactions_read": len(frame) + frame.attrs.get(MALFORMED, 0)}
    kept: np.ndarray | slice = slice(None)
    items_of_all_rows = items
    if drop:
        no_user, no_item = users < 0, items < 0
        broken = no_user | no_item | unreadable
        report |= {
            "malformed_rows_dropped": frame.attrs.get(MALFORMED, 0),
            "rows_without_user_id_dropped": int(no_user.sum()),
            "rows_without_item_id_dropped": int((no_item & ~no_user).sum()),
            "rows_without_time_dropped": int((unreadable & ~no_item & ~no_user).sum()),
        }
        if broken.any():
            kept = np.flatnonzero(~broken)
            if len(kept) == 0:
                raise ValueError(
                    f"interactions: every one of {len(frame)} rows was dropped as broken "
                    f"({report}). Are `--user_column`, `--item_column` and `--timestamp_column` the right columns?"
                )
            report["first_row_dropped"] = row_name(column, int(broken.argmax()))
            users, user_ids = _used(users[kept], user_ids)
            items, item_ids = _used(items[kept], item_ids)
            times = times[kept]
            items_of_all_rows = np.full(len(frame), -1, dtype=items.dtype)
            items_of_all_rows[kept] = items
    elif unreadable.any():
        refuse_unreadable(column, unreadable, "interactions")
    if dates:
        unit = "seconds"
    elif timestamp_unit != "auto":
        unit = timestamp_unit
    else:
        unit = recognise_unit(times, column, "interactions", kept if isinstance(kept, np.ndarray) else None)
    return Rows(users, items, times, unit, user_ids, item_ids, kept, items_of_all_rows, report)


def _used(codes: np.ndarray, ids: Texts) -> tuple[np.ndarray, Texts]:
    """Codes and ids again, without the ids of which no row is left."""
    codes, old = renumber(codes, len(ids))
    return codes, ids.take(old)
