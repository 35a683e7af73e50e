"""What a run has finished so far, kept beside its folder, so that the same command goes on where it was cut off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..whole_files import is_whole, remove_whole, replacing, replacing_folder, writing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.get_logger(__name__)

TRAINER_STATE_NAME = "trainer_state.json"  # of `transformers.trainer`, which takes long to import
RUN_FILE, LOG_FILE, RANDOM_FILE = "run.json", "log.json", "random.safetensors"
# What may differ without making it another run
_NOT_OF_THE_RUN = (
    *("output_dir", "logging_dir", "disable_tqdm", "local_rank", "overwrite_output_dir", "run_name"),
    *("push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "hub_always_push"),
    "hub_revision",
)


class ForeignRunError(ValueError):
    """What a cut-off run left is of other settings or data than the run that would go on with it."""


def run_key(*arguments: DataclassInstance, data: str, processes: int) -> dict[str, Any]:
    """All that decides what a run leaves: its options, the fingerprint of its data, the number of processes."""
    key: dict[str, Any] = {"data": data, "processes": processes}
    for some in arguments:
        key |= some.to_dict() if isinstance(some, TrainingArguments) else asdict(some)
    key = {name: value for name, value in key.items() if name not in _NOT_OF_THE_RUN}
    return json.loads(json.dumps(key, default=str))


class Stages:
    """
    The finished stages of a run and the checkpoints of those that are under way, in `NAME.stages` beside the run's
    folder `NAME`. It is made when there is something to keep, and removed when the run has succeeded.

    Args:
        target (`Path`): the run's folder.
        key (`dict`): of [`run_key`].
        process (`PartialState`): the main one writes.
        overwrite (`bool`): what is there of another run is removed, not refused.

    Raises:
        ForeignRunError: there are stages of another run.
    """

    def __init__(self, target: Path, key: dict[str, Any], process: PartialState, overwrite: bool = False):
        self.folder, self.key, self.process = target.with_name(f"{target.name}.stages"), key, process
        other = self._differences()
        process.wait_for_everyone()  # all have looked
        if other and not overwrite:
            raise ForeignRunError(
                f"{self.folder} holds what a run of other settings had finished when it was cut off: {other}. Give "
                "the same command to go on with it, another --output_dir, or delete it."
            )
        if other and process.is_main_process:
            remove_whole(self.folder)
        process.wait_for_everyone()

    def __repr__(self) -> str:
        return f"Stages({str(self.folder)!r}, {self.finished()})"

    def finished(self) -> list[str]:
        """Names of the finished stages."""
        return sorted(path.name for path in self.folder.glob("[!.]*") if path.is_dir() and is_whole(path))

    def kept(self, name: str) -> Path | None:
        """
        The folder of a stage, if it is finished; random numbers go on as they did after it.

        Raises:
            DamagedFileError: a file of it is not the one that was written.
        """
        folder = self.folder / name
        if not is_whole(folder):
            return None
        torch.set_rng_state(load_file(folder / RANDOM_FILE)["state"])
        return folder

    @contextmanager
    def keep(self, name: str) -> Iterator[Path]:
        """A folder for what a stage leaves, which is finished when the block ends. For the main process."""
        self._begin()
        with replacing_folder(self.folder / name) as folder:
            save_file({"state": torch.get_rng_state()}, folder / RANDOM_FILE)
            yield folder

    def checkpoints(self, name: str) -> Path:
        """Where a `Trainer` keeps those of a stage that is under way."""
        if self.process.is_main_process:
            self._begin()
        self.process.wait_for_everyone()
        return self.checkpoints_folder(name)

    def checkpoints_folder(self, name: str) -> Path:
        """That of [`checkpoints`]; it may not be there."""
        return self.folder / f"{name}.checkpoints"

    def remove(self) -> None:
        """All of it; for the main process."""
        if self.folder.exists():
            with writing(self.folder):
                remove_whole(self.folder)

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / RUN_FILE).exists():
            with replacing(self.folder / RUN_FILE) as temporary:
                temporary.write_text(json.dumps(self.key, indent=1) + "\n", "utf-8")

    def _differences(self) -> str:
        """Which settings of what is there are others; empty if none, or if nothing is there."""
        if not self.folder.is_dir() or not any(path.name[0] != "." for path in self.folder.iterdir()):
            return ""
        try:
            there = dict(json.loads((self.folder / RUN_FILE).read_text("utf-8")))
        except (OSError, ValueError, TypeError) as problem:
            return f"its {RUN_FILE} cannot be read ({problem})"
        names = sorted(n for n in there.keys() | self.key.keys() if there.get(n) != self.key.get(n))
        shown = [f"{name} {there.get(name)!r} there, {self.key.get(name)!r} here" for name in names[:5]]
        return "; ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def last_checkpoint(folder: Path, process: PartialState) -> str | None:
    """
    The latest checkpoint of a `Trainer` in a folder that it can go on from: whole, and so is the best one before it,
    whose weights are wanted at the end. What was cut off while it was written is removed, and what came after it.

    Raises:
        DamagedFileError: a file of a checkpoint is not the one that was written.
    """
    found = {path: is_whole(path) for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.is_dir()}
    whole = sorted((path for path, done in found.items() if done), key=_step)
    names = {path.name for path in whole}
    usable = [path for path in whole if _best_before(path) in (None, *names)]
    process.wait_for_everyone()
    after = [path for path in whole if not usable or _step(path) > _step(usable[-1])]
    if process.is_main_process:
        for path in found.keys() - whole:
            shutil.rmtree(path)
        for path in after:
            logger.warning("%s is not gone on from: the best checkpoint before it is missing.", path)
            remove_whole(path)
    process.wait_for_everyone()
    return str(usable[-1]) if usable else None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _best_before(checkpoint: Path) -> str | None:
    """The name of the best checkpoint so far, as a whole one says."""
    state = checkpoint / TRAINER_STATE_NAME
    best = json.loads(state.read_text("utf-8")).get("best_model_checkpoint") if state.is_file() else None
    return best and Path(best).name


__all__ = ["LOG_FILE", "ForeignRunError", "Stages", "last_checkpoint", "run_key"]
