"""Tables in: parquet, csv, tsv and jsonl files and `datasets` ids to frames, with errors that name file and flag."""

from __future__ import annotations

import codecs
import difflib
import gzip
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

__all__ = ["check_columns", "read_table", "source_name"]

FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
REPOSITORY_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.+-]+)?")


class _ColumnError(ValueError):
    """Wrong columns: already said in full, so that the readers pass it on as it is."""


def file_format(path: Path) -> str | None:
    """The format that the name of `path` stands for (`.gz` ignored), `None` for an unknown ending."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def source_name(source: str | os.PathLike[str]) -> str:
    """How a report names a table: the file's name without its folders, or the `datasets` id."""
    path = Path(source)
    return path.name if path.exists() else str(source)


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
            raise _ColumnError(f"{table}: the column `{column}` occurs {count} times. Rename all but one.")
        if column in names:
            continue
        keys = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in names}
        close = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", column.lower()), list(keys), n=1, cutoff=0.6)
        hint = f"Did you mean `{flag} {keys[close[0]]}`?" if close else f"Give its name with `{flag} NAME`."
        if len(names) == 1 and re.search(r"[;\t|,]", names[0]):
            hint += " The header was read as one single column: is the file separated by another character?"
        raise _ColumnError(f"{table}: expected a column `{column}`, found the columns {listing}. {hint}")


def read_table(
    source: str | os.PathLike[str], required: Mapping[str, str], optional: Iterable[str] = (), table: str = "table"
) -> pd.DataFrame:
    """
    Read the wanted columns of a parquet, csv, tsv or jsonl file (`.gz` too), or of a `datasets` id (`"id"` or
    `"id:config"`, its split `train`).

    The columns of csv and tsv files come as text, so that the id `"007"` stays what it is; only an empty field is
    missing there.

    Args:
        source (`str` or `os.PathLike`): the file, the folder that `datasets` can load, or the `datasets` id.
        required (`Mapping[str, str]`): wanted column -> the flag that changes its name.
        optional: further columns, read where they exist.
        table (`str`): how errors name the table: `"interactions"` or `"items"`.

    Raises:
        FileNotFoundError: neither a file nor a `datasets` id that could be loaded.
        ValueError: unknown file ending, missing column, no rows, broken file, or bytes that are not UTF-8.
    """
    path = Path(source)
    wanted = {*required, *optional}
    label = f"{table} ({source_name(source)})"
    if path.is_file():
        kind = file_format(path)
        if kind is None:
            raise ValueError(f"{label}: unknown file ending; expected one of {', '.join(FORMATS)} (`.gz` may follow).")
        frame = _read_file(path, kind, wanted, required, label)
    else:
        frame = _load_dataset(str(source), path, table)
        check_columns(frame.columns, required, label)
    if len(frame) == 0:
        raise ValueError(f"{label}: the table holds no rows.")
    return frame[[name for name in frame.columns if name in wanted]]


def _read_file(path: Path, kind: str, wanted: set[str], required: Mapping[str, str], label: str) -> pd.DataFrame:
    def check(names: Iterable[str]) -> None:  # before any row is read
        check_columns(names, required, label)

    try:
        return {"parquet": _read_parquet, "jsonl": _read_jsonl}.get(kind, _read_separated)(path, wanted, check)
    except _ColumnError:
        raise
    except (ValueError, OSError) as error:  # the libraries speak of tokens and chunks, not of the file and its bytes
        position = None if kind == "parquet" else _first_invalid_byte(path)
        if position is not None:
            raise ValueError(
                f"{label}: the file is not UTF-8; the first invalid byte is at position {position}. "
                "Convert it to UTF-8 first."
            ) from error
        raise ValueError(f"{label}: the file could not be read as {kind}: {error}") from error


def _read_parquet(path: Path, wanted: set[str], check: Callable[[Iterable[str]], None]) -> pd.DataFrame:
    import pyarrow.parquet

    names = pyarrow.parquet.read_schema(path).names
    check(names)
    columns = [name for name in names if name in wanted]
    # ignore_metadata: a column that pandas had stored as its index stays a column
    return pyarrow.parquet.read_table(path, columns=columns).to_pandas(ignore_metadata=True)


def _read_separated(path: Path, wanted: set[str], check: Callable[[Iterable[str]], None]) -> pd.DataFrame:
    """csv and tsv through pyarrow: pandas, told to read some columns, silently cuts rows with too many fields."""
    import pyarrow
    from pyarrow import csv

    if not path.stat().st_size:
        return pd.DataFrame()
    parse = csv.ParseOptions(delimiter="\t" if file_format(path) == "tsv" else ",", newlines_in_values=True)
    with csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    check(names)
    # an unclosed quote swallows the rest of the file into the last column, so that one is read in any case
    final = [names[-1]] if names.count(names[-1]) == 1 else []
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pyarrow.string()),
        include_columns=[name for name in dict.fromkeys(names) if name in wanted or name in final],
        null_values=[""],
        strings_can_be_null=True,
    )
    rows = csv.read_csv(path, parse_options=parse, convert_options=convert)
    last = rows.column(final[0])[-1].as_py() if final and len(rows) else None
    if last and "\n" in last and not _ends_with_quote(path):
        start = last.split("\n")[0][:60]
        raise ValueError(f"a quoted field is never closed; it begins with {start!r}.")
    return rows.to_pandas()


def _read_jsonl(path: Path, wanted: set[str], check: Callable[[Iterable[str]], None]) -> pd.DataFrame:
    """Line by line: a reader of whole columns would turn the ids of a column with gaps into floats."""
    names: dict[str, None] = {}
    columns: dict[str, list] = {}
    n_rows = 0
    with _open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is no JSON object ({error}).") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no JSON object but a {type(row).__name__}.")
            for name, value in row.items():
                names.setdefault(name)
                if name in wanted:
                    column = columns.setdefault(name, [])
                    column.extend([None] * (n_rows - len(column)))
                    column.append(value)
            n_rows += 1
    for column in columns.values():
        column.extend([None] * (n_rows - len(column)))
    if n_rows:
        check(names)
    return pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in columns.items()}, range(n_rows))


def _open_bytes(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _ends_with_quote(path: Path) -> bool:
    tail = b""
    with _open_bytes(path) as file:
        while chunk := file.read(1 << 20):
            tail = (tail + chunk).rstrip()[-1:]
    return tail == b'"'


def _first_invalid_byte(path: Path) -> int | None:
    """Position (in the unpacked bytes) of the first byte that is not UTF-8; pandas only knows it within a chunk."""
    decoder, position = codecs.getincrementaldecoder("utf-8")(), 0
    with _open_bytes(path) as file:
        while True:
            chunk = file.read(1 << 20)
            pending = len(decoder.getstate()[0])  # bytes of an unfinished character, kept from the chunk before
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return position - pending + error.start
            if not chunk:
                return None
            position += len(chunk)


def _load_dataset(source: str, path: Path, table: str) -> pd.DataFrame:
    if not path.is_dir() and (file_format(path) is not None or not REPOSITORY_ID.fullmatch(source)):
        raise FileNotFoundError(f"{table}: there is no file `{source}`.")
    from datasets import load_dataset

    name, _, config = (source, "", "") if path.is_dir() else source.partition(":")
    try:
        return load_dataset(name, config or None, split="train").to_pandas()
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{table}: `{source}` is neither a file nor a `datasets` id whose split `train` could be loaded "
            f"({type(error).__name__}: {error})."
        ) from error
