"""Files and folders that are written whole or not at all, and are known again when they are read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

MANIFEST = "complete.json"  # name and checksum of every file of a folder; written last
_NAMES = ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG", "EIO")
_REFUSED = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}


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
        raise NotWrittenError(
            f"{path} could not be written ({problem}). Is the disk full, or the folder read-only? What was there "
            "before is unchanged."
        ) from problem


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
    words = ("os error", "unexpected pos", "file write", "writer", "enforce fail at inline_container")
    return any(word in str(problem).lower() for word in words)


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
    "is_whole",
    "reading",
    "remove_whole",
    "replacing",
    "replacing_folder",
    "write_manifest",
    "writing",
]
