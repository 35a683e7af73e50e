"""The folder that a run leaves: whole, or not there at all. And what the run took, and on what it ran."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from .. import __version__

ENVIRONMENT_FILE = "environment.json"
_PACKAGES = ("torch", "transformers", "accelerate", "huggingface_hub", "numpy")


@contextmanager
def run_folder(target: str | os.PathLike, overwrite: bool = False) -> Iterator[Path]:
    """
    A folder to work in, beside `target`, that takes `target`'s name once the block ends without an error and is
    removed otherwise.

    Raises:
        FileExistsError: `target` holds something and `overwrite` is not set. An old folder is only removed after the
            new one is whole.
    """
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise FileExistsError(
            f"{target} is there already. Choose another --output_dir, or pass --overwrite_output_dir to replace it "
            "after a successful run."
        )
    work = target.with_name(f"{target.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
        old = target.with_name(f"{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.replace(target, old)
        os.replace(work, target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


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
    return {"command": shlex.join(["python", *sys.argv]), "device": _device(), "versions": versions}


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


__all__ = ["ENVIRONMENT_FILE", "PeakMemory", "run_environment", "run_folder"]
