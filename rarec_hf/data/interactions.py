"""Interactions and the catalogue: user, item and timestamp tables in, validated arrays out."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from .catalogue import ItemTable, build_item_table, placeholder_title
from .columns import read_ids
from .tables import check_columns, read_table, source_name
from .timestamps import read_timestamps, recognise_unit, time_to_number

__all__ = ["Interactions", "ItemTable", "build_interactions", "load_interactions", "placeholder_title", "to_timestamp"]

ORDER_COLUMN = "order"


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """
    All users' histories over one catalogue, grouped by user and in time order inside a user.

    Attributes:
        user_ids (`list[str]`): the external ids; the position is the user index.
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

    user_ids: list[str]
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

    def fingerprint(self) -> str:
        """16 hex digits of a sha256 over the ids, titles and histories: the same for the same data, in any format."""
        digest = hashlib.sha256()
        for texts in (self.user_ids, self.items.item_ids, self.items.titles):
            digest.update(json.dumps(texts).encode())
        for numbers in (self.offsets, self.item_index):
            digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
        return digest.hexdigest()[:16]

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
    interactions: str | os.PathLike[str],
    items: str | os.PathLike[str] | None = None,
    *,
    user_column: str = "user_id",
    item_column: str = "item_id",
    timestamp_column: str = "timestamp",
    title_column: str = "title",
    attribute_columns: Sequence[str] = (),
    k_core: int = 0,
) -> Interactions:
    """
    Read interactions and, *optionally*, an items table, then apply the rules of [`build_interactions`].

    Args:
        interactions (`str` or `os.PathLike`): a .parquet, .csv, .tsv or .jsonl file (`.gz` too except for parquet),
            or a `datasets` id, read as `load_dataset(id, split="train")`; `"id:config"` names a configuration.
        items (`str` or `os.PathLike`, *optional*): the same for the items. Without it, titles and attributes are taken
            from the interactions table where it has them.
        user_column, item_column, timestamp_column, title_column (`str`, *optional*): column names.
        attribute_columns (`Sequence[str]`, *optional*): further columns of the items, such as a category.
        k_core (`int`, *optional*, defaults to 0): see [`build_interactions`].

    Raises:
        FileNotFoundError: a source is neither a file nor a `datasets` id that could be loaded.
        ValueError: a broken file, a missing column or a broken cell; the text says which and how to mend it.
    """
    names = {
        "user_column": user_column,
        "item_column": item_column,
        "timestamp_column": timestamp_column,
        "title_column": title_column,
        "attribute_columns": attribute_columns,
    }
    flags = {user_column: "--user_column", item_column: "--item_column", timestamp_column: "--timestamp_column"}
    extra = [ORDER_COLUMN] if items is not None else [ORDER_COLUMN, title_column, *attribute_columns]
    interactions_frame = read_table(interactions, flags, extra, "interactions")
    items_frame = None
    if items is not None:
        flags = {item_column: "--item_column", title_column: "--title_column"}
        flags |= dict.fromkeys(attribute_columns, "--attribute_columns")
        items_frame = read_table(items, flags, table="items")
    built = build_interactions(interactions_frame, items_frame, **names, k_core=k_core)
    sources = {"interactions_source": source_name(interactions)}
    if items is not None:
        sources["items_source"] = source_name(items)
    return replace(built, report={**sources, **built.report})


def build_interactions(
    interactions_frame: pd.DataFrame,
    items_frame: pd.DataFrame | None = None,
    *,
    user_column: str = "user_id",
    item_column: str = "item_id",
    timestamp_column: str = "timestamp",
    title_column: str = "title",
    attribute_columns: Sequence[str] = (),
    k_core: int = 0,
) -> Interactions:
    """
    Validate two tables and turn them into [`Interactions`]; nothing is read or written.

    Rules, each counted in the report:

    - Ids become text by value (5, 5.0 and "5" are one id, "05" is another), the same way in both tables. An empty id
      is an error, and so is a timestamp that is no finite time.
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
        interactions_frame (`pd.DataFrame`): one row for each interaction.
        items_frame (`pd.DataFrame`, *optional*): one row for each item. Without it, titles and attributes are taken
            from the columns of the same names in `interactions_frame`, where it has them.
        user_column, item_column, timestamp_column, title_column, attribute_columns: see [`load_interactions`].
        k_core (`int`, *optional*, defaults to 0): the least number of interactions of a user and of an item; 0 is off.

    Raises:
        ValueError: a missing column, no rows, a broken cell, two tables without a common item id, or nothing left
            after the k-core filter.
    """
    if k_core < 0:
        raise ValueError(f"`k_core` must be 0 (off) or more, got {k_core}.")
    flags = {user_column: "--user_column", item_column: "--item_column", timestamp_column: "--timestamp_column"}
    check_columns(interactions_frame.columns, flags, "interactions")
    if len(interactions_frame) == 0:
        raise ValueError("interactions: the table holds no rows.")
    users, user_ids = read_ids(interactions_frame[user_column], "interactions")
    row_items, item_ids = read_ids(interactions_frame[item_column], "interactions")
    times = read_timestamps(interactions_frame[timestamp_column], "interactions")
    unit = recognise_unit(times, interactions_frame[timestamp_column], "interactions")
    report: dict[str, int | str] = {"interactions_read": len(users)}

    sort_keys = [times, users]
    tie_order = "order of the rows"
    if ORDER_COLUMN in interactions_frame.columns:
        sort_keys.insert(0, _tie_break(interactions_frame[ORDER_COLUMN]))
        tie_order = f"column `{ORDER_COLUMN}`"
    order = np.lexsort(sort_keys)  # stable; the last key is the first to count
    users, items, times = users[order], row_items[order], times[order]

    first = np.sort(np.unique(users * len(item_ids) + items, return_index=True)[1])
    exact = int(pd.DataFrame({"user": users, "item": items, "time": times}).duplicated().sum())
    report |= {"exact_duplicates_dropped": exact, "repeats_dropped": len(users) - len(first) - exact}
    users, items, times = users[first], items[first], times[first]

    kept = _k_core(users, items, k_core)
    report |= {
        "k_core": k_core,
        "k_core_users_dropped": len(user_ids) - len(np.unique(users[kept])),
        "k_core_items_dropped": len(item_ids) - len(np.unique(items[kept])),
        "k_core_interactions_dropped": len(users) - len(kept),
    }
    if len(kept) == 0:
        raise ValueError(f"No interaction is left after the filter `k_core={k_core}`. Give a smaller `--k_core`.")
    users, items, times = users[kept], items[kept], times[kept]

    table, item_index, table_report = build_item_table(
        interactions_frame,
        items_frame,
        row_items,
        item_ids,
        np.unique(items),
        item_column=item_column,
        title_column=title_column,
        attribute_columns=attribute_columns,
    )
    user_list, users = np.unique(users, return_inverse=True)
    same_user = users[1:] == users[:-1]
    ties = int((same_user & (times[1:] == times[:-1])).sum())
    report |= {
        "tie_order": tie_order,
        "tied_consecutive_interactions": f"{100 * ties / max(int(same_user.sum()), 1):.1f} %",
        **table_report,
        "users": len(user_list),
        "items": len(table),
        "interactions": len(users),
    }
    return Interactions(
        user_ids=[user_ids[user] for user in user_list],
        items=table,
        item_index=item_index[items],
        timestamps=times,
        offsets=np.concatenate([[0], np.bincount(users, minlength=len(user_list)).cumsum()]).astype(np.int64),
        report=report,
        timestamp_unit=unit,
    )


def _tie_break(column: pd.Series) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax())
        raise ValueError(
            f"interactions: the column `{ORDER_COLUMN}` breaks ties between equal timestamps and must hold numbers, "
            f"found {column.iloc[row]!r} in data row {row + 1}. Rename the column if it means something else."
        )
    return values


def _k_core(users: np.ndarray, items: np.ndarray, k_core: int) -> np.ndarray:
    """Positions of the interactions that remain when every user and every item keeps at least `k_core` of them."""
    kept = np.arange(len(users))
    while True:
        enough = (np.bincount(users[kept])[users[kept]] >= k_core) & (np.bincount(items[kept])[items[kept]] >= k_core)
        if enough.all():
            return kept
        kept = kept[enough]
