"""Files of item and user vectors: safetensors, npz, npy and parquet in, ids and arrays out. Nothing is unpickled."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..whole_files import replacing

__all__ = ["UNPICKLED", "VECTOR_FORMATS", "VectorFile", "read_vectors", "save_vectors"]

UNPICKLED = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".model"}
NUMBERED = re.compile(r"(.*?)(\d+)")


@dataclass(frozen=True, eq=False)
class VectorFile:
    """
    What a file of vectors holds, unchecked; [`ItemVectorsModel.from_vectors`] matches and checks it.

    Args:
        item_ids, user_ids (`Sequence`, *optional*): ids as they stand in the file.
        item_vectors, user_vectors (`np.ndarray` of shape `(n, width)`, *optional*): a row for each id.
    """

    item_ids: Sequence | None = None
    item_vectors: np.ndarray | None = None
    user_ids: Sequence | None = None
    user_vectors: np.ndarray | None = None

    def __repr__(self) -> str:
        vectors = {"item_vectors": self.item_vectors, "user_vectors": self.user_vectors}
        shapes = (f"{name}={np.shape(table)}" for name, table in vectors.items() if table is not None)
        return f"VectorFile({', '.join(shapes)})"


def read_vectors(items: str | os.PathLike[str], users: str | os.PathLike[str] | None = None) -> VectorFile:
    """
    Reads item vectors, and user vectors where there are any, by the ending of the file:

    - `.safetensors`: tensors `item_vectors` and, optionally, `user_vectors`. Their ids are tensors `item_ids` and
      `user_ids` of integers, or metadata of these names: a JSON list.
    - `.npz`: arrays `item_ids` and `item_vectors` and, optionally, `user_ids` and `user_vectors`; ids are integers or
      texts of fixed width, not objects.
    - `.npy`: the vectors alone; the ids are beside `vectors.npy` in `vectors.ids.npy`, `vectors.ids.json` (a list) or
      `vectors.ids.txt` (one a line).
    - `.parquet`: a column `item_id` (or `user_id`) and either a column `vector` of lists or numbered columns such as
      `v0`, `v1`, ..., which are put into the order of their numbers.

    Args:
        items (`str` or `os.PathLike`): the file of item vectors.
        users (`str` or `os.PathLike`, *optional*): a file of user vectors, in any of the formats; for `.npy` and
            `.parquet`, which hold one table, the only way to give them.

    Raises:
        FileNotFoundError: there is no such file, or none with the ids of a `.npy` file.
        ValueError: unknown ending, pickled content, or ids or vectors that are not there or not readable.
    """
    ids, vectors, more_ids, more_vectors = _read(Path(items), "item")
    if ids is None:
        raise ValueError(f"{Path(items).name} holds no item vectors, only those of users. Give it as user vectors.")
    if users is not None:
        if more_ids is not None:
            raise ValueError(f"{Path(items).name} holds user vectors already; leave out the second file.")
        more_ids, more_vectors = _read(Path(users), "user")[2:]
        if more_ids is None:
            raise ValueError(f"{Path(users).name} holds no user vectors. Expected `user_ids` and `user_vectors`.")
    return VectorFile(ids, vectors, more_ids, more_vectors)


def save_vectors(
    path: str | os.PathLike[str],
    item_ids: Sequence,
    item_vectors: Any,
    user_ids: Sequence | None = None,
    user_vectors: Any = None,
) -> None:
    """
    Writes a `.safetensors` or `.npz` file that [`read_vectors`] reads, whole or not at all.

    Args:
        path (`str` or `os.PathLike`): the file.
        item_ids (`Sequence`), item_vectors (`np.ndarray` of shape `(n, width)`): a row for each id.
        user_ids, user_vectors (*optional*): the same for users.

    Raises:
        ValueError: another ending, or not one id for each row.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".npz"):
        raise ValueError(f"{path.name}: vectors are written as .safetensors or .npz, got {path.suffix!r}.")
    ids, arrays = {}, {}
    for side, of_side, vectors in (("item", item_ids, item_vectors), ("user", user_ids, user_vectors)):
        if of_side is None and vectors is None:
            continue
        arrays[f"{side}_vectors"] = np.ascontiguousarray(vectors)
        ids[f"{side}_ids"] = np.asarray(of_side).tolist()
        if len(ids[f"{side}_ids"]) != len(arrays[f"{side}_vectors"]):
            raise ValueError(
                f"Expected an id for each {side} vector, got {len(ids[f'{side}_ids'])} ids and vectors of shape "
                f"{arrays[f'{side}_vectors'].shape}."
            )
    with replacing(path) as temporary:
        if path.suffix == ".npz":
            with temporary.open("wb") as file:  # by name, numpy would append an ending
                np.savez(file, **arrays, **{name: np.asarray(values) for name, values in ids.items()})
        else:
            from safetensors.numpy import save_file

            save_file(arrays, temporary, metadata={name: json.dumps(values) for name, values in ids.items()})


# formats -------------------------------------------------------------------------------------------------------------

_Content = tuple[Any, Any, Any, Any]  # item ids, item vectors, user ids, user vectors


def _read(path: Path, side: str) -> _Content:
    suffix = path.suffix.lower()
    if suffix in UNPICKLED:
        raise ValueError(
            f"{path.name} may hold pickled objects, which run any code when they are loaded, so it is not read. Load "
            "it where you trust it and write its ids and vectors by `rarec_hf.data.save_vectors('vectors.npz', "
            "item_ids, item_vectors)`."
        )
    if suffix not in VECTOR_FORMATS:
        raise ValueError(f"{path.name}: unknown file ending; expected one of {', '.join(VECTOR_FORMATS)}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file `{path}`.")
    return VECTOR_FORMATS[suffix](path, side)


def _read_npz(path: Path, side: str) -> _Content:
    with _numpy(path, "the file", lambda: np.load(path, allow_pickle=False)) as arrays:
        names = list(arrays)
        return _pairs(names, names, lambda name: _numpy(path, f"`{name}`", lambda: arrays[name]), path.name)


def _read_npy(path: Path, side: str) -> _Content:
    vectors = _numpy(path, "the file", lambda: np.load(path, allow_pickle=False))
    beside = [path.with_name(f"{path.stem}.ids{ending}") for ending in (".npy", ".json", ".txt")]
    found = [file for file in beside if file.is_file()]
    if len(found) != 1:
        names = " or ".join(file.name for file in beside)
        error = FileNotFoundError if not found else ValueError
        raise error(f"{path.name} needs its ids beside it, in one file {names}; found {[f.name for f in found]}.")
    if found[0].suffix == ".npy":
        ids = _numpy(found[0], "the file", lambda: np.load(found[0], allow_pickle=False))
    elif found[0].suffix == ".json":
        ids = _json_list(found[0].read_text("utf-8"), found[0].name)
    else:
        ids = found[0].read_text("utf-8").rstrip("\n").split("\n")
    return (ids, vectors, None, None) if side == "item" else (None, None, ids, vectors)


def _numpy(path: Path, what: str, load: Callable[[], Any]) -> Any:
    """What `load` gives; errors of numpy, which speak of flags of its own, say what the file holds."""
    try:
        loaded = load()
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        problem = f"could not be read as numpy's: {error}"
        if "pickle" in str(error):
            problem = "holds Python objects, which would have to be unpickled, or is no file of numpy's"
        raise ValueError(
            f"{path.name}: {what} {problem}. Store ids as integers or `np.array(ids, dtype=str)`, vectors as floats."
        ) from error
    if what == "the file" and isinstance(loaded, np.ndarray) != (path.suffix.lower() == ".npy"):
        raise ValueError(f"{path.name} holds {'one array' if path.suffix == '.npz' else 'several arrays'}; rename it.")
    return loaded


def _read_safetensors(path: Path, side: str) -> _Content:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as content:  # numpy knows no bfloat16
            names, metadata = list(content.keys()), content.metadata() or {}

            def get(name: str) -> Any:
                if name in names:
                    return content.get_tensor(name)
                return _json_list(metadata[name], f"{path.name}: {name}")

            return _pairs(names, [*names, *metadata], get, path.name)
    except SafetensorError as error:
        raise ValueError(f"{path.name} could not be read as safetensors: {error}.") from error


def _read_parquet(path: Path, side: str) -> _Content:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path.name} could not be read as parquet: {error}.") from error
    id_column = f"{side}_id"
    if table.column_names.count(id_column) != 1:
        raise ValueError(f"{path.name}: expected a column `{id_column}`, found the columns {table.column_names}.")
    ids = table.column(id_column).to_pandas()
    columns = [name for name in table.column_names if name != id_column]
    if "vector" in columns:
        vectors = _lists(table.column("vector"), path.name)
    else:
        vectors = _numbered(table, columns, path.name)
    return (ids, vectors, None, None) if side == "item" else (None, None, ids, vectors)


def _lists(column: Any, name: str) -> np.ndarray:
    """`(n, width)` of a column of lists, without a Python object for each number."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).to_numpy() if hasattr(column.type, "value_type") else np.array([])
    if not len(lengths) or column.null_count or len(np.unique(lengths)) != 1:
        widths = sorted({str(width) for width in lengths})[:5]
        raise ValueError(f"{name}: the column `vector` must hold lists of one length, got {column.type} {widths}.")
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _numbered(table: Any, columns: list[str], name: str) -> np.ndarray:
    matches = {column: NUMBERED.fullmatch(column) for column in columns}
    if not columns or None in matches.values() or len({match[1] for match in matches.values()}) != 1:
        raise ValueError(
            f"{name}: expected a column `vector` of lists, or numbered columns (v0, v1, ...), found {columns[:8]}."
        )
    order = sorted(columns, key=lambda column: int(matches[column][2]))
    numbers = [int(matches[column][2]) for column in order]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise ValueError(f"{name}: the numbered columns have gaps or repeats: {order[:8]}.")
    return np.stack([table.column(column).to_numpy() for column in order], 1)


def _pairs(vectors: list[str], ids: list[str], get: Callable[[str], Any], name: str) -> _Content:
    """Ids and vectors by the names that they have in a file that can hold both sides."""
    content: list[Any] = []
    for side in ("item", "user"):
        has_ids, has_vectors = f"{side}_ids" in ids, f"{side}_vectors" in vectors
        if has_ids != has_vectors:
            absent = f"{side}_{'vectors' if has_ids else 'ids'}"
            raise ValueError(f"{name} has no `{absent}`, found {sorted({*ids, *vectors})}.")
        content += [get(f"{side}_ids"), get(f"{side}_vectors")] if has_ids else [None, None]
    if content[0] is None and content[2] is None:
        raise ValueError(f"{name}: expected `item_ids` and `item_vectors`, found {sorted({*ids, *vectors})}.")
    return tuple(content)


def _json_list(text: str, name: str) -> list:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is no JSON ({error}).") from error
    if not isinstance(values, list):
        raise ValueError(f"{name} must be a JSON list of ids, got a {type(values).__name__}.")
    return values


VECTOR_FORMATS: dict[str, Callable[[Path, str], _Content]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".parquet": _read_parquet,
}
