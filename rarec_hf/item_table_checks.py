"""What an item table and the limits of a prompt must be, with errors that name the item or the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .ids import id_text, is_unicode, missing_places, shown


def checked_ids(item_ids: Any) -> list[str]:
    """
    Item ids as text, one an item and each once.

    Raises:
        ValueError: no list, an id that is no text or number, or empty, or one that stands twice.
    """
    ids = [str(i) if type(i) is str else _id(i, n) for n, i in enumerate(_listed(item_ids, "item_ids"))]
    if missing := missing_places(ids):
        raise ValueError(
            f"Item ids (`item_ids`) must not be empty, {len(missing)} are, the first at place {missing[0]} (counted "
            f"from 0): {ids[missing[0]]!r}."
        )
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        repeated = next(i for i in ids if i in seen or seen.add(i))
        raise ValueError(f"Item ids (`item_ids`) must be distinct, {repeated!r} stands twice.")
    _check_unicode(ids, ids, "id")
    return ids


def checked_titles(titles: Any, item_ids: Sequence[str]) -> list[str]:
    """
    A title an item.

    Raises:
        ValueError: no list of texts.
    """
    titles = _listed(titles, "titles")
    for n, title in enumerate(titles):
        if not isinstance(title, str):
            raise ValueError(f"`titles` must be texts, the title at place {n} (counted from 0) is {shown(title)}.")
    if len(titles) == len(item_ids):
        _check_unicode(titles, item_ids, "title")
    return titles


def checked_attributes(attributes: Any, item_ids: Sequence[str]) -> list[dict[str, str]]:
    """
    Names and values of each item's further texts.

    Raises:
        ValueError: no list of such tables, or a name or value that is no text.
    """
    if attributes is None:
        return [{} for _ in item_ids]
    found = []
    for n, table in enumerate(_listed(attributes, "attributes")):
        if not isinstance(table, Mapping):
            raise ValueError(f"`attributes` must hold a table of texts an item, at place {n} is {shown(table)}.")
        for name, value in table.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise ValueError(
                    f"`attributes` must be texts, at place {n} (counted from 0) are {shown(name)}: {shown(value)}."
                )
        found.append(dict(table))
    if len(found) == len(item_ids):
        for text in (dict.keys, dict.values):
            _check_unicode(["".join(text(table)) for table in found], item_ids, "attributes")
    return found


def checked_limits(**limits: Any) -> None:
    """
    Refuses limits that are no whole numbers of at least 1, and a block longer than the history.

    Raises:
        ValueError: names the field.
    """
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"`{name}` must be at least 1, a whole number, got {shown(value)}.")
    if limits["history_block"] > limits["max_history_items"]:
        raise ValueError(
            f"Expected `history_block` at most `max_history_items` ({limits['max_history_items']}), got "
            f"{limits['history_block']}."
        )


def _listed(values: Any, name: str) -> list[Any]:
    values = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Sequence):
        raise ValueError(f"`{name}` must be a list, got a {type(values).__name__}: {shown(values)}.")
    return list(values)


def _id(value: Any, place: int) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, np.integer, np.floating)):
        raise ValueError(f"`item_ids` must be texts or numbers, the id at place {place} is {shown(value)}.")
    return str(value) if isinstance(value, str) else id_text(value, "`item_ids`")


def _check_unicode(texts: Sequence[str], item_ids: Sequence[str], what: str) -> None:
    for text, item in zip(texts, item_ids, strict=True):
        if not is_unicode(text):
            raise ValueError(
                f"The {what} of item {item!r} holds half a character (a lone surrogate): {shown(text)}. Replace it; "
                "tables that are read do so by themselves."
            )


__all__ = ["checked_attributes", "checked_ids", "checked_limits", "checked_titles"]
