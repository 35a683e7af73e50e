"""Folders and patterns of files that together are one table."""

from __future__ import annotations

import glob
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd

from .table_files import file_format

__all__ = ["IGNORED", "Shards", "concatenated", "find_shards", "hive_columns", "is_pattern", "with_constants"]

IGNORED = "rarec_hf_ignored_files"  # key in `attrs` of a frame: files of its folder that were no part of it
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # how Hive and Spark write a missing value into a folder's name


@dataclass(frozen=True)
class Shards:
    """
    Files of one format, in the order of their names.

    Attributes:
        paths (`list[Path]`): the files.
        names (`list[str]`): how errors name them: inside the folder, or without folders for a pattern.
        kind (`str`): their format.
        ignored (`list[str]`): files of the folder that are of no known format.
    """

    paths: list[Path]
    names: list[str]
    kind: str
    ignored: list[str]


def is_pattern(path: Path) -> bool:
    """Whether a path is none that exists but a pattern, such as `part-*.parquet`."""
    return glob.has_magic(str(path)) and not path.exists()


def find_shards(path: Path, label: str) -> Shards | None:
    """
    The files of a folder (its sub-folders too; hidden files and those like `_SUCCESS` aside) or of a pattern; `None`
    for everything else, also for a folder that `datasets` has saved and one without such files.

    Raises:
        FileNotFoundError: a pattern that no file matches.
        ValueError: files of several formats.
    """
    if is_pattern(path):
        found = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file())
        names = [file.name for file in found]
        if not found:
            raise FileNotFoundError(f"{label}: no file matches the pattern `{path}`.")
    elif path.is_dir() and not (path / "state.json").exists() and not (path / "dataset_dict.json").exists():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        relative = [file.relative_to(path) for file in files]
        shown = [place for place, file in enumerate(relative) if not any(p[0] in "._" for p in file.parts)]
        found, names = [files[place] for place in shown], [relative[place].as_posix() for place in shown]
    else:
        return None
    kinds = [file_format(file) for file in found]
    known = sorted({kind for kind in kinds if kind})
    if len(known) > 1:
        examples = ", ".join(f"{names[kinds.index(kind)]} ({kind})" for kind in known)
        raise ValueError(f"{label}: files of several formats: {examples}. Give a pattern that matches one of them.")
    if not known:
        if is_pattern(path):
            raise ValueError(f"{label}: unknown file ending of {names[0]}.")
        return None
    taken = [place for place, kind in enumerate(kinds) if kind]
    ignored = [name for name, kind in zip(names, kinds, strict=True) if not kind]
    return Shards([found[place] for place in taken], [names[place] for place in taken], known[0], ignored)


def hive_columns(name: str, wanted: Collection[str]) -> dict[str, str | None]:
    """Wanted columns that stand in the folders' names: `"day=2014-07-01/part-0.parquet"` gives the column `day`."""
    pairs = (part.partition("=") for part in name.split("/")[:-1] if "=" in part)
    return {key: None if value == NO_VALUE else unquote(value) for key, _, value in pairs if key in wanted}


def with_constants(rows: Any, constants: dict[str, str | None]) -> Any:
    """The table (pyarrow or pandas) with a column for each of these values."""
    import pyarrow as pa

    for name, value in constants.items():
        if isinstance(rows, pd.DataFrame):
            rows = rows.assign(**{name: value})
        elif name not in rows.column_names:
            codes = pa.array([0], pa.int32()).take(pa.nulls(len(rows), pa.int32()).fill_null(0))
            rows = rows.append_column(name, pa.DictionaryArray.from_arrays(codes, pa.array([value], pa.string())))
    return rows


def concatenated(tables: Sequence[Any]) -> Any:
    """One table below the other: a pyarrow table where the types agree, a frame of cells as they are otherwise."""
    import pyarrow as pa

    if all(isinstance(table, pa.Table) for table in tables):
        tables = [table.select(tables[0].column_names) for table in tables]
        if all(table.schema.equals(tables[0].schema) for table in tables):
            return pa.concat_tables(tables)
    frames = [table.to_pandas(ignore_metadata=True) if isinstance(table, pa.Table) else table for table in tables]
    return pd.concat([frame.astype(object) for frame in frames], ignore_index=True)
