"""The best items of a whole user base, in parquet files of so many users each; a run that was cut off goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState
from tqdm.auto import tqdm
from transformers.utils import logging

from .backbone_fingerprint import backbone_identity, weights_digest
from .histories import as_history, whole_number, yes_or_no
from .processes import dealt, speaks, wait
from .vectors_by_id import distinct_ids
from .whole_files import MANIFEST, is_whole, replacing, write_manifest

if TYPE_CHECKING:
    from .modeling_rarec import RARecForSequentialRecommendation

logger = logging.get_logger(__name__)

SETTINGS_FILE = "recommendations.json"
MOST = 2**63 - 1  # of any count that is kept


class OtherRecommendationsError(ValueError):
    """A folder holds recommendations of another model, other histories or other settings."""


def recommend_to_shards(
    model: RARecForSequentialRecommendation,
    user_ids: Sequence[str],
    histories: Sequence[Sequence[str]],
    folder: str | Path,
    k: int = 10,
    *,
    exclude_seen: bool = True,
    users_per_shard: int = 10_000,
    batch_size: int = 64,
    progress: bool = True,
    process: PartialState | None = None,
) -> Path:
    """
    Writes the best `k` items of every user to `part-NNNNN-of-NNNNN.parquet`: `user_id`, `rank` (from 1), `item_id`,
    `title`, `score`; users in the order given. Each file appears whole, and the manifest `complete.json` once all are
    there. A call with the same arguments keeps the files that are there and whole, and computes the others.

    Args:
        model ([`RARecForSequentialRecommendation`]): with an indexed catalogue, whole or by rows.
        histories (`Sequence` of `list[str]`): item ids, oldest first, one history a user; looked at when needed.
        users_per_shard (`int`): what is lost, at most, when a run is cut off, for each process.
        process (`PartialState`, *optional*): each process of `accelerate launch` writes its share of the files; all
            must call this alike. The files do not depend on how many they are.

    Raises:
        OtherRecommendationsError: the folder holds those of something else.
        DamagedFileError: it was complete, and a file was changed since.
        NotWrittenError: the system refused a write.
        ValueError: as `recommend` raises it, or another number of histories than of users, or a user id that is
            missing or stands twice.
    """
    user_ids = distinct_ids(user_ids, "`user_ids`", "user")
    n_histories = len(histories) if hasattr(histories, "__len__") else 0
    if len(user_ids) != n_histories:
        raise ValueError(f"Expected a history for each of {len(user_ids)} users, got {n_histories}.")
    k, users_per_shard = whole_number(k, "k", MOST), whole_number(users_per_shard, "users_per_shard", MOST)
    batch_size, exclude_seen = whole_number(batch_size, "batch_size", MOST), yes_or_no(exclude_seen, "exclude_seen")
    model.check_catalogue(whole=False)
    folder = Path(folder)
    items = {"items": model.catalogue_in_parts(process)["items"]}
    settings = {
        "model": weights_digest(model.own_weights_in_parts(process) | items),
        "backbone": backbone_identity(model.language_model, model.config.backbone_fingerprint),
        "histories": _digest(user_ids, histories),
        "k": k,
        "exclude_seen": exclude_seen,
        "users_per_shard": users_per_shard,
        "batch_size": batch_size,
    }
    _check_settings(folder, settings)
    wait(process)  # all have looked
    if speaks(process) and not (folder / SETTINGS_FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / SETTINGS_FILE) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
    wait(process)
    if is_whole(folder):
        return folder
    starts = range(0, len(user_ids), users_per_shard)
    names = [f"part-{number:05d}-of-{len(starts):05d}.parquet" for number in range(len(starts))]
    mine = dealt(list(zip(starts, names, strict=True)), process)
    n_mine = sum(min(users_per_shard, len(user_ids) - start) for start, _ in mine)
    # Where the index is spread each file takes all processes, also those that have no more of their own
    n_rounds = len(mine)
    if process is not None and model.has_rows_elsewhere:
        n_rounds = len(starts[:: process.num_processes])
    with tqdm(total=n_mine, desc="Recommending", unit="user", disable=not (progress and speaks(process))) as bar:
        for number in range(n_rounds):
            start, name = mine[number] if number < len(mine) else (len(user_ids), "")
            users = user_ids[start : start + users_per_shard]
            wanted = users if name and not _is_there(folder / name) else []
            if len(wanted) or model.has_rows_elsewhere:
                some = [list(histories[row]) for row in range(start, start + len(wanted))]
                table = _table(model, wanted, some, k, exclude_seen, batch_size, process)
                if len(wanted):
                    _write(folder / name, table)
            bar.update(len(users))
    wait(process)
    if speaks(process):
        write_manifest(folder)
    wait(process)
    return folder


def _table(
    model: RARecForSequentialRecommendation,
    users: Sequence[str],
    histories: list[list[str]],
    k: int,
    exclude_seen: bool,
    batch_size: int,
    process: PartialState | None,
) -> pa.Table:
    known = list(users) if model.id_encoder.takes_users else None
    answers = model.recommend_together(histories, k, exclude_seen, batch_size, known, process)
    lengths = [len(answer) for answer in answers]
    return pa.table(
        {
            "user_id": pa.array(np.repeat(np.asarray(list(users), dtype=object), lengths), pa.string()),
            "rank": pa.array([rank for n in lengths for rank in range(1, n + 1)], pa.int32()),
            "item_id": pa.array([item for answer in answers for item in answer.item_ids], pa.string()),
            "title": pa.array([title for answer in answers for title in answer.titles], pa.string()),
            "score": pa.array([score for answer in answers for score in answer.scores], pa.float32()),
        }
    )


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def _is_there(path: Path) -> bool:
    """Whether a file is there and whole; one that is damaged is named, and will be computed anew."""
    if not path.exists():
        return False
    try:
        pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as problem:
        logger.warning("%s is damaged (%s); it is computed anew.", path, problem)
        return False
    return True


def _digest(user_ids: Sequence[str], histories: Sequence[Sequence[str]]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for row, user_id in enumerate(user_ids):
        found.update(json.dumps([user_id, *map(str, as_history(histories[row], f"History {row}"))]).encode())
    return found.hexdigest()


def _check_settings(folder: Path, settings: dict) -> None:
    if folder.exists() and not folder.is_dir():
        raise OtherRecommendationsError(f"{folder} is a file; expected a folder, or a name that is free.")
    if not folder.exists() or not any(path.name[0] != "." for path in folder.iterdir()):
        return
    try:
        there = dict(json.loads((folder / SETTINGS_FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as problem:
        raise OtherRecommendationsError(
            f"{folder} is there already and has no readable {SETTINGS_FILE} ({problem}). Choose another folder."
        ) from problem
    names = [name for name in settings if there.get(name) != settings[name]]
    if names:
        shown = "; ".join(f"{name} {there.get(name)!r} there, {settings[name]!r} here" for name in names)
        raise OtherRecommendationsError(f"{folder} holds other recommendations: {shown}. Choose another folder.")


__all__ = ["MANIFEST", "SETTINGS_FILE", "OtherRecommendationsError", "recommend_to_shards"]
