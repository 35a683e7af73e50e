"""Tables in: files, folders of files, `datasets` ids and tables in memory to frames, with errors that name the row."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .column_names import ColumnError, check_columns
from .columns import MALFORMED, SHARDS
from .shards import IGNORED, Shards, concatenated, find_shards, hive_columns, is_pattern, with_constants
from .table_files import FORMATS, file_format, first_invalid_byte, read_jsonl, read_parquet, read_separated
from .tables_in_memory import as_frame, column_names, only

__all__ = ["files_report", "read_table", "source_name"]

UNREADABLE = (ValueError, OSError, EOFError, zlib.error)
REPOSITORY_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.+-]+)?")


def source_name(source: Any) -> str:
    """How a report names a table: the file's name without its folders, the `datasets` id, or the kind of table."""
    if not isinstance(source, (str, os.PathLike)):
        return f"{type(source).__module__.split('.')[0]}.{type(source).__name__}"
    path = Path(source)
    if is_pattern(path):
        return path.name
    return path.name if path.exists() else str(source)


def dataset_id(source: Any) -> str | None:
    """The `datasets` id (without configuration) that a table is read from; None for files and tables in memory."""
    if not isinstance(source, str) or is_pattern(Path(source)) or Path(source).exists():
        return None
    found = file_format(Path(source)) is None and REPOSITORY_ID.fullmatch(source)
    return source.partition(":")[0] if found else None


def read_table(
    source: Any,
    required: Mapping[str, str],
    optional: Iterable[str] = (),
    table: str = "table",
    ids: Collection[str] = (),
    drop_malformed: bool = False,
) -> pd.DataFrame:
    """
    Read the wanted columns of a parquet, csv, tsv or jsonl file (`.gz` too), of a folder or pattern of such files, of
    a `datasets` id (`"id"` or `"id:config"`, its split `train`), or of a table in memory.

    The columns of csv and tsv files come as text, so that the id `"007"` stays what it is; only an empty field is
    missing there.

    Args:
        source (`str`, `os.PathLike` or a table): what to read.
        required (`Mapping[str, str]`): wanted column -> the flag that changes its name.
        optional: further columns, read where they exist.
        table (`str`): how errors name the table: `"interactions"` or `"items"`.
        ids: which of the columns hold ids, and may come as categories.
        drop_malformed (`bool`, *optional*, defaults to `False`): leave out and count rows of csv files with the wrong
            number of fields and lines of jsonl files that are no object, instead of raising an error.

    Raises:
        FileNotFoundError: neither a file nor a `datasets` id that could be loaded.
        ValueError: unknown file ending, missing column, no rows, broken file, or bytes that are not UTF-8.
    """
    wanted = {*required, *optional}
    label = f"{table} ({source_name(source)})"
    if not isinstance(source, (str, os.PathLike)):
        frame = as_frame(source, wanted, ids, label, required)
    else:
        path = Path(source)
        shards = find_shards(path, label)
        if path.is_file():
            kind = file_format(path)
            if kind is None:
                endings = ", ".join(FORMATS)
                raise ValueError(f"{label}: unknown file ending; expected one of {endings} (`.gz` may follow).")
            rows, malformed = _read_file(path, kind, wanted, required, label, drop_malformed)
            frame = as_frame(rows, wanted, ids, label)
            frame.attrs[MALFORMED] = malformed
        elif shards:
            frame = _read_shards(shards, wanted, ids, required, label, drop_malformed)
        else:
            frame = as_frame(_load_dataset(str(source), path, table), wanted, ids, label, required)
    if len(frame) == 0:
        raise ValueError(f"{label}: the table holds no rows.")
    check_columns(frame.columns, required, label)
    return frame


def _read_file(
    path: Path,
    kind: str,
    wanted: set[str],
    required: Mapping[str, str],
    label: str,
    drop: bool,
    constants: Iterable[str] = (),
) -> tuple[Any, int]:
    def check(names: Iterable[str]) -> None:  # before any row is read
        check_columns([*names, *constants], required, label)

    reader = {"parquet": read_parquet, "jsonl": read_jsonl}.get(kind, read_separated)
    try:
        return reader(path, wanted, check, drop)
    except ColumnError:
        raise
    except UNREADABLE as error:  # the libraries speak of tokens and chunks, not of the file and its bytes
        try:
            position = None if kind == "parquet" else first_invalid_byte(path)
        except UNREADABLE:  # a broken `.gz` has no bytes to look at
            position = None
        if position is not None:
            raise ValueError(
                f"{label}: the file is not UTF-8; the first invalid byte is at position {position}. "
                "Convert it to UTF-8 first."
            ) from error
        raise ValueError(f"{label}: the file could not be read as {kind}: {error}") from error


def _read_shards(
    shards: Shards, wanted: set[str], ids: Collection[str], required: Mapping[str, str], label: str, drop: bool
) -> pd.DataFrame:
    tables, lengths, malformed, first = [], [], 0, None
    for path, name in zip(shards.paths, shards.names, strict=True):
        constants = hive_columns(name, wanted)
        rows, broken = _read_file(path, shards.kind, wanted, required, f"{label}, {name}", drop, constants)
        malformed += broken
        if len(rows) == 0:
            continue
        rows = only(rows, wanted)
        found = {*column_names(rows), *constants}
        if first is None:
            first = (name, found)
        if found != first[1]:
            odd = sorted(found ^ first[1])
            raise ValueError(
                f"{label}: the files must have the same columns, but {odd} stand in only one of {first[0]} and {name}."
            )
        tables.append(with_constants(rows, constants))
        lengths.append((name, len(rows)))
    frame = as_frame(concatenated(tables), wanted, ids, label) if tables else pd.DataFrame()
    frame.attrs |= {SHARDS: lengths, MALFORMED: malformed, IGNORED: shards.ignored}
    return frame


def files_report(frame: pd.DataFrame, table: str) -> dict[str, int | str]:
    """How many files a table came from, and which files of the folder were no part of it."""
    report: dict[str, int | str] = {}
    if SHARDS in frame.attrs:
        report[f"{table}_files"] = len(frame.attrs[SHARDS])
    if ignored := frame.attrs.get(IGNORED):
        more = f" and {len(ignored) - 5} more" if len(ignored) > 5 else ""
        report[f"{table}_files_ignored"] = ", ".join(ignored[:5]) + more
    return report


def _load_dataset(source: str, path: Path, table: str) -> Any:
    if not path.is_dir() and (file_format(path) is not None or not REPOSITORY_ID.fullmatch(source)):
        raise FileNotFoundError(f"{table}: there is no file `{source}`.")
    from datasets import load_dataset, load_from_disk

    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():  # what `save_to_disk` leaves
        return load_from_disk(str(path))
    name, _, config = (source, "", "") if path.is_dir() else source.partition(":")
    try:
        return load_dataset(name, config or None, split="train")
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{table}: `{source}` is neither a file nor a `datasets` id whose split `train` could be loaded "
            f"({type(error).__name__}: {error})."
        ) from error
