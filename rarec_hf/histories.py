"""What `recommend()` is asked with: histories and counts of any type, taken as they are meant or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from .ids import shown


def as_histories(history: Any) -> tuple[list[list[Any]], bool]:
    """
    One history or many, of whatever type, as lists; and whether they are many. An empty list is one empty history.

    Raises:
        ValueError: a text, no list, something without an order, or histories and ids side by side.
    """
    entries = _listed(history, "`history`")
    inner = [hasattr(entry, "__len__") and not isinstance(entry, (str, bytes)) for entry in entries]
    if not any(inner):
        return [entries], False
    if not all(inner):
        place = inner.index(False)
        raise ValueError(
            f"`history` holds histories and ids side by side: entry {inner.index(True)} is a list, entry {place} is "
            f"{shown(entries[place])}. Give one list of ids, or a list of such lists."
        )
    return [_listed(entry, f"History {place}") for place, entry in enumerate(entries)], True


def _listed(value: Any, name: str) -> list[Any]:
    if isinstance(value, (str, bytes)):
        raise ValueError(f"{name}: expected a list of item ids, got the text {shown(value)}. Put it into a list.")
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise ValueError(
            f"{name}: expected a list of item ids, oldest first, got a {type(value).__name__}: {shown(value)}."
        )
    return [entry.tolist() if hasattr(entry, "tolist") else entry for entry in value]


def whole_number(value: Any, name: str) -> int:
    """
    A count of at least 1.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"`{name}` must be a whole number of at least 1, got {shown(value)}.")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {shown(value)}.")
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


__all__ = ["as_histories", "whole_number", "yes_or_no"]
