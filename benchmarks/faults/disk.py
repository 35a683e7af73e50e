"""
Disks that are full, read-only or lose what was written, under the main job.

Real where the system allows: a tmpfs of a few KiB that is filled or remounted read-only, a limit to the size of files,
a folder of somebody else. The same by functions of `os` that fail from their n-th call on, or once; and files that are
cut after they were renamed.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.faults.runs import (
    MANIFEST,
    ROOT,
    Fault,
    Job,
    Undisturbed,
    contents,
    differences,
    killing_at,
    last_words,
)

CAUSES = {
    errno.ENOSPC: "No space left",
    errno.EROFS: "Read-only file system",
    errno.EACCES: "Permission denied",
    errno.EFBIG: "File too large",
}
_WRITE = os.O_WRONLY | os.O_RDWR
NOBODY = 65534


def disk_faults(job: Job, alone: Undisturbed, each: int, rng: random.Random, tell: Callable) -> Iterator[Fault]:
    """`each` moments of every kind, spread over the run."""
    parts = [[(n + rng.random()) / each for n in range(each)] for _ in range(5)]
    count = job.log.with_name("calls")
    job.run(failing(job.target, 0, 0, count=count))
    job.clear()
    n_calls = int(count.read_text())
    for number, part in zip((errno.ENOSPC, errno.EROFS), parts, strict=False):
        for one in part:
            yield _call_fails(job, alone, 1 + int(one * n_calls), n_calls, number, False)
    for one in parts[2]:
        yield _call_fails(job, alone, 1 + int(one * n_calls), n_calls, errno.ENOSPC, True)
    job.finish()
    sizes = sorted({path.stat().st_size for path in job.target.rglob("*") if path.is_file()})
    used = sum(-(-path.stat().st_size // 4096) * 4 for path in job.target.rglob("*"))  # KiB of whole pages
    job.clear()
    for one in parts[3]:
        yield _files_too_large(job, alone, sizes[int(one * (len(sizes) - 1))])
    if _nobody_can_run():
        yield _not_mine(job, alone)
    else:
        tell("Only root can read the packages here: permission to write is refused by functions that fail.")
        yield _call_fails(job, alone, 1, n_calls, errno.EACCES, False)
    if (disk := TinyDisk.mounted(job.target.parent)) is None:
        tell("No tmpfs may be mounted here: a full and a read-only disk are left to the functions that fail.")
    else:
        try:
            for one in parts[0]:
                yield disk.full(job, alone, max(8, int(one * used)))
            for one in parts[1]:
                yield disk.read_only(job, alone, 0.9 * one)
        finally:
            disk.unmount()
    for one in parts[4]:
        yield _lost_write(job, alone, one, rng)


def _check_words(fault: Fault, job: Job, success: bool, said: str, number: int) -> None:
    """The message: typed, of the cause, with a file of the run in it, and no traceback."""
    fault.told = last_words(said)
    if success:
        fault.problems.append("the run says it succeeded")
    if "Traceback (most recent call last)" in said:
        fault.problems.append(f"a traceback: {fault.told}")
    elif CAUSES[number] not in fault.told and "bytes are free there" not in fault.told:
        fault.problems.append(f"the cause is not told: {fault.told}")
    elif str(job.target.parent) not in fault.told:
        fault.problems.append(f"no file is named: {fault.told}")


def _end(fault: Fault, job: Job, alone: Undisturbed) -> Fault:
    job.look(fault)
    if fault.kept != ["the end"]:
        job.check_end(fault, alone.expected)
    job.clear()
    return fault


def failing(
    target: Path, first: int, number: int, once: bool = False, count: Path | None = None
) -> Callable[[], None]:
    """For [`Job.start`]: from the `first` call on that writes below `target`'s name, or brings anything to the disk,
    such calls fail with errno `number`; none with 0. `count`: gets how many there were."""

    def prepare() -> None:
        calls = 0

        def checked(path: object) -> None:
            nonlocal calls
            if path is not None and not os.path.abspath(os.fsdecode(path)).startswith(str(target)):
                return
            calls += 1
            if count is not None:
                count.write_text(str(calls))
            if first and (calls == first if once else calls >= first):
                raise OSError(number, os.strerror(number), None if path is None else os.fsdecode(path))

        def wrap(name: str, path_of: Callable) -> None:
            call = getattr(os, name)

            def wrapped(*arguments, **options):
                if (path := path_of(*arguments, **options)) is not False:
                    checked(path)
                return call(*arguments, **options)

            setattr(os, name, wrapped)

        wrap("fsync", lambda handle: None)
        for name in ("replace", "rename", "link"):
            wrap(name, lambda source, target, **options: target)
        wrap("mkdir", lambda path, *rest, **options: path)
        wrap("open", lambda path, flags=0, *rest, **options: path if flags & _WRITE and flags & os.O_CREAT else False)
        if number == errno.EROFS:
            wrap("unlink", lambda path, **options: path if isinstance(path, (str, Path)) else False)
        plain = io.open

        def opened(file, mode="r", *rest, **options):
            if isinstance(file, (str, Path)) and any(letter in mode for letter in "wax+"):
                checked(file)
            return plain(file, mode, *rest, **options)

        io.open = builtins.open = opened

    return prepare


def _call_fails(job: Job, alone: Undisturbed, first: int, n_calls: int, number: int, once: bool) -> Fault:
    kinds = {errno.ENOSPC: "full disk", errno.EROFS: "read-only disk", errno.EACCES: "no permission to write"}
    kind = kinds[number]
    moment = f"call {first} of {n_calls} fails" if once else f"calls fail from {first} of {n_calls} on"
    fault = Fault(f"{kind}, by failing calls", moment)
    success, said = job.run(failing(job.target, first, number, once))
    if once and success:  # what was refused was done another way: no link, a copy
        fault.told, fault.kept = "went on another way", ["the end"]
        fault.differs = differences(alone.expected, contents(job.target)) + job.left()
        fault.problems += [f"differs: {fault.differs}"] if fault.differs else []
        job.clear()
        return fault
    _check_words(fault, job, success, said, number)
    return _end(fault, job, alone)


def _files_too_large(job: Job, alone: Undisturbed, limit: int) -> Fault:
    """RLIMIT_FSIZE, which also holds for what is not written by Python."""
    fault = Fault("a limit to the size of files", f"{limit} bytes")

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    success, said = _piped(job, prepare)
    _check_words(fault, job, success, said, errno.EFBIG)
    return _end(fault, job, alone)


def _piped(job: Job, prepare: Callable[[], None]) -> tuple[bool, str]:
    """[`Job.run`] with a pipe for a log, which no limit holds for."""
    reader, writer = os.pipe()

    def piped() -> None:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(reader)
        prepare()

    pid = job.start(piped)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read().decode("utf-8", "replace")
    return os.waitpid(pid, 0)[1] == 0, said


def _become_nobody() -> None:
    if os.geteuid() == 0:  # who may write anywhere
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _nobody_can_run() -> bool:
    """Whether a user without rights could read the packages; a process that gave its own up must still import."""
    if not (pid := os.fork()):
        _become_nobody()
        os._exit(0 if all(os.access(path, os.R_OK | os.X_OK) for path in (ROOT, Path(os.__file__).parent)) else 1)
    return os.waitpid(pid, 0)[1] == 0


def _not_mine(job: Job, alone: Undisturbed) -> Fault:
    """A folder that its user may not write in."""
    fault, folders = Fault("no permission to write", "from the start"), [job.log.parent, job.target.parent]
    modes = [folder.stat().st_mode for folder in folders]
    try:
        for folder in folders:
            folder.chmod(0o555)
        success, said = job.run(_become_nobody)
    finally:
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)
    _check_words(fault, job, success, said, errno.EACCES)
    return _end(fault, job, alone)


def _lost_write(job: Job, alone: Undisturbed, part: float, rng: random.Random) -> Fault:
    """A finished file is cut after its rename, as a disk does that lost its last blocks: named and not read; once the
    folder that the message names is deleted, the run goes on."""
    last_write = max(60, 1 + int(part * alone.n_writes))
    os.waitpid(job.start(killing_at(last_write)), 0)
    files = [
        path
        for manifest in sorted(job.stages.rglob(MANIFEST))
        for path in sorted(manifest.parent.rglob("*"))
        if path.is_file() and path.stat().st_size and path.name != MANIFEST
    ]
    if not files:
        raise SystemExit(f"Nothing was kept at write {last_write}; no write can be lost.")
    lost = rng.choice(files)
    fault = Fault("a write that was lost", f"{lost.relative_to(job.stages)} is cut at write {last_write}")
    os.truncate(lost, lost.stat().st_size // 2)
    success, said = job.run()
    if not success:  # a stage of before the cut may not be read any more: then the run may succeed
        fault.told = last_words(said)
        if "Traceback (most recent call last)" in said:
            fault.problems.append(f"a traceback: {fault.told}")
        elif str(lost) not in fault.told or "truncated" not in fault.told:
            fault.problems.append(f"the file or the cause is not told: {fault.told}")
        at = next(p for p in lost.parents if (p / MANIFEST).exists())
        shutil.rmtree(at)
    return _end(fault, job, alone)


class TinyDisk:
    """A tmpfs over the folder `place`, whose size and mode change while it is mounted."""

    def __init__(self, place: Path):
        self.place = place

    @classmethod
    def mounted(cls, place: Path) -> TinyDisk | None:
        command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except FileNotFoundError:
            return None
        return cls(place) if done.returncode == 0 else None

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True)

    def remount(self, options: str) -> bool:
        command = ["mount", "-o", f"remount,{options}", str(self.place)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def full(self, job: Job, alone: Undisturbed, kib: int) -> Fault:
        fault = Fault("full disk, a tmpfs", f"of {kib} KiB")
        if not self.remount(f"size={kib}k"):
            raise SystemExit(f"The tmpfs could not be made {kib} KiB large.")
        success, said = job.run()
        self.remount("size=64m")
        _check_words(fault, job, success, said, errno.ENOSPC)
        return _end(fault, job, alone)

    def read_only(self, job: Job, alone: Undisturbed, part: float) -> Fault:
        before, pid = job.log.stat().st_size, job.start()
        began, ended = job.wait(pid), None
        time.sleep(max(0.0, began + part * alone.seconds - time.perf_counter()))
        while ended is None and not self.remount("ro"):  # refused while a file is open for writing
            found, status = os.waitpid(pid, os.WNOHANG)
            ended = status if found else None
        fault = Fault("read-only disk, a tmpfs", f"after {time.perf_counter() - began:.2f} s")
        success = (os.waitpid(pid, 0)[1] if ended is None else ended) == 0
        self.remount("rw")
        if success and job.target.exists() and part > 0.05:  # faster than the undisturbed run: all was written before
            job.clear()
            return self.read_only(job, alone, part / 2)
        _check_words(fault, job, success, job.said(before), errno.EROFS)
        return _end(fault, job, alone)
