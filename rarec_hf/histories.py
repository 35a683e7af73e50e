"""What a model is asked with: histories, item indices and counts of any type, taken as meant or refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .ids import shown


def as_histories(history: Any) -> tuple[list[list[Any]], bool]:
    """
    One history or many, of whatever type, as lists; and whether they are many. An empty list is one empty history.

    Raises:
        ValueError: a text, no list, something without an order, or histories and ids side by side.
    """
    entries = as_history(history, "`history`")
    inner = [hasattr(entry, "__len__") and not isinstance(entry, (str, bytes)) for entry in entries]
    if not any(inner):
        return [entries], False
    if not all(inner):
        place = inner.index(False)
        raise ValueError(
            f"`history` holds histories and ids side by side: entry {inner.index(True)} is a list, entry {place} is "
            f"{shown(entries[place])}. Give one list of ids, or a list of such lists."
        )
    return [as_history(entry, f"History {place}") for place, entry in enumerate(entries)], True


def as_history(value: Any, name: str) -> list[Any]:
    """
    One history of item ids as a list.

    Raises:
        ValueError: a text, no list, or something without an order.
    """
    if isinstance(value, (str, bytes)):
        raise ValueError(f"{name}: expected a list of item ids, got the text {shown(value)}. Put it into a list.")
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise ValueError(
            f"{name}: expected a list of item ids, oldest first, got a {type(value).__name__}: {shown(value)}."
        )
    return [entry.tolist() if hasattr(entry, "tolist") else entry for entry in value]


def index_lists(histories: Any) -> list[list[int]]:
    """
    Histories of item indices as lists.

    Raises:
        ValueError: no list of lists of whole numbers; a float or an item id is none.
    """
    return [
        as_indices(history, f"History {place}") for place, history in enumerate(_entries(histories, "`histories`"))
    ]


def as_indices(values: Any, name: str) -> list[int]:
    """
    Item indices as a list; whether there are such items is not looked at.

    Raises:
        ValueError: no list of whole numbers.
    """
    values = values.tolist() if hasattr(values, "tolist") else values
    entries = [entry.tolist() if hasattr(entry, "tolist") else entry for entry in _entries(values, name)]
    if strange := [entry for entry in entries if type(entry) is not int]:
        raise ValueError(
            f"{name}: expected item indices, whole numbers from 0, got {shown(strange[0])}. "
            "`model.processor.item_indices` makes them of item ids."
        )
    return entries


def _entries(values: Any, name: str) -> Iterable[Any]:
    no_list = isinstance(values, (str, bytes, Mapping))
    if no_list or not (hasattr(values, "__len__") and hasattr(values, "__getitem__")):
        raise ValueError(f"{name}: expected a list, got a {type(values).__name__}: {shown(values)}.")
    return values


def whole_number(value: Any, name: str, most: int | None = None) -> int:
    """
    A count of at least 1, and at most `most`.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"`{name}` must be a whole number of at least 1, got {shown(value)}.")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {shown(value)}.")
    if most is not None and value > most:
        raise ValueError(f"`{name}` must be at most {most}, got {shown(value)}.")
    return int(value)


def yes_or_no(value: Any, name: str) -> bool:
    """
    True or False.

    Raises:
        ValueError: it is neither; a text such as "false" would count as True.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False, got {shown(value)}.")
    return bool(value)


__all__ = ["as_histories", "as_history", "as_indices", "index_lists", "whole_number", "yes_or_no"]
