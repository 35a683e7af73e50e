"""All that is needed to repeat a run, in one file of its folder (`environment.json`)."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from ..data.interactions import Interactions
from .run_folder import ENVIRONMENT_FILE, run_environment, without_secrets

# Options that a repetition sets for itself: where it writes, and that it tells nobody
_OWN_OPTIONS = ("output_dir", "push_to_hub", "report_to")


class NoRunRecordError(ValueError):
    """A folder does not say how it was made."""


class OtherDataError(ValueError):
    """The data are not those of the run that shall be repeated."""


class OtherLaunchError(ValueError):
    """Another number of processes than the run that shall be repeated had."""


def run_record(words: Sequence[str], key: Mapping[str, Any], backbone: str) -> dict[str, Any]:
    """
    What [`RunRecord`] reads, JSON-serialisable: [`run_environment`], and with it the commit of the package (where it
    runs from a git checkout), the folder that paths are relative to, threads, processes, data, words and options.

    Args:
        words (`list[str]`): of the command, a `--config` file's options among them; secrets are hidden here.
        key (`dict`): of `run_key`: all options, with the data's fingerprint and the number of processes.
        backbone (`str`): its address and dtype, as `build_model` says them.
    """
    options = {name: value for name, value in key.items() if name not in ("data", "processes")}
    return run_environment() | {
        "commit": _commit(),
        "backbone": backbone,
        "working_folder": os.getcwd(),
        "processes": key["processes"],
        "threads": torch.get_num_threads(),
        "data_fingerprint": key["data"],
        "words": without_secrets(words),
        "options": options,
    }


def _commit() -> str | None:
    """Of the checkout that the package runs from, `-dirty` where its files differ; None without checkout or git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # a site-packages folder may lie in somebody else's repository
        return None
    try:
        told = [
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=30)
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return told[0].stdout.strip() + ("-dirty" if told[1].stdout.strip() else "")


@dataclass(frozen=True)
class RunRecord:
    """
    Attributes:
        folder (`Path`): the run's.
        words (`list[str]`): of its command.
        options (`dict`): what they and the defaults came to.
        data_fingerprint (`str`): `Interactions.fingerprint(everything=True)`.
        processes, threads (`int`): threads are torch's, of each process.
        versions (`dict[str, str]`): of Python and of packages.
        commit (`str`, *optional*): of the package.
        device (`str`): what it ran on.
        backbone (`str`): its address and dtype.
        working_folder (`str`): what its paths are relative to.
    """

    folder: Path
    words: list[str]
    options: dict[str, Any]
    data_fingerprint: str
    processes: int
    threads: int
    versions: dict[str, str]
    commit: str | None
    device: str
    backbone: str
    working_folder: str

    @classmethod
    def of(cls, folder: str | os.PathLike) -> RunRecord:
        """
        Reads a run's folder.

        Raises:
            NoRunRecordError: it holds no record, or one that cannot be read or lacks what is needed.
        """
        path = Path(folder).resolve() / ENVIRONMENT_FILE
        expected = f"Expected {path} to say how the run was made"
        mend = "Name a folder that `examples/train.py` left, with this version or a later one."
        try:
            content = json.loads(path.read_text("utf-8"))
        except FileNotFoundError as problem:
            raise NoRunRecordError(f"{expected}; there is no such file. {mend}") from problem
        except (OSError, ValueError) as problem:
            raise NoRunRecordError(f"{expected}; it cannot be read ({problem}). {mend}") from problem
        names = [name for name in cls.__dataclass_fields__ if name != "folder"]
        if missing := [name for name in names if not isinstance(content, dict) or name not in content]:
            raise NoRunRecordError(f"{expected}; it lacks {missing}. {mend}")
        return cls(path.parent, **{name: content[name] for name in names})

    def words_of_repetition(self, output_dir: Path, moved: Mapping[str, str] | None = None) -> list[str]:
        """
        The words to repeat the run with. What stands last counts, so that its own are overridden.

        Args:
            output_dir (`Path`): where the repetition goes.
            moved (`dict[str, str]`, *optional*): options of files that lie elsewhere now.
        """
        own = ["--output_dir", str(output_dir), "--push_to_hub", "false", "--report_to", "none"]
        return [*self.words, *(word for name, path in (moved or {}).items() for word in (f"--{name}", path)), *own]

    def check_launch(self, process: PartialState, script: str = "examples/reproduce.py") -> None:
        """
        Raises:
            OtherLaunchError: another number of processes; says how to start as many.
        """
        if process.num_processes == self.processes:
            return
        launch = "python"
        if self.processes > 1:
            launch = (
                "accelerate launch --config_file examples/accelerate_configs/processes.yaml "
                f"--num_processes {self.processes} --num_cpu_threads_per_process {self.threads}"
            )
        raise OtherLaunchError(
            f"The run had {self.processes} processes, this has {process.num_processes}, and sums depend on their "
            f"number. Start it as `{launch} {script} {shlex.quote(str(self.folder))}`."
        )

    def check_data(self, interactions: Interactions) -> None:
        """
        Raises:
            OtherDataError: the data have changed; names both fingerprints.
        """
        now = interactions.fingerprint(everything=True)
        if now != self.data_fingerprint:
            raise OtherDataError(
                f"The run was given data with the fingerprint {self.data_fingerprint}, these have {now} "
                f"({interactions.n_users} users, {interactions.n_items} items, {len(interactions.item_index)} "
                "interactions). Give back the files as they were; for files that lie elsewhere now: --interactions, "
                "--items."
            )

    def differences(self, other: RunRecord) -> list[str]:
        """What else differs between two runs, a line each: versions, commit, device, threads, options."""
        mine, its = (
            run.versions
            | {name: getattr(run, name) for name in ("commit", "device", "threads", "backbone")}
            | {f"--{name}": value for name, value in run.options.items() if name not in _OWN_OPTIONS}
            for run in (self, other)
        )
        names = dict.fromkeys([*mine, *its])
        return [f"{n}: {mine.get(n)!r} then, {its.get(n)!r} now" for n in names if mine.get(n) != its.get(n)]


__all__ = ["NoRunRecordError", "OtherDataError", "OtherLaunchError", "RunRecord", "run_record"]
