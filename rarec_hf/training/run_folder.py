"""The folder that a run leaves: whole, or not there at all. And what the run took, and on what it ran."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from accelerate import PartialState

from .. import __version__
from ..processes import speaks, wait
from ..whole_files import DamagedFileError, NotWrittenError, folder_to_disk, writing_any_of
from .divergence import LAST_GOOD, TrainingDiverged
from .stages import ForeignRunError

_SECRET_NAME = re.compile(r"(^|[-_])(token|password|passwd|secret|api_?key)$", re.IGNORECASE)
_HUB_TOKEN = re.compile(r"hf_[A-Za-z0-9]{16,}")
ENVIRONMENT_FILE = "environment.json"
_PACKAGES = (
    *("torch", "transformers", "accelerate", "huggingface_hub", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow"),
    *("safetensors", "tokenizers"),
)


@contextmanager
def run_folder(
    target: str | os.PathLike, overwrite: bool = False, process: PartialState | None = None
) -> Iterator[Path]:
    """
    A folder to work in, beside `target`, that takes `target`'s name once the block ends without an error and is
    removed otherwise. Of a training that diverged the last good state stays, beside `target` as `NAME.last_good`.

    Args:
        process (`PartialState`, *optional*): every process of `accelerate launch` must call this; all work in one
            folder, and the main one makes, names and removes it.

    Raises:
        FileExistsError: `target` holds something and `overwrite` is not set. An old folder is only removed after the
            new one is whole.
        NotWrittenError: the system refused a write, in the block or here.
    """
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise FileExistsError(
            f"{target} is there already. Choose another --output_dir, or pass --overwrite_output_dir to replace it "
            "after a successful run."
        )
    work = target.with_name(f"{target.name}.partial")
    wait(process)  # all have looked whether the target is there
    try:
        with writing_any_of(target):
            if speaks(process):
                if work.exists():
                    shutil.rmtree(work)
                work.mkdir(parents=True)
            wait(process)
            yield work
            wait(process)
            if speaks(process):
                _put_in_place(work, target)
    except TrainingDiverged as error:
        if error.last_good is not None and error.last_good.resolve().is_relative_to(work.resolve()):
            kept = target.with_name(f"{target.name}.{LAST_GOOD}")
            shutil.rmtree(kept, ignore_errors=True)
            error.last_good = Path(shutil.move(error.last_good, kept))
        raise
    finally:
        if speaks(process):
            shutil.rmtree(work, ignore_errors=True)


def _put_in_place(work: Path, target: Path) -> None:
    """`work` takes `target`'s name once its bytes are on the disk; what was there goes after that."""
    folder_to_disk(work)
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(work, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    folder_to_disk(target.parent, deep=False)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def told_in_words() -> Iterator[None]:
    """
    Ends a command with the message alone, no traceback, where it says all that its user can do: a file that could not
    be written, a damaged one, a cut-off run of other settings. Decorates a `main`.

    Raises:
        SystemExit: with the message; the exit status is 1.
    """
    try:
        yield
    except (NotWrittenError, DamagedFileError, ForeignRunError) as problem:
        raise SystemExit(f"{type(problem).__name__}: {problem}") from problem


class PeakMemory:
    """
    Samples this process's anonymous memory (what it allocated; mapped files left out) in the background. Linux only;
    `gib` is None elsewhere.
    """

    def __init__(self, seconds_between: float = 0.5) -> None:
        self._bytes, self._between, self._stop = 0, seconds_between, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def gib(self) -> float | None:
        return self._bytes / 2**30 if self._bytes else None

    def _sample(self) -> None:
        status = Path("/proc/self/status")
        while status.exists() and not self._stop.wait(self._between):
            for line in status.read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self._bytes = max(self._bytes, int(line.split()[1]) * 1024)


def run_environment() -> dict[str, str | dict[str, str]]:
    """The command, the device and the versions of what runs, JSON-serialisable; what is not installed is left out."""
    versions = {"python": platform.python_version(), "rarec_hf": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"command": shlex.join(["python", *without_secrets(sys.argv)]), "device": _device(), "versions": versions}


def without_secrets(command: Sequence[str]) -> list[str]:
    """The words of a command with `<hidden>` for the values of options such as `--hub_token`, and for the Hub's tokens
    wherever they stand."""
    known = {value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= 8}
    words, hide = [], False
    for word in command:
        name, equals, _ = word.partition("=")
        named = name.startswith("-") and _SECRET_NAME.search(name) is not None
        if hide and not word.startswith("--"):
            word = "<hidden>"
        elif named and equals:
            word = f"{name}=<hidden>"
        hide = named and not equals
        for secret in known:
            word = word.replace(secret, "<hidden>")
        words.append(_HUB_TOKEN.sub("<hidden>", word))
    return words


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU ({_processor()}), {torch.get_num_threads()} of {cores} cores"


def _processor() -> str:
    """Its name where the system tells it, else its architecture."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text("utf-8", "replace").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), platform.machine())


__all__ = ["ENVIRONMENT_FILE", "PeakMemory", "run_environment", "run_folder", "told_in_words"]
