"""Which index stands for which user and item, kept beside what was trained on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..whole_files import replacing

__all__ = ["ITEMS_FILE", "USERS_FILE", "IdMaps", "load_id_maps", "save_id_maps"]

USERS_FILE, ITEMS_FILE = "users.parquet", "items.parquet"


@dataclass(frozen=True)
class IdMaps:
    """
    The external ids; the position in each list is the index.

    Attributes:
        user_ids (`list[str]`): of the users.
        item_ids (`list[str]`): of the items.
        titles (`list[str]`): of the items.
    """

    user_ids: list[str]
    item_ids: list[str]
    titles: list[str]

    def __repr__(self) -> str:
        return f"IdMaps(n_users={len(self.user_ids)}, n_items={len(self.item_ids)})"


def save_id_maps(
    user_ids: Sequence[str], item_ids: Sequence[str], titles: Sequence[str], folder: str | os.PathLike[str]
) -> list[Path]:
    """
    Write `users.parquet` (`user_index`, `user_id`) and `items.parquet` (`item_index`, `item_id`, `title`), each whole
    or not at all.

    Returns:
        the two files.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = {
        USERS_FILE: {"user_index": np.arange(len(user_ids)), "user_id": pa.array(user_ids, pa.string())},
        ITEMS_FILE: {
            "item_index": np.arange(len(item_ids)),
            "item_id": pa.array(item_ids, pa.string()),
            "title": pa.array(titles, pa.string()),
        },
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, columns in tables.items():
        with replacing(Path(folder) / name) as temporary:
            pq.write_table(pa.table(columns), temporary)
    return [Path(folder) / name for name in tables]


def load_id_maps(folder: str | os.PathLike[str]) -> IdMaps:
    """
    Read what [`save_id_maps`] wrote.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: a file has other columns, or rows that are not in the order of their index.
    """
    columns = {USERS_FILE: ("user_index", "user_id"), ITEMS_FILE: ("item_index", "item_id", "title")}
    found = [_read(Path(folder) / name, names) for name, names in columns.items()]
    return IdMaps(found[0]["user_id"], found[1]["item_id"], found[1]["title"])


def _read(path: Path, names: tuple[str, ...]) -> dict[str, list]:
    import pyarrow.parquet as pq

    if not path.is_file():
        raise FileNotFoundError(
            f"There is no `{path.name}` in {path.parent}. `examples/train.py` and `examples/train_id_encoder.py` "
            "write the id maps into the folder of their run; elsewhere call `Interactions.save_id_maps(folder)`."
        )
    table = pq.read_table(path)
    if missing := sorted(set(names) - set(table.column_names)):
        raise ValueError(f"{path.name}: expected the columns {list(names)}, {missing} are missing.")
    index = table.column(names[0]).to_numpy()
    if not np.array_equal(index, np.arange(len(index))):
        raise ValueError(f"{path.name}: `{names[0]}` must count 0, 1, 2, ... from row to row. Sort the rows by it.")
    return {name: table.column(name).to_pylist() for name in names[1:]}
