"""External ids as text, by value: 5, 5.0 and "5" are one id, "05" is another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

# What str(nan), str(pd.NA) and str(pd.NaT) leave in a file. "None", "null" and "NA" stay: they are real names.
MISSING_TEXT = {"", "nan", "<na>", "nat"}
SURROGATE = re.compile(r"[\ud800-\udfff]")
WRITTEN_AS_FLOAT = re.compile(r"-?\d+\.0")


def shown(value: Any) -> str:
    """A value as errors show it, whatever it is and however long."""
    try:
        return f"{value!r:.100}"
    except Exception:  # an integer of too many digits, or an object whose `repr` fails
        return f"<{type(value).__name__} that cannot be shown>"


def is_unicode(text: str) -> bool:
    """Whether a text can be tokenized and saved: it holds no half of a character (a lone surrogate)."""
    return text.isascii() or not SURROGATE.search(text)


def id_text(value: Any, name: str = "An id") -> str:
    """
    One id as text, without the blanks around it.

    Args:
        name (`str`): how the error names what the id came from.

    Raises:
        ValueError: bytes that are not UTF-8, or an integer of thousands of digits.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} holds bytes that are not UTF-8: {value!r}.") from error
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    try:
        return str(value).strip()
    except ValueError as error:  # Python writes no integers of more than some thousand digits
        raise ValueError(f"{name} holds an integer of too many digits to be one.") from error


def missing_places(texts: Sequence[str]) -> list[int]:
    """Where a text says nothing, or what a missing value left in a file."""
    return [place for place, text in enumerate(texts) if text.strip().lower() in MISSING_TEXT]


def without_float_zeros(texts: list[str]) -> list[str]:
    """The texts without ".0" where all have it (empty ones aside): a column of whole numbers, written as floats."""
    whole = any(texts) and all(not text or WRITTEN_AS_FLOAT.fullmatch(text) for text in texts)
    return [text[:-2] for text in texts] if whole else texts


def id_texts(values: Sequence, name: str) -> list[str]:
    """
    Ids as text, in their order; the same rules as for the ids of a table (`rarec_hf.data.columns.read_ids`).

    Args:
        values: a list, array, tensor, index or series of texts or numbers.
        name (`str`): how errors name them, such as `"item_ids"`.

    Raises:
        ValueError: no flat list of texts or numbers, missing ids (with their count and the first place), floats too
            large to be exact.
    """
    if isinstance(values, (str, bytes)):
        raise ValueError(f"{name} must be a list of ids, got the text {values!r}.")
    kind = getattr(values, "dtype", None)
    if isinstance(kind, np.dtype) and kind.kind == "f" and len(values):
        if np.abs(np.nan_to_num(np.asarray(values))).max() > 2.0 ** (np.finfo(kind).nmant + 1):
            raise ValueError(f"{name} holds ids as floats too large to be exact. Store them as integers or text.")
    cells = values.tolist() if hasattr(values, "tolist") else list(values)
    if strange := [cell for cell in cells if not isinstance(cell, (str, bytes, int, float, np.integer, np.floating))]:
        raise ValueError(f"{name} must hold texts or numbers as ids, found {type(strange[0]).__name__}.")
    texts = [id_text(cell, name) for cell in cells]
    if missing := missing_places(texts):
        raise ValueError(f"{name} has {len(missing)} empty ids, the first at place {missing[0]} (counted from 0).")
    return without_float_zeros(texts)


__all__ = ["MISSING_TEXT", "id_text", "id_texts", "is_unicode", "missing_places", "shown", "without_float_zeros"]
