"""Tables in memory: pandas, polars, pyarrow, `datasets` and Spark to frames, whole numbers exact."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from .column_names import check_columns

__all__ = ["as_frame", "column_names", "only"]


def as_frame(
    source: Any, wanted: Collection[str] | None, ids: Collection[str], label: str, required: Mapping[str, str] = {}
) -> pd.DataFrame:
    """
    A table of any library as a frame; a pandas frame stays what it is.

    Args:
        source: a pandas or polars frame, a pyarrow table, a `datasets.Dataset`, a Spark frame, or anything else with
            `__arrow_c_stream__` or `toPandas`.
        wanted: the columns to keep, all by default.
        ids: columns of ids; integers with gaps come as categories, so that they stay exact.
        label (`str`): how errors name the table.
        required (`Mapping[str, str]`): column -> the flag that changes its name, for the error that one is missing.

    Raises:
        ValueError: a `DatasetDict`, a stream, no table, or a missing column.
    """
    table = source if isinstance(source, pd.DataFrame) else _as_arrow(source, label)
    check_columns(column_names(table), required, label)
    if wanted is not None:
        table = only(table, wanted)
    return table if isinstance(table, pd.DataFrame) else _to_pandas(table, ids)


def column_names(table: Any) -> list:
    """Of a pandas frame or a pyarrow table."""
    return list(table.columns) if isinstance(table, pd.DataFrame) else table.column_names


def only(table: Any, wanted: Collection[str]) -> Any:
    """The wanted columns of a pandas frame or a pyarrow table, in their order there."""
    names = [name for name in column_names(table) if name in wanted]
    return table[names] if isinstance(table, pd.DataFrame) else table.select(names)


def _as_arrow(source: Any, label: str) -> Any:
    import pyarrow as pa

    if isinstance(source, pa.Table):
        return source
    kind = f"{type(source).__module__.split('.')[0]}.{type(source).__name__}"
    if kind == "datasets.DatasetDict" or (isinstance(source, dict) and kind.startswith("datasets.")):
        splits = ", ".join(f"`{name}`" for name in source)
        raise ValueError(f"{label}: expected one table, got a {kind} of the splits {splits}. Pass one of them.")
    if kind == "datasets.Dataset":
        return source.with_format("arrow")[:]
    if kind == "datasets.IterableDataset":
        raise ValueError(f"{label}: a stream cannot be sorted by user. Load it with `streaming=False`.")
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    if hasattr(source, "toPandas"):
        return source.toPandas()
    raise ValueError(
        f"{label}: expected a path, a `datasets` id or a table (pandas, polars, pyarrow, `datasets.Dataset`, Spark), "
        f"got {kind}."
    )


def _to_pandas(table: Any, ids: Collection[str]) -> pd.DataFrame:
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        column, kind = table.column(place), field.type
        if pa.types.is_string_view(kind):  # polars' texts
            column = column.cast(pa.large_string())
        if field.name in ids and pa.types.is_integer(kind) and column.null_count:
            column = column.dictionary_encode()  # whole numbers with gaps would become floats
        elif pa.types.is_integer(kind) and column.null_count:
            column = column.cast(pa.string())
        elif pa.types.is_decimal(kind):
            column = column.cast(pa.string())
        if column is not table.column(place):
            table = table.set_column(place, field.name, column)
    return table.to_pandas(ignore_metadata=True, date_as_object=False, split_blocks=True)
