"""The folder that a run leaves: whole, or not there at all. And what the run took."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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

    def __init__(self, seconds_between: float = 0.5):
        self._bytes, self._between, self._stop = 0, seconds_between, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
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


__all__ = ["PeakMemory", "run_folder"]
