"""Interactions and the catalogue: user, item and timestamp tables in, validated arrays out."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..ids import shown
from .catalogue import ItemTable, build_item_table, placeholder_title
from .column_names import check_columns, check_options
from .filters import k_core_positions, tie_break, without_repeats
from .id_maps import save_id_maps
from .ordering import stable_order
from .rows import read_rows
from .tables import files_report, read_table, source_name
from .tables_in_memory import as_frame
from .timestamps import UNITS, format_time, time_to_number

__all__ = ["Interactions", "ItemTable", "build_interactions", "load_interactions", "placeholder_title", "to_timestamp"]

logger = logging.getLogger(__name__)

ORDER_COLUMN = "order"
ON_BROKEN_ROW = ("error", "drop")


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """
    All users' histories over one catalogue, grouped by user and in time order inside a user.

    Attributes:
        user_ids (`Sequence[str]`): the external ids; the position is the user index. As read, [`Texts`].
        items (`ItemTable`): the catalogue.
        item_index (`np.ndarray` of shape `(n_interactions,)`, int64): item indices.
        timestamps (`np.ndarray` of shape `(n_interactions,)`): int64 in the unit that came (seconds for dates),
            float64 only where fractions came.
        offsets (`np.ndarray` of shape `(n_users + 1,)`, int64): the interactions of user `u` are
            `item_index[offsets[u]:offsets[u + 1]]`.
        report (`dict[str, int | str]`): what was read, dropped, merged and filled in.
        timestamp_unit (`str`): `"seconds"`, `"milliseconds"`, `"microseconds"`, `"nanoseconds"` (since 1970, in UTC)
            or `"unknown"`.
    """

    user_ids: Sequence[str]
    items: ItemTable
    item_index: np.ndarray
    timestamps: np.ndarray
    offsets: np.ndarray
    report: dict[str, int | str] = field(default_factory=dict)
    timestamp_unit: str = "unknown"

    def __post_init__(self) -> None:
        n_interactions = len(self.item_index)
        if len(self.timestamps) != n_interactions or len(self.offsets) != len(self.user_ids) + 1:
            raise ValueError(
                f"Expected {n_interactions} timestamps and {len(self.user_ids) + 1} offsets, got "
                f"{len(self.timestamps)} and {len(self.offsets)}."
            )
        if self.offsets[0] != 0 or self.offsets[-1] != n_interactions or (np.diff(self.offsets) < 0).any():
            raise ValueError(f"`offsets` must rise from 0 to the number of interactions, {n_interactions}.")
        if n_interactions and not 0 <= self.item_index.min() <= self.item_index.max() < len(self.items):
            raise ValueError(f"`item_index` must lie in 0..{len(self.items) - 1}, the catalogue.")

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        return len(self.items)

    def history(self, user_index: int) -> np.ndarray:
        """The user's item indices, shape `(n_of_this_user,)`, oldest first; a view, not a copy."""
        return self.item_index[self.offsets[user_index] : self.offsets[user_index + 1]]

    def fingerprint(self, everything: bool = False) -> str:
        """
        16 hex digits of a sha256 over the ids, titles and histories: the same for the same data, in any format.

        Args:
            everything (`bool`): over timestamps and attributes too, which splits and prompts may depend on.
        """
        digest = hashlib.sha256()
        for texts in (self.user_ids, self.items.item_ids, self.items.titles):
            digest.update(json.dumps(list(texts)).encode())
        for numbers in (self.offsets, self.item_index):
            digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
        if everything:
            digest.update(json.dumps(self.items.attributes, sort_keys=True).encode())
            digest.update(np.ascontiguousarray(self.timestamps, dtype="<f8").tobytes())
        return digest.hexdigest()[:16]

    def save_id_maps(self, folder: str | os.PathLike[str]) -> None:
        """Write `users.parquet` and `items.parquet`: which index is which id; [`load_id_maps`] reads them."""
        save_id_maps(self.user_ids, self.items.item_ids, self.items.titles, folder)

    def __repr__(self) -> str:
        return f"Interactions(n_users={self.n_users}, n_items={self.n_items}, n_interactions={len(self.item_index)})"


def to_timestamp(interactions: Interactions, when: str | float | datetime.date) -> int | float:
    """
    A moment in the unit of the interactions' timestamps, to compare with them.

    Args:
        interactions (`Interactions`): gives the unit.
        when (`str`, `datetime.date` or number): a date (midnight in UTC) or time, ISO 8601 where it is text; a number
            is one in that unit already.

    Raises:
        ValueError: `when` is no moment, or a date although the unit is unknown.

    Example:
        ```python
        >>> to_timestamp(interactions, "2014-07-01")
        1404172800
        ```
    """
    return time_to_number(when, interactions.timestamp_unit)


def load_interactions(
    interactions: Any,
    items: Any = None,
    *,
    user_column: str = "user_id",
    item_column: str = "item_id",
    timestamp_column: str = "timestamp",
    title_column: str = "title",
    attribute_columns: Sequence[str] = (),
    k_core: int = 0,
    timestamp_unit: str = "auto",
    on_broken_row: str = "error",
) -> Interactions:
    """
    Read interactions and, *optionally*, an items table, then apply the rules of [`build_interactions`].

    Args:
        interactions: a path or a table.

            - A .parquet, .csv, .tsv or .jsonl file (`.gz` too except for parquet), a folder of such files of one
              format (sub-folders too; `key=value` ones are columns), or a pattern such as `"part-*.parquet"`.
            - A `datasets` id, read as `load_dataset(id, split="train")`; `"id:config"` names a configuration.
            - A pandas or polars frame, a `datasets.Dataset`, a pyarrow table, a Spark frame (anything with
              `__arrow_c_stream__` or `toPandas`).
        items (*optional*): the same for the items. Without it, titles and attributes are taken from the interactions
            table where it has them.
        user_column, item_column, timestamp_column, title_column (`str`, *optional*): column names.
        attribute_columns (`Sequence[str]`, *optional*): further columns of the items, such as a category.
        k_core, timestamp_unit, on_broken_row: see [`build_interactions`].

    Raises:
        FileNotFoundError: a source is neither a file, a folder nor a `datasets` id that could be loaded.
        ValueError: a broken file, a missing column or a broken cell; the text says which and how to mend it.
    """
    names = {
        "user_column": user_column,
        "item_column": item_column,
        "timestamp_column": timestamp_column,
        "title_column": title_column,
        "attribute_columns": attribute_columns,
    }
    check_options(k_core, **names)
    flags = {user_column: "--user_column", item_column: "--item_column", timestamp_column: "--timestamp_column"}
    extra = [ORDER_COLUMN] if items is not None else [ORDER_COLUMN, title_column, *attribute_columns]
    drop = on_broken_row == "drop"
    frame = read_table(interactions, flags, extra, "interactions", (user_column, item_column), drop)
    items_frame = None
    if items is not None:
        flags = {item_column: "--item_column", title_column: "--title_column"}
        flags |= dict.fromkeys(attribute_columns, "--attribute_columns")
        items_frame = read_table(items, flags, (), "items", (item_column,), drop)
    built = build_interactions(
        frame, items_frame, **names, k_core=k_core, timestamp_unit=timestamp_unit, on_broken_row=on_broken_row
    )
    sources = {"interactions_source": source_name(interactions), **files_report(frame, "interactions")}
    if items_frame is not None:
        sources |= {"items_source": source_name(items), **files_report(items_frame, "items")}
    return replace(built, report={**sources, **built.report})


def build_interactions(
    interactions: Any,
    items: Any = None,
    *,
    user_column: str = "user_id",
    item_column: str = "item_id",
    timestamp_column: str = "timestamp",
    title_column: str = "title",
    attribute_columns: Sequence[str] = (),
    k_core: int = 0,
    timestamp_unit: str = "auto",
    on_broken_row: str = "error",
) -> Interactions:
    """
    Validate two tables and turn them into [`Interactions`]; nothing is read or written.

    Rules, each counted in the report:

    - Ids become text by value (5, 5.0 and "5" are one id, "05" is another), the same way in both tables. An empty id
      is an error, and so is a timestamp that is no finite time; `on_broken_row="drop"` drops and counts such rows.
    - Numbers keep their unit of time, which is recognised by their size; dates become seconds.
    - A stable sort by user and timestamp; ties keep the order of the rows, unless a column `order` breaks them. The
      share of consecutive interactions of a user that tie is reported.
    - Rows equal in user, item and timestamp are merged. Of several interactions of one user with one item the first is
      kept: items already seen are never ranked, so a repeat could never be a target.
    - `k_core` > 0 drops users and items with fewer than `k_core` interactions until none is left to drop.
    - Users are ordered by first appearance, items by first appearance in the items table, then in the interactions.
    - Items of the items table without interactions stay out of the catalogue. Of rows with the same item id the first
      that has a title is kept (the first of all where none has).
    - Titles: HTML entities unescaped, blanks and control characters collapsed to a space. An item without a title
      gets `[untitled item <item_id>]`.

    Args:
        interactions: one row for each interaction; any table that [`load_interactions`] takes, but no path.
        items (*optional*): one row for each item. Without it, titles and attributes are taken from the columns of the
            same names in `interactions`, where it has them.
        user_column, item_column, timestamp_column, title_column, attribute_columns: see [`load_interactions`].
        k_core (`int`, *optional*, defaults to 0): the least number of interactions of a user and of an item; 0 is off.
        timestamp_unit (`str`, *optional*, defaults to `"auto"`): `"seconds"`, `"milliseconds"`, `"microseconds"` or
            `"nanoseconds"` since 1970, or `"unknown"` for numbers that only give an order; `"auto"` recognises it.
        on_broken_row (`str`, *optional*, defaults to `"error"`): `"drop"` leaves out rows with a missing id, a time
            that cannot be read or, in files, the wrong number of fields, and counts them by reason in the report.

    Raises:
        ValueError: a missing column, no rows, a broken cell, two units of time in one column, two tables
            without a common item id, or nothing left after the k-core filter.
    """
    names = {"user_column": user_column, "item_column": item_column, "timestamp_column": timestamp_column}
    check_options(k_core, attribute_columns, title_column=title_column, **names)
    if on_broken_row not in ON_BROKEN_ROW:
        raise ValueError(f"`on_broken_row` must be one of {ON_BROKEN_ROW}, got {shown(on_broken_row)}.")
    if timestamp_unit not in ("auto", "unknown", *UNITS):
        known = ", ".join(UNITS)
        raise ValueError(f"`timestamp_unit` must be auto, unknown or one of {known}, got {shown(timestamp_unit)}.")
    flags = {user_column: "--user_column", item_column: "--item_column", timestamp_column: "--timestamp_column"}
    frame = as_frame(interactions, None, (user_column, item_column), "interactions")
    items_frame = None if items is None else as_frame(items, None, (item_column,), "items")
    check_columns(frame.columns, flags, "interactions")
    if len(frame) == 0:
        raise ValueError("interactions: the table holds no rows.")
    rows = read_rows(frame, user_column, item_column, timestamp_column, timestamp_unit, on_broken_row == "drop")
    report = rows.report
    users, items_, times = rows.users, rows.items, rows.times

    keys, tie_order = [users, times], "order of the rows"
    if ORDER_COLUMN in frame.columns:
        keys.append(tie_break(frame[ORDER_COLUMN])[rows.kept])
        tie_order = f"column `{ORDER_COLUMN}`"
    order = stable_order(*keys)
    users = np.repeat(np.arange(len(rows.user_ids), dtype=users.dtype), np.bincount(users))  # users[order], sooner
    items_, times = items_[order], times[order]
    del order, keys

    rows_sorted = len(users)
    users, items_, times, dropped = without_repeats(users, items_, times)
    report |= dropped
    if k_core:
        kept = k_core_positions(users, items_, k_core)
        users, items_, times = users[kept], items_[kept], times[kept]
    n_of_user = np.bincount(users, minlength=len(rows.user_ids))
    user_list, item_list = np.flatnonzero(n_of_user), np.flatnonzero(np.bincount(items_, minlength=len(rows.item_ids)))
    report |= {
        "k_core": k_core,
        "k_core_users_dropped": len(rows.user_ids) - len(user_list),
        "k_core_items_dropped": len(rows.item_ids) - len(item_list),
        "k_core_interactions_dropped": rows_sorted - sum(dropped.values()) - len(users),
    }
    if len(users) == 0:
        raise ValueError(
            f"No interaction is left after the filter `k_core={shown(k_core)}`. Give a smaller `--k_core`."
        )

    table, item_index, table_report = build_item_table(
        frame,
        items_frame,
        rows.items_of_all_rows,
        rows.item_ids,
        item_list,
        item_column=item_column,
        title_column=title_column,
        attribute_columns=attribute_columns,
        missing_ok=on_broken_row == "drop",
    )
    same_user = users[1:] == users[:-1]
    ties = int((same_user & (times[1:] == times[:-1])).sum())
    if len(times) > 1 and times.min() == times.max():
        logger.warning("All timestamps are equal: the histories follow the %s.", tie_order)
    all_users = len(user_list) == len(rows.user_ids)
    report |= {
        "tie_order": tie_order,
        "tied_consecutive_interactions": f"{100 * ties / max(int(same_user.sum()), 1):.1f} %",
        "timestamp_unit": rows.unit,
        "first_time": format_time(times.min(), rows.unit),
        "last_time": format_time(times.max(), rows.unit),
        **table_report,
        "users": len(user_list),
        "users_with_one_interaction": int((n_of_user == 1).sum()),
        "items": len(table),
        "interactions": len(users),
    }
    return Interactions(
        user_ids=rows.user_ids if all_users else rows.user_ids.take(user_list),
        items=table,
        item_index=item_index[items_],
        timestamps=times,
        offsets=np.concatenate([[0], n_of_user[user_list].cumsum()]).astype(np.int64),
        report=report,
        timestamp_unit=rows.unit,
    )
