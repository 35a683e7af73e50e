"""Whether a table has the columns that are about to be read, with errors that name the flag to give."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..ids import shown

__all__ = ["ColumnError", "check_columns", "check_options"]


class ColumnError(ValueError):
    """Wrong columns: already said in full, so that the readers pass it on as it is."""


def check_options(k_core: Any, attribute_columns: Any, **columns: Any) -> None:
    """
    Refuses options of another type than expected.

    Args:
        columns: names of columns, by their option.

    Raises:
        ValueError: names the option.
    """
    if isinstance(k_core, bool) or not isinstance(k_core, (int, np.integer)) or k_core < 0:
        raise ValueError(f"`k_core` must be 0 (off) or more, a whole number, got {shown(k_core)}.")
    for option, name in columns.items():
        if not isinstance(name, str):
            raise ValueError(f"`{option}` must be the name of a column, got {shown(name)}.")
    if not isinstance(attribute_columns, (list, tuple)) or not all(isinstance(n, str) for n in attribute_columns):
        raise ValueError(f"`attribute_columns` must be a list of column names, got {shown(attribute_columns)}.")


def check_columns(found: Iterable[Any], required: Mapping[str, str], table: str) -> None:
    """
    Check that a table has the columns that are about to be read, each of them once.

    Args:
        found: the table's column names.
        required (`Mapping[str, str]`): wanted column name -> the flag that changes it, such as `"--user_column"`.
        table (`str`): how the error names the table.

    Raises:
        ValueError: a column is missing (the text lists what was found, the closest name and the flag) or ambiguous.
    """
    names = [str(name) for name in found]
    listing = ", ".join(f"`{name}`" for name in names) or "none"
    for column, flag in required.items():
        if names.count(column) > 1:
            count = names.count(column)
            raise ColumnError(f"{table}: the column `{column}` occurs {count} times. Rename all but one.")
        if column in names:
            continue
        keys = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in names}
        close = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", column.lower()), list(keys), n=1, cutoff=0.6)
        hint = f"Did you mean `{flag} {keys[close[0]]}`?" if close else f"Give its name with `{flag} NAME`."
        if len(names) == 1 and re.search(r"[;\t|,]", names[0]):
            hint += " The header was read as one single column: is the file separated by another character?"
        raise ColumnError(f"{table}: expected a column `{column}`, found the columns {listing}. {hint}")
