"""Files and folders that are written whole or not at all, and are known again when they are read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

MANIFEST = "complete.json"  # name and checksum of every file of a folder; written last
_NAMES = ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG", "EIO")
_REFUSED = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}
_READS_TOO = {errno.EACCES, errno.EPERM, errno.EIO}  # what a read may be refused with as well


class NotWrittenError(OSError):
    """A file or folder could not be written: the disk is full, the place is read-only. What was there before is."""


class DamagedFileError(ValueError):
    """A file is missing, truncated or not the one that was written."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    A temporary sibling that takes the place of `path` only when the block ends without an error and its bytes are on
    the disk.

    Raises:
        NotWrittenError: the system refused a write.
    """
    temporary = None
    try:
        with writing(path):
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.close(handle)
            temporary = Path(name)
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files
            _to_disk(temporary)
            os.replace(temporary, path)
            _to_disk(path.parent)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system, safetensors and PyTorch say of a failed write into one error that names `path`."""
    try:
        yield
    except NotWrittenError:
        raise
    except (OSError, SafetensorError, RuntimeError) as problem:
        if not _is_of_a_write(problem):
            raise
        raise _not_written(path, problem) from problem


def _not_written(path: Path, problem: Exception) -> NotWrittenError:
    cause = str(problem)
    if not isinstance(problem, OSError) and "os error" not in cause:  # PyTorch does not say what the system said
        place = next((parent for parent in path.parents if parent.exists()), None)
        cause += f"; {shutil.disk_usage(place).free:,} bytes are free there" if place else ""
    return NotWrittenError(
        f"{path} could not be written ({cause}). Is the disk full, or the folder read-only? What was there before "
        "is unchanged."
    )


@contextmanager
def writing_any_of(folder: Path) -> Iterator[None]:
    """
    As [`writing`] around all the work that a folder `NAME` is made in, `NAME.partial` and `NAME.stages` beside it. An
    error of reading a file elsewhere stays what it is.

    Raises:
        NotWrittenError: the system refused a write; names the file where the system does.
    """
    try:
        yield
    except NotWrittenError:
        raise
    except (OSError, SafetensorError, RuntimeError) as problem:
        if not _is_of_a_write(problem):
            raise
        named = getattr(problem, "filename", None)
        named = None if named is None else Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else folder
        of_a_read = isinstance(problem, OSError) and problem.errno in _READS_TOO
        if of_a_read and named is not None and not _belongs(named, folder):
            raise
        raise _not_written(named or folder, problem) from problem


def _belongs(path: Path, folder: Path) -> bool:
    """Whether a path is the folder, one beside it of its name, in one of these, or above it."""
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    if not path.is_relative_to(folder.parent):
        return folder.is_relative_to(path)
    first = path.relative_to(folder.parent).parts[:1]
    return not first or first[0].lstrip(".").startswith(folder.name)


@contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """
    Names the file, or folder, that cannot be read as what it should be.

    Raises:
        DamagedFileError: its content is not JSON or safetensors.
    """
    try:
        yield
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise DamagedFileError(
            f"{path} is damaged: it is truncated or holds something else ({problem}). Save or download it again."
        ) from problem


def _is_of_a_write(problem: Exception) -> bool:
    if isinstance(problem, OSError):
        return problem.errno in _REFUSED
    told = str(problem).lower()
    if numbers := re.findall(r"os error (\d+)", told):  # safetensors
        return any(int(number) in _REFUSED for number in numbers)
    return any(word in told for word in ("unexpected pos", "pytorchstreamwriter", "fail at inline_container"))


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """
    As [`replacing`] for a folder: a sibling that gets a manifest and the name of `path` once the block has ended. It
    may not be there yet.
    """
    temporary = path.with_name(f".{path.name}.unfinished")
    with writing(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        with writing(path):
            yield temporary
            write_manifest(temporary)
            os.replace(temporary, path)
            _to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_manifest(folder: Path) -> None:
    """Lists every file with its checksum, once their bytes are on the disk: the folder is whole from now on."""
    sums = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        _to_disk(path)
        sums[path.relative_to(folder).as_posix()] = _checksum(path)
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(sums, indent=1) + "\n", "utf-8")


def is_whole(folder: Path) -> bool:
    """
    Whether writing the folder came to its end.

    Raises:
        DamagedFileError: it did, and a file is not the one that was written.
    """
    if not (folder / MANIFEST).is_file():
        return False
    try:
        sums = json.loads((folder / MANIFEST).read_text("utf-8"))
        expected = dict(sums)
    except (ValueError, TypeError) as problem:
        raise DamagedFileError(f"{folder / MANIFEST} is damaged ({problem}). {_ADVICE}") from problem
    for name, checksum in expected.items():
        path = folder / name
        if not path.is_file():
            raise DamagedFileError(f"{path} is missing. {_ADVICE}")
        if _checksum(path) != checksum:
            raise DamagedFileError(f"{path} is truncated or was changed after it was written. {_ADVICE}")
    return True


def folder_to_disk(folder: Path, deep: bool = True) -> None:
    """The names in a folder and, `deep`, the bytes of every file below it."""
    for path in sorted(folder.rglob("*")) if deep else ():
        _to_disk(path)
    _to_disk(folder)


def remove_whole(folder: Path) -> None:
    """Removes a folder, manifests first: when that is cut off, nothing is left that says it is whole."""
    for manifest in folder.rglob(MANIFEST):
        manifest.unlink()
    shutil.rmtree(folder)


_ADVICE = "Delete the folder that it stands in: the run goes on from what was kept before it."


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _to_disk(path: Path) -> None:
    """The bytes of a file, or the names in a folder; where a system cannot do the latter, nothing."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


__all__ = [
    "MANIFEST",
    "DamagedFileError",
    "NotWrittenError",
    "folder_to_disk",
    "is_whole",
    "reading",
    "remove_whole",
    "replacing",
    "replacing_folder",
    "write_manifest",
    "writing",
    "writing_any_of",
]
