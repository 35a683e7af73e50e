"""The catalogue: which items there are, in which order, and the texts that describe them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .column_names import check_columns
from .columns import clean_texts, read_ids
from .ordering import first_rows
from .texts import Texts

__all__ = ["ItemTable", "build_item_table", "placeholder_title", "placeholder_titles"]

logger = logging.getLogger(__name__)


PLACEHOLDER = ("[untitled item ", "]")  # around the item id


def placeholder_title(item_id: str) -> str:
    """The visible title of an item that has none."""
    return item_id.join(PLACEHOLDER)


def placeholder_titles(item_ids: Sequence[str]) -> Texts:
    """[`placeholder_title`] of each id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    before, after, nothing = (pa.scalar(text, pa.large_string()) for text in (*PLACEHOLDER, ""))
    return Texts(pc.binary_join_element_wise(before, pa.array(item_ids, pa.large_string()), after, nothing))


@dataclass(frozen=True)
class ItemTable:
    """
    The catalogue; the position in each list is the item index.

    Attributes:
        item_ids (`Sequence[str]`): the external ids; as read, [`Texts`].
        titles (`Sequence[str]`): one line of plain text each, never empty; as read, [`Texts`].
        attributes (`list[dict[str, str]]`): attribute name -> text, without the attributes that an item lacks.
    """

    item_ids: Sequence[str]
    titles: Sequence[str]
    attributes: list[dict[str, str]]

    def __post_init__(self) -> None:
        if not len(self.item_ids) == len(self.titles) == len(self.attributes):
            raise ValueError(
                "`item_ids`, `titles` and `attributes` must have the same length, got "
                f"{len(self.item_ids)}, {len(self.titles)} and {len(self.attributes)}."
            )

    def __len__(self) -> int:
        return len(self.item_ids)

    def __repr__(self) -> str:
        names = sorted({name for attributes in self.attributes for name in attributes})
        return f"ItemTable(n_items={len(self)}, attributes={names})"

    def words(self) -> list[str]:
        """What recommenders by words read of each item: its title and its attributes."""
        pairs = zip(self.titles, self.attributes, strict=True)
        return [" ".join([title, *attributes.values()]) for title, attributes in pairs]


def build_item_table(
    interactions_frame: pd.DataFrame,
    items_frame: pd.DataFrame | None,
    row_items: np.ndarray,
    item_ids: Texts,
    kept: np.ndarray,
    *,
    item_column: str,
    title_column: str,
    attribute_columns: Sequence[str],
    missing_ok: bool = False,
) -> tuple[ItemTable, np.ndarray, dict[str, int | str]]:
    """
    The catalogue of the items that have interactions; the rules stand in [`build_interactions`].

    Args:
        interactions_frame (`pd.DataFrame`): gives titles and attributes where `items_frame` is `None`.
        items_frame (`pd.DataFrame`, *optional*): the items table.
        row_items (`np.ndarray` of shape `(n_rows,)`): item code of each row of `interactions_frame`, -1 for a row that
            was dropped.
        item_ids ([`Texts`]): item code -> item id, in the order of first appearance in the interactions.
        kept (`np.ndarray`): the item codes that form the catalogue, ascending.
        item_column, title_column, attribute_columns: column names.
        missing_ok (`bool`, *optional*, defaults to `False`): drop and count rows of the items table without an id.

    Returns:
        the [`ItemTable`], the item index of each item code (-1 for items not kept) and the counts for the report.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    report: dict[str, int | str] = {}
    if items_frame is None:
        frame, codes, n_table = interactions_frame, row_items, len(item_ids)
        check_columns(frame.columns, dict.fromkeys(attribute_columns, "--attribute_columns"), "interactions")
        place = kept
    else:
        frame = items_frame
        codes, table_ids, report = _read_items_table(
            frame, item_ids, item_column, title_column, attribute_columns, missing_ok
        )
        n_table = len(table_ids)
        ids_kept = item_ids if len(kept) == len(item_ids) else item_ids.take(kept)
        place = _places(ids_kept, table_ids)
        # catalogue order: the table's, then (for ids missing there) that of the interactions
        order = np.argsort(np.where(place >= 0, place, n_table + np.arange(len(kept))), kind="stable")
        kept, place = kept[order], place[order]

    item_index = np.full(len(item_ids), -1, dtype=np.int64)
    item_index[kept] = np.arange(len(kept))
    whole = len(kept) == len(item_ids) and (kept[1:] > kept[:-1]).all()
    ids = item_ids if whole else item_ids.take(kept)

    missing = int((place < 0).sum())
    has_titles = title_column in frame.columns
    conflicts = cleaned = 0
    untitled, item_titles = len(ids), placeholder_titles(ids)
    if has_titles or attribute_columns:  # for each item the row that speaks for it, len(frame) for none
        first = np.append(first_rows(codes, n_table), len(frame))
        place = np.where(place >= 0, place, n_table)
    if has_titles:
        title_codes, titles, changed = clean_texts(frame[title_column])
        titled = np.array([bool(title) for title in titles])[title_codes] & (codes >= 0)
        rows = np.flatnonzero(titled)
        first_titled = np.append(first_rows(codes[rows], n_table), len(rows))
        found = first_titled < len(rows)
        first[found] = rows[first_titled[found]]  # a row with a title goes before earlier ones without
        codes_of_items = np.append(title_codes, len(titles) - 1)[first[place]]
        has_title = np.array([bool(title) for title in titles])[codes_of_items]
        untitled = len(ids) - int(has_title.sum())
        found_titles = pa.array(titles, pa.large_string()).take(pa.array(codes_of_items))
        item_titles = Texts(pc.if_else(has_title, found_titles, pa.array(item_titles)))
        cleaned = int(changed[codes_of_items].sum())
        if len(rows) > found.sum():  # items with several titled rows
            same_text = pd.factorize(np.array(titles, dtype=object))[0]  # different cells may clean to one text
            pairs = pd.unique(codes[rows].astype(np.int64) * len(titles) + same_text[title_codes[rows]])
            conflicts = int((np.bincount(pairs // len(titles)) > 1).sum())

    # without attributes one empty dict stands for all: a million of them take a third of a second
    attributes: list[dict[str, str]] = [{} for _ in ids] if attribute_columns else [{}] * len(ids)
    for column in attribute_columns:
        value_codes, values, _ = clean_texts(frame[column])
        codes_of_items = np.append(value_codes, len(values) - 1)[first[place]]
        for item, code in zip(attributes, codes_of_items.tolist(), strict=True):
            if values[code]:
                item[column] = values[code]

    report |= {
        "items_missing_from_table": missing,
        "conflicting_item_titles": conflicts,
        "titles_cleaned": cleaned,
        "untitled_items": untitled,
    }
    if untitled == len(ids):
        logger.warning("No item has a title: hard prompts will hold placeholders only. Give an items table.")
    return ItemTable(ids, item_titles, attributes), item_index, report


def _read_items_table(
    frame: pd.DataFrame,
    item_ids: Texts,
    item_column: str,
    title_column: str,
    attribute_columns: Sequence[str],
    missing_ok: bool,
) -> tuple[np.ndarray, Texts, dict[str, int | str]]:
    flags = {item_column: "--item_column", title_column: "--title_column"}
    check_columns(frame.columns, flags | dict.fromkeys(attribute_columns, "--attribute_columns"), table="items")
    if len(frame) == 0:
        raise ValueError("items: the table holds no rows.")
    codes, table_ids = read_ids(frame[item_column], "items", missing_ok)
    in_interactions = _places(table_ids, item_ids) >= 0
    if not in_interactions.any():
        raise ValueError(
            "No item id of the interactions occurs in the items table. The ids begin with "
            f"{list(item_ids[:3])} there and with {list(table_ids[:3])} here: do both `{item_column}` columns hold "
            "the same kind of id?"
        )
    without_id = int((codes < 0).sum())
    return (
        codes,
        table_ids,
        {
            "items_in_table": len(table_ids),
            "items_without_interactions": int((~in_interactions).sum()),
            "item_rows_without_id_dropped": without_id,
            "duplicate_item_rows_dropped": len(frame) - without_id - len(table_ids),
        },
    )


def _places(wanted: Texts, among: Texts) -> np.ndarray:
    """Where each of the wanted ids stands among the others, -1 for those that do not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.index_in(pa.array(wanted, pa.large_string()), value_set=pa.array(among, pa.large_string()))
    return pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64)
