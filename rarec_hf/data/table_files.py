"""Readers of one file each: parquet, csv, tsv and jsonl to pyarrow tables or frames."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.csv import InvalidRow

__all__ = ["file_format", "first_invalid_byte", "read_jsonl", "read_parquet", "read_separated"]

FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
NULL_LINE = re.compile(rb"\n[ \t\r\xef\xbb\xbf]*null")
NULL_BEGINS = re.compile(rb"\n[ \t\r\xef\xbb\xbf]*n?u?l?l?")
Check = Callable[[Iterable[str]], None]


def file_format(path: Path) -> str | None:
    """The format that the name of `path` stands for (`.gz` ignored), `None` for an unknown ending."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def read_parquet(path: Path, wanted: Collection[str], check: Check, drop: bool) -> tuple[Any, int]:
    import pyarrow.parquet

    names = pyarrow.parquet.read_schema(path).names
    check(names)
    columns = [name for name in names if name in wanted]
    return pyarrow.parquet.read_table(path, columns=columns, partitioning=None), 0


def read_separated(path: Path, wanted: Collection[str], check: Check, drop: bool) -> tuple[Any, int]:
    """csv and tsv through pyarrow: pandas, told to read some columns, silently cuts rows with too many fields."""
    import pyarrow
    from pyarrow import csv

    if not path.stat().st_size:
        return pd.DataFrame(), 0
    malformed = []

    def skip(row: Any) -> str:
        malformed.append(row.number)
        return "skip"

    form = {"delimiter": "\t" if file_format(path) == "tsv" else ",", "newlines_in_values": True}
    parse = csv.ParseOptions(**form, invalid_row_handler=skip if drop else None)
    try:
        with csv.open_csv(path, parse_options=parse) as reader:
            names = reader.schema.names
    except pyarrow.ArrowInvalid as error:
        raise ValueError(_first_malformed_row(path, form) or str(error)) from error
    malformed.clear()  # the look at the header reads the first rows, too
    check(names)
    # an unclosed quote swallows the rest of the file into the last column, so that one is read in any case
    final = [names[-1]] if names.count(names[-1]) == 1 else []
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pyarrow.string()),
        include_columns=[name for name in dict.fromkeys(names) if name in wanted or name in final],
        null_values=[""],
        strings_can_be_null=True,
    )
    try:
        rows = csv.read_csv(path, parse_options=parse, convert_options=convert)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(_first_malformed_row(path, form) or str(error)) from error
    last = rows.column(final[0])[-1].as_py() if final and len(rows) else None
    if last and "\n" in last and not _ends_with_quote(path):
        start = last.split("\n")[0][:60]
        raise ValueError(f"a quoted field is never closed; it begins with {start!r}.")
    return rows, len(malformed)


def _first_malformed_row(path: Path, form: dict) -> str | None:
    """What is wrong with the first row of a wrong length; only a reader with a single thread counts rows."""
    from pyarrow import ArrowInvalid, csv

    found: list[str] = []

    def name(row: InvalidRow) -> str:
        try:
            row.text  # noqa: B018
        except UnicodeDecodeError:  # which the caller says in words of its own
            return "error"
        found.append(
            f"Expected {row.expected_columns} columns, got {row.actual_columns} in data row {row.number - 1} (the "
            f"header not counted): {row.text[:120]!r}. Quote fields that hold the separator, or drop such rows with "
            "`on_broken_row='drop'` (`--on_broken_row drop`)."
        )
        return "error"

    try:
        options = csv.ParseOptions(**form, invalid_row_handler=name)
        csv.read_csv(path, csv.ReadOptions(use_threads=False), options)
    except ArrowInvalid:
        return found[0] if found else None
    return None


def read_jsonl(path: Path, wanted: Collection[str], check: Check, drop: bool) -> tuple[Any, int]:
    """
    Through pyarrow where every wanted column is of one plain type, line by line otherwise: mixed types, huge integers,
    lists, and lines that an error must name.
    """
    table = _read_plain_jsonl(path, wanted, check)
    return (table, 0) if table is not None else _read_jsonl_lines(path, wanted, check, drop)


def _read_plain_jsonl(path: Path, wanted: Collection[str], check: Check) -> pa.Table | None:
    import pyarrow as pa
    from pyarrow import json as arrow_json

    try:
        if _begins_a_line_with_null(path):
            return None
        with pa.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None) as stream:
            table = arrow_json.read_json(stream, arrow_json.ReadOptions(block_size=1 << 24))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, EOFError, zlib.error):
        return None
    if not len(table):
        return None
    for field in table.schema:
        # floats may be integers too large for 64 bits, and texts that look like a date come as one
        if field.name in wanted and not (pa.types.is_int64(field.type) or pa.types.is_string(field.type)):
            return None
    check(table.column_names)
    table = table.select([name for name in table.column_names if name in wanted])
    try:
        table.validate(full=True)  # pyarrow takes any bytes for text
    except pa.ArrowInvalid:
        return None
    return table


def _begins_a_line_with_null(path: Path) -> bool:
    """pyarrow (26.0) ends the whole process where a block of lines begins with `null`; any line may begin a block."""
    with _open_bytes(path) as file:
        line = b"\n"  # what is known of the line that the next bytes go on
        while chunk := file.read(1 << 22):
            if NULL_LINE.search(line + chunk):
                return True
            line = (line + chunk)[(line + chunk).rfind(b"\n") :]
            line = line if NULL_BEGINS.fullmatch(line) else b"x"
    return False


def _read_jsonl_lines(path: Path, wanted: Collection[str], check: Check, drop: bool) -> tuple[pd.DataFrame, int]:
    names: dict[str, None] = {}
    columns: dict[str, list] = {}
    n_rows = malformed = 0
    with _open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                wrong = None if isinstance(row, dict) else f"but a {type(row).__name__}."
            except json.JSONDecodeError as error:
                wrong = f"({error})."
            if wrong and not drop:
                raise ValueError(f"line {number} is no JSON object {wrong}")
            if wrong:
                malformed += 1
                continue
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
    frame = pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in columns.items()}, range(n_rows))
    return frame, malformed


def _open_bytes(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _ends_with_quote(path: Path) -> bool:
    tail = b""
    with _open_bytes(path) as file:
        while chunk := file.read(1 << 20):
            tail = (tail + chunk).rstrip()[-1:]
    return tail == b'"'


def first_invalid_byte(path: Path) -> int | None:
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
