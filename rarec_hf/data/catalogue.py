"""The catalogue: which items there are, in which order, and the texts that describe them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .columns import clean_text, read_ids, without_float_zeros
from .tables import check_columns

__all__ = ["ItemTable", "build_item_table", "placeholder_title"]

logger = logging.getLogger(__name__)


def placeholder_title(item_id: str) -> str:
    """The visible title of an item that has none."""
    return f"[untitled item {item_id}]"


@dataclass(frozen=True)
class ItemTable:
    """
    The catalogue; the position in each list is the item index.

    Attributes:
        item_ids (`list[str]`): the external ids.
        titles (`list[str]`): one line of plain text each, never empty.
        attributes (`list[dict[str, str]]`): attribute name -> text, without the attributes that an item lacks.
    """

    item_ids: list[str]
    titles: list[str]
    attributes: list[dict[str, str]]

    def __post_init__(self) -> None:
        if not len(self.item_ids) == len(self.titles) == len(self.attributes):
            raise ValueError(
                "`item_ids`, `titles` and `attributes` must have the same length, got "
                f"{len(self.item_ids)}, {len(self.titles)} and {len(self.attributes)}."
            )

    def __len__(self) -> int:
        return len(self.item_ids)


def build_item_table(
    interactions_frame: pd.DataFrame,
    items_frame: pd.DataFrame | None,
    row_items: np.ndarray,
    item_ids: list[str],
    kept: np.ndarray,
    *,
    item_column: str,
    title_column: str,
    attribute_columns: Sequence[str],
) -> tuple[ItemTable, np.ndarray, dict[str, int | str]]:
    """
    The catalogue of the items that have interactions; the rules stand in [`build_interactions`].

    Args:
        interactions_frame (`pd.DataFrame`): gives titles and attributes where `items_frame` is `None`.
        items_frame (`pd.DataFrame`, *optional*): the items table.
        row_items (`np.ndarray` of shape `(n_rows,)`): item code of each row of `interactions_frame`.
        item_ids (`list[str]`): item code -> item id, in the order of first appearance in the interactions.
        kept (`np.ndarray`): the item codes that form the catalogue.
        item_column, title_column, attribute_columns: column names.

    Returns:
        the [`ItemTable`], the item index of each item code (-1 for items not kept) and the counts for the report.
    """
    report: dict[str, int | str] = {}
    if items_frame is None:
        frame, codes, table_ids = interactions_frame, row_items, item_ids
        check_columns(frame.columns, dict.fromkeys(attribute_columns, "--attribute_columns"), "interactions")
    else:
        flags = {item_column: "--item_column", title_column: "--title_column"}
        check_columns(
            items_frame.columns, flags | dict.fromkeys(attribute_columns, "--attribute_columns"), table="items"
        )
        if len(items_frame) == 0:
            raise ValueError("items: the table holds no rows.")
        frame = items_frame
        codes, table_ids = read_ids(frame[item_column], "items")
        in_table = pd.Index(table_ids).isin(item_ids)
        if not in_table.any():
            raise ValueError(
                "No item id of the interactions occurs in the items table. The ids begin with "
                f"{item_ids[:3]} there and with {table_ids[:3]} here: do both `{item_column}` columns hold "
                "the same kind of id?"
            )
        report["items_in_table"] = len(table_ids)
        report["items_without_interactions"] = int((~in_table).sum())
        report["duplicate_item_rows_dropped"] = len(frame) - len(table_ids)

    # catalogue order: the table's, then (for ids missing there) that of the interactions
    place = pd.Index(table_ids).get_indexer([item_ids[code] for code in kept])
    order = np.argsort(np.where(place >= 0, place, len(table_ids) + np.arange(len(kept))), kind="stable")
    kept, place = kept[order], place[order]

    has_titles = title_column in frame.columns
    titles = _texts(frame[title_column]) if has_titles else np.full(len(frame), "", dtype=object)
    titled = titles != ""
    by_item = np.lexsort((~titled, codes))  # stable: inside an item titled rows first, else as they stand
    chosen = by_item[np.searchsorted(codes[by_item], np.arange(len(table_ids)))]  # one row for each table id

    item_index = np.full(len(item_ids), -1, dtype=np.int64)
    item_index[kept] = np.arange(len(kept))
    ids = [item_ids[code] for code in kept]
    rows = np.where(place >= 0, chosen[place], -1)
    texts = [titles[row] if row >= 0 else "" for row in rows]
    attributes: list[dict[str, str]] = [{} for _ in ids]
    for column in attribute_columns:
        values = _texts(frame[column])
        for row, item in zip(rows, attributes, strict=True):
            if row >= 0 and values[row]:
                item[column] = values[row]

    raw = frame[title_column].to_numpy(dtype=object) if has_titles else titles
    title_codes = pd.factorize(titles)[0]
    different = np.unique(codes[titled] * len(frame) + title_codes[titled]) // len(frame)  # once for each other title
    report |= {
        "items_missing_from_table": int((place < 0).sum()),
        "conflicting_item_titles": int((np.bincount(different, minlength=1) > 1).sum()),
        "titles_cleaned": sum(bool(text) and str(raw[row]) != text for row, text in zip(rows, texts, strict=True)),
        "untitled_items": sum(not text for text in texts),
    }
    if report["untitled_items"] == len(ids):
        logger.warning("No item has a title: hard prompts will hold placeholders only. Give an items table.")
    texts = [text or placeholder_title(item_id) for item_id, text in zip(ids, texts, strict=True)]
    return ItemTable(ids, texts, attributes), item_index, report


def _texts(column: pd.Series) -> np.ndarray:
    """`clean_text` of every cell, each distinct value cleaned once."""
    try:
        codes, values = pd.factorize(column)
    except TypeError:  # lists
        codes, values = np.arange(len(column)), column
    texts = without_float_zeros([clean_text(value) for value in values])
    return np.array([*texts, ""], dtype=object)[codes]  # code -1, missing: the last one
