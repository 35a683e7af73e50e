"""Single columns in: raw cells of any type to checked ids, times and texts."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import pandas as pd

from ..ids import MISSING_TEXT, SURROGATE, id_text, shown, without_float_zeros
from .ordering import renumber
from .texts import Texts

__all__ = ["MALFORMED", "SHARDS", "clean_text", "clean_texts", "is_missing", "read_ids", "row_name"]

ENTITY = re.compile(r"&#?\w+;")  # with its semicolon: "Q&AMP" and "R&Lt. Dan" are no entities
BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
# What may change under `clean_text`: entities, control characters, any blank but single inner spaces.
UNCLEAN = r"&|[\x00-\x1f\x7f-\x{9f}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]|  |^ | $"
SHARDS = "rarec_hf_shards"  # key in `attrs` of a frame that was read from several files: [(name, rows), ...]
MALFORMED = "rarec_hf_malformed_rows"  # likewise: how many rows of a file were left out as malformed


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


def read_ids(column: pd.Series, table: str, missing_ok: bool = False) -> tuple[np.ndarray, Texts]:
    """
    Ids of any type to text, by value: 5, 5.0 and "5" are the same id, "05" is another. Blanks around an id go.

    A text column in which every id looks like "5.0" was written from floats and reads as "5".

    Args:
        column (`pd.Series`): texts, whole numbers of any size, floats, or a mixture.
        table (`str`): how errors name the table.
        missing_ok (`bool`, *optional*, defaults to `False`): give missing ids the code -1 and raise no error.

    Returns:
        codes of shape `(n_rows,)` and the distinct ids in the order of first appearance.

    Raises:
        ValueError: missing ids (with column, count and first row), floats too large to be exact, other types.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    name = f"{table}: the column `{column.name}`"
    codes, values = _distinct(column, name)
    texts, as_they_were = _texts_of_ids(values, name)
    if as_they_were and values.dtype.kind in "iu" and (not len(codes) or codes.min() >= 0):
        return codes, Texts(texts)  # numbers: nothing is missing, nothing looks like a float
    missing = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(MISSING_TEXT), texts.type))
    missing = missing.to_numpy(zero_copy_only=False)
    of_row = np.append(missing, True)[codes]  # code -1: the True
    if of_row.any() and not missing_ok:
        raise ValueError(
            f"{name} has {int(of_row.sum())} empty ids, the first in {row_name(column, int(of_row.argmax()))}. "
            "Fill them in, or drop these rows with `on_broken_row='drop'` (`--on_broken_row drop`)."
        )
    whole = pc.match_substring_regex(texts, r"^-?[0-9]+\.0$").to_numpy(zero_copy_only=False)
    if whole.any() and (whole | missing).all():  # as `without_float_zeros` does
        texts, as_they_were = pc.utf8_slice_codeunits(texts, 0, -2), False
    if as_they_were and not missing.any():
        return codes, Texts(texts)
    encoded = pc.if_else(missing, None, texts).dictionary_encode()
    merged = np.append(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), -1).astype(np.int64)
    codes, kept = renumber(merged[codes], len(encoded.dictionary))
    return codes, Texts(encoded.dictionary.take(pa.array(kept)))


def _distinct(column: pd.Series, name: str) -> tuple[np.ndarray, Any]:
    """Codes in the order of first appearance (-1: missing) and the distinct values, for numbers and texts alike."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, used = renumber(column.cat.codes.to_numpy(), len(column.cat.categories))
        return codes, column.cat.categories.take(used)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu" and len(column):
        numbers = column.to_numpy()
        if numbers.dtype.itemsize < 8:
            numbers = numbers.astype(np.int64)  # differences of small types would overflow
        low, span = numbers.min(), int(numbers.max()) - int(numbers.min()) + 1
        if span <= 4 * len(numbers) + 1000:  # dense: a table of all numbers between is smaller than a hash
            codes, used = renumber((numbers - low).astype(np.int64, copy=False), span)
            return codes, low + used.astype(numbers.dtype)
    try:
        codes, values = pd.factorize(column)
    except TypeError as error:
        found = type(column.iloc[0]).__name__
        raise ValueError(f"{name} must hold texts or numbers as ids, found {found}.") from error
    return codes.astype(np.int32) if len(values) < 2**31 else codes, values


def _texts_of_ids(values: Any, name: str) -> tuple[Any, bool]:
    """Distinct values to texts, a pyarrow array, and whether they are surely distinct still."""
    import pyarrow as pa
    import pyarrow.compute as pc

    dtype = values.dtype
    if dtype.kind == "f":
        exact = 2.0 ** (np.finfo(np.dtype(dtype.name.lower())).nmant + 1)
        if len(values) and np.abs(np.asarray(values, dtype=float)).max() > exact:
            raise ValueError(f"{name} holds ids as floats too large to be exact. Store them as integers or text.")
    if dtype.kind in "iu":
        return pa.array(values).cast(pa.large_string()), True
    if isinstance(dtype, pd.StringDtype):
        texts = pa.array(values, pa.large_string())
        trimmed = pc.utf8_trim_whitespace(texts)
        return trimmed, pc.all(pc.equal(texts, trimmed)).as_py() is not False
    for value in values:
        if isinstance(value, (tuple, Mapping, Set)) or type(value).__repr__ is object.__repr__:
            raise ValueError(
                f"{name} must hold texts or numbers as ids, found {type(value).__name__}: {shown(value)}."
            )
    try:
        return pa.array([id_text(value, name) for value in values], pa.large_string()), False
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} holds text that is no valid Unicode: {error.object!r}.") from error


def clean_texts(column: pd.Series) -> tuple[np.ndarray, list[str], np.ndarray]:
    """
    [`clean_text`] of every cell, each distinct cell once; texts that are clean already are not taken apart.

    Returns:
        codes of shape `(n_rows,)`, the text of each code, and whether cleaning changed it. The last code, the empty
        text, is that of missing cells.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        codes, values = pd.factorize(column)
    except TypeError:  # lists
        codes, values = np.arange(len(column)), column.to_numpy()
    if isinstance(values.dtype, pd.StringDtype):
        raw = pa.array(values, pa.large_string())
        suspects = pc.or_(
            pc.match_substring_regex(raw, UNCLEAN),
            pc.is_in(pc.utf8_lower(raw), value_set=pa.array(sorted(MISSING_TEXT), raw.type)),
        )
        texts = raw.to_pylist()
        for place in np.flatnonzero(suspects.to_numpy(zero_copy_only=False)):
            texts[place] = clean_text(texts[place])
        raw = raw.to_pylist() if pc.any(suspects).as_py() else texts
    else:
        try:
            raw, texts = [str(value) for value in values], [clean_text(value) for value in values]
        except ValueError as error:  # Python writes no integers of more than some thousand digits
            raise ValueError(
                f"The column `{column.name}` holds a value that cannot be written as text ({error})."
            ) from error
    texts = without_float_zeros(texts)
    changed = np.array([*(bool(text) and text != before for text, before in zip(texts, raw, strict=True)), False])
    return np.where(codes < 0, len(texts), codes), [*texts, ""], changed


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
