"""Times in: numbers, dates and texts of any export to one array of numbers whose unit is known and reported."""

from __future__ import annotations

import datetime
import re

import numpy as np
import pandas as pd

from ..ids import shown
from .columns import is_missing, row_name

__all__ = [
    "UNITS",
    "format_time",
    "parse_times",
    "read_timestamps",
    "recognise_unit",
    "refuse_unreadable",
    "time_to_number",
]

# Name of a unit -> how many of it make a second.
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
# Seconds since 1970 that count as a plausible date, 1973 to 2099: the four units' ranges then do not overlap, and
# ordinals (1, 2, 3) and calendar numbers (20140701) fall into none.
PLAUSIBLE = (1e8, 4.1e9)
INTEGER = r"^[+-]?[0-9]{1,19}$"


def read_timestamps(column: pd.Series, table: str) -> np.ndarray:
    """
    Times to numbers: numbers (as text, too) keep their unit, dates become seconds since 1970 in UTC.

    Returns:
        `int64` of shape `(n_rows,)`, or `float64` where fractions came.

    Raises:
        ValueError: missing, infinite or unreadable values, with their count and the first row.
    """
    times, unreadable, _ = parse_times(column)
    if unreadable.any():
        refuse_unreadable(column, unreadable, table)
    return times


def refuse_unreadable(column: pd.Series, unreadable: np.ndarray, table: str) -> None:
    """The error of [`read_timestamps`]."""
    row = int(unreadable.argmax())
    raise ValueError(
        f"{table}: the column `{column.name}` has {int(unreadable.sum())} values that are no finite time, the first "
        f"in {row_name(column, row)}: {shown(column.iloc[row])}. Expected numbers, dates or ISO 8601 text in every "
        "row; `on_broken_row='drop'` (`--on_broken_row drop`) drops the others."
    )


def parse_times(column: pd.Series) -> tuple[np.ndarray, np.ndarray, bool]:
    """
    The same without an opinion on unreadable cells.

    Returns:
        the times (0 where unreadable), a mask of the unreadable rows, and whether dates were turned into seconds.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        times, unreadable, dates = parse_times(column.cat.categories.to_series())
        codes = column.cat.codes.to_numpy()  # -1, missing: the one added at the end
        return np.append(times, times.dtype.type(0))[codes], np.append(unreadable, True)[codes], dates
    if column.dtype == object or pd.api.types.is_bool_dtype(column):  # True and False are numbers to pandas
        booleans = np.fromiter((isinstance(cell, (bool, np.bool_)) for cell in column), bool, len(column))
        column = column.astype(object).mask(booleans, None) if booleans.any() else column
    dates = pd.api.types.is_datetime64_any_dtype(column)
    if dates:
        values = _seconds(column)
    elif pd.api.types.is_numeric_dtype(column):
        values = column
    else:
        try:
            values, dates = _numbers_or_dates(column)
        except (TypeError, OverflowError, ValueError):  # lists, integers of hundreds of digits and the like
            values, dates = _numbers_or_dates(column.map(_cell))
    if values.dtype.kind in "iu" and not values.isna().any():
        if values.dtype.kind == "u" and len(values) and values.max() > np.iinfo(np.int64).max:
            values = values.astype(np.float64)
        else:
            return values.to_numpy().astype(np.int64, copy=False), np.zeros(len(values), dtype=bool), dates
    missing = values.isna().to_numpy()
    if values.dtype.kind in "iu":  # nullable integers stay exact
        return values.fillna(0).to_numpy(dtype=np.int64), missing, dates
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    unreadable = ~np.isfinite(numbers)
    numbers = np.where(unreadable, 0.0, numbers)
    whole = (numbers == np.floor(numbers)).all() and np.abs(numbers).max(initial=0.0) < 2.0**63
    return numbers.astype(np.int64) if whole else numbers, unreadable, dates


def recognise_unit(times: np.ndarray, column: pd.Series, table: str, kept: np.ndarray | None = None) -> str:
    """
    The unit of numbers, from their size: those between 1973 and 2099 in one of [`UNITS`] have that unit; numbers too
    small for any date (1, 2, 3; a placeholder 0) decide nothing.

    Args:
        times (`np.ndarray` of shape `(n_rows,)`): the numbers.
        column (`pd.Series`): where they came from, for the text of the error.
        table (`str`): how the error names the table.
        kept (`np.ndarray`, *optional*): the row of `column` of each time; all rows by default.

    Returns:
        a key of [`UNITS`], or `"unknown"`.

    Raises:
        ValueError: two units in one column, with the first row of each.
    """
    if len(times):
        low, high = float(times.min()), float(times.max())
        for unit, per_second in UNITS.items():
            if PLAUSIBLE[0] * per_second <= low and high < PLAUSIBLE[1] * per_second:
                return unit
    size = np.abs(times)
    found = {}
    for unit, per_second in UNITS.items():
        inside = (size >= PLAUSIBLE[0] * per_second) & (size < PLAUSIBLE[1] * per_second)
        if inside.any():
            found[unit] = (int(inside.argmax()), int(inside.sum()))
    undecided = len(times) - sum(count for _, count in found.values())
    if undecided and undecided > (size < PLAUSIBLE[0]).sum():
        return "unknown"  # some numbers are dates in no unit: these are no times since 1970
    if len(found) > 1:
        rows = [
            f"{count} in {unit}, the first {times[row]} in {row_name(column, row if kept is None else int(kept[row]))}"
            for unit, (row, count) in found.items()
        ]
        raise ValueError(
            f"{table}: the column `{column.name}` mixes units of time: {'; '.join(rows)}. Convert it to one unit; if "
            "it holds other numbers than times, pass `timestamp_unit='unknown'` (`--timestamp_unit unknown`)."
        )
    return next(iter(found), "unknown")


def time_to_number(when: str | float | datetime.date, unit: str) -> int | float:
    """
    A moment as a number in `unit`; a number, or a text that is one, stays what it is, and dates are read as UTC.

    Raises:
        ValueError: no moment, or a date although the unit is unknown.
    """
    if isinstance(when, (int, float, np.integer, np.floating)) and not isinstance(when, bool):
        return when.item() if isinstance(when, np.generic) else when
    if isinstance(when, str) and re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", when):
        return float(when) if "." in when else int(when)
    try:
        moment = pd.to_datetime(when, utc=True, **({"format": "ISO8601"} if isinstance(when, str) else {}))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Expected a date such as '2014-07-01', an ISO 8601 time or a number in the data's unit, got {when!r}."
        ) from error
    if unit not in UNITS:
        raise ValueError(
            f"The unit of these timestamps is unknown, so that the date {when!r} has no place among them. Give a "
            f"number instead, or name the unit with `timestamp_unit` (`--timestamp_unit`): one of {', '.join(UNITS)}."
        )
    nanoseconds = moment.as_unit("ns").value
    number, rest = divmod(nanoseconds * UNITS[unit], UNITS["nanoseconds"])
    return number if not rest else nanoseconds * UNITS[unit] / UNITS["nanoseconds"]


def format_time(time: float, unit: str) -> str:
    """`"2014-07-01 12:30"` in UTC for a known unit, the bare number otherwise."""
    if unit not in UNITS:
        return f"{time:,}" if isinstance(time, (int, np.integer)) else f"{time:,g}"
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=float(time) / UNITS[unit])
    except OverflowError:  # before the year 1 or after 9999
        return str(time)
    return moment.strftime("%Y-%m-%d %H:%M")


def _numbers_or_dates(column: pd.Series) -> tuple[pd.Series, bool]:
    """What more of the cells can be read as, and whether that is dates."""
    values = _numbers(column)
    if 2 * values.isna().sum() >= len(values):
        as_dates = _dates(column)
        if as_dates.notna().sum() > values.notna().sum():
            return as_dates, True
    return values, False


def _cell(cell: object) -> object:
    """A cell that may be a time; None otherwise."""
    if isinstance(cell, (int, np.integer)):
        return cell if abs(cell) < 2**63 else None
    return cell if isinstance(cell, (str, float, np.floating, datetime.date)) else None


def _seconds(dates: pd.Series) -> pd.Series:
    return (pd.to_datetime(dates, utc=True) - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)


def _dates(column: pd.Series) -> pd.Series:
    """Texts and dates to seconds, missing where they are none; days repeat, so each distinct cell is parsed once."""
    codes, distinct = pd.factorize(column)
    read = [cell if isinstance(cell, (str, datetime.date)) and not is_missing(cell) else None for cell in distinct]
    cells = pd.Series([*read, None], dtype=object)
    return _seconds(pd.to_datetime(cells, utc=True, errors="coerce", format="ISO8601")).iloc[codes]


def _numbers(column: pd.Series) -> pd.Series:
    """Cells to numbers, missing where they are none; whole numbers in texts without a Python object for each row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(column.dtype, pd.StringDtype):
        return pd.to_numeric(column, errors="coerce")
    texts = pc.utf8_trim_whitespace(pa.array(column, pa.large_string()))
    whole = pc.fill_null(pc.match_substring_regex(texts, INTEGER), False)
    if not pc.any(whole).as_py():
        return pd.to_numeric(column, errors="coerce")
    others = column[~whole.to_numpy(zero_copy_only=False)]
    if len(others) and not pd.to_numeric(others, errors="coerce").isna().all():
        return pd.to_numeric(column, errors="coerce")  # fractions among them: floats
    try:
        numbers = pc.cast(pc.utf8_ltrim(pc.if_else(whole, texts, None), "+"), pa.int64())
    except pa.ArrowInvalid:  # too long for 64 bits
        return pd.to_numeric(column, errors="coerce")
    kind = "Int64" if len(others) else "int64"
    filled = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False)
    numbers = pd.Series(filled, column.index, kind, column.name)
    return numbers.mask(~whole.to_numpy(zero_copy_only=False)) if len(others) else numbers
