"""Single columns in: raw cells of any type to checked ids, times and texts."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["clean_text", "is_missing", "read_ids", "row_name", "without_float_zeros"]

# What str(nan), str(pd.NA) and str(pd.NaT) leave in a file. "None", "null" and "NA" stay: they are real names.
MISSING_TEXT = {"", "nan", "<na>", "nat"}
WRITTEN_AS_FLOAT = re.compile(r"-?\d+\.0")
ENTITY = re.compile(r"&#?\w+;")  # with its semicolon: "Q&AMP" and "R&Lt. Dan" are no entities
BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
SHARDS = "rarec_hf_shards"  # key in `attrs` of a frame that was read from several files: [(name, rows), ...]
SURROGATE = re.compile(r"[\ud800-\udfff]")


def is_missing(value: Any) -> bool:
    """Whether a cell says nothing: None, NaN, NaT, an empty text or the text that a NaN leaves in a file."""
    if isinstance(value, str):
        return value.strip().lower() in MISSING_TEXT
    if isinstance(value, (list, tuple, np.ndarray)):
        return all(is_missing(part) for part in value)
    return value is None or bool(pd.isna(value))


def row_name(column: pd.Series, row: int) -> str:
    """How an error names row `row` of a column: by its number in the file, and by the file where there are several."""
    for shard, length in column.attrs.get(SHARDS, ()):
        if row < length:
            return f"data row {row + 1} of {shard} (the header not counted)"
        row -= length
    return f"data row {row + 1} (the header not counted)"


def read_ids(column: pd.Series, table: str) -> tuple[np.ndarray, list[str]]:
    """
    Ids of any type to text, by value: 5, 5.0 and "5" are the same id, "05" is another. Blanks around an id go.

    A text column in which every id looks like "5.0" was written from floats and reads as "5".

    Returns:
        codes of shape `(n_rows,)` and the distinct ids in the order of first appearance.

    Raises:
        ValueError: missing ids (with column, count and first row), floats too large to be exact, other types.
    """
    name = f"{table}: the column `{column.name}`"
    try:
        codes, values = pd.factorize(column)
    except TypeError as error:
        found = type(column.iloc[0]).__name__
        raise ValueError(f"{name} must hold texts or numbers as ids, found {found}.") from error
    if values.dtype.kind == "f":
        exact = 2.0 ** (np.finfo(np.dtype(values.dtype.name.lower())).nmant + 1)
        if len(values) and np.abs(np.asarray(values, dtype=float)).max() > exact:
            raise ValueError(f"{name} holds ids as floats too large to be exact. Store them as integers or text.")
    texts = [_id_text(value, name) for value in values]
    missing = np.append(np.array([is_missing(text) for text in texts], dtype=bool), True)[codes]  # code -1: the True
    if missing.any():
        raise ValueError(
            f"{name} has {int(missing.sum())} empty ids, the first in data row {int(missing.argmax()) + 1} "
            "(the header not counted). Fill them in or drop these rows."
        )
    merged, distinct = pd.factorize(np.array(without_float_zeros(texts), dtype=object))
    return merged[codes], distinct.tolist()


def without_float_zeros(texts: list[str]) -> list[str]:
    """The texts without ".0" where all have it (empty ones aside): a column of whole numbers, written as floats."""
    whole = any(texts) and all(not text or WRITTEN_AS_FLOAT.fullmatch(text) for text in texts)
    return [text[:-2] for text in texts] if whole else texts


def _id_text(value: Any, name: str) -> str:
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} holds bytes that are not UTF-8: {value!r}.") from error
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def clean_text(value: Any) -> str:
    """
    One line of plain text: HTML entities unescaped (doubly escaped ones too), runs of blanks and control characters
    collapsed to one space; lists are joined by commas, a missing value is the empty text.
    """
    if is_missing(value):
        return ""
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(filter(None, map(clean_text, value)))
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    text = str(value)
    for _ in range(3):
        unescaped = ENTITY.sub(lambda match: html.unescape(match[0]), text)
        if unescaped == text:
            break
        text = unescaped
    text = SURROGATE.sub("\ufffd", text)  # half characters could be neither tokenized nor saved
    return BLANK.sub(" ", text).strip()
