"""A file or folder appears whole or not at all; what the system refuses is one clear error."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rarec_hf.whole_files import NotWrittenError, is_whole, replacing, replacing_folder, writing, writing_any_of


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(ValueError, match="mine"), replacing(file) as temporary:
        temporary.write_text("ne")
        raise ValueError("mine")
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
    with replacing(file) as temporary:
        temporary.write_text("new")
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


@pytest.fixture
def small_disk():
    """No file may grow beyond 4 KiB, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    "text": lambda path: path.write_text("x" * 10_000),
    "safetensors": lambda path: save_file({"x": torch.zeros(5_000)}, path),
    "torch": lambda path: torch.save({"x": torch.zeros(5_000)}, path),
}


@pytest.mark.parametrize("how", WRITERS)
def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path, small_disk, how):
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(NotWrittenError, match=f"{file} could not be written.*disk full"), replacing(file) as temporary:
        WRITERS[how](temporary)
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
    with pytest.raises(NotWrittenError, match="folder could not"), replacing_folder(tmp_path / "folder") as folder:
        WRITERS[how](folder / "inside")
    assert list(tmp_path.iterdir()) == [file]


def test_a_refused_rename_is_said(tmp_path, monkeypatch):
    """As in a folder that became read-only: nothing else than the old file may be left."""
    file = tmp_path / "file"
    file.write_text("old")
    refusal = PermissionError(13, "Permission denied")
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(refusal))
    with pytest.raises(NotWrittenError, match="read-only"), replacing(file) as temporary:
        temporary.write_text("new")
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_other_errors_stay_what_they_are(tmp_path):
    for error in (RuntimeError("shapes differ"), FileNotFoundError(2, "No such file"), ConnectionError("refused")):
        with pytest.raises(type(error)) as caught, writing(tmp_path / "file"):
            raise error
        assert caught.value is error


NO_SPACE, REFUSED = (errno.ENOSPC, "No space left on device"), (errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(*NO_SPACE), "run"),
        (OSError(*NO_SPACE, "elsewhere/cache"), "elsewhere/cache"),
        (PermissionError(*REFUSED, "{}/run.stages/a/weights"), "run.stages/a/weights"),
        (PermissionError(*REFUSED, "{}/.run.partial.x"), ".run.partial.x"),
        (PermissionError(*REFUSED, "{}"), ""),  # the folder that it shall stand in
        (RuntimeError("PytorchStreamWriter failed writing file data.pkl: file write failed"), "run"),
    ],
)
def test_a_write_that_failed_somewhere_in_a_run_is_said(tmp_path, error, named):
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.format(tmp_path)
    with (
        pytest.raises(NotWrittenError, match=f"{named} could not be written") as caught,
        writing_any_of(tmp_path / "run"),
    ):
        raise error
    assert caught.value.__cause__ is error


def test_where_no_cause_is_told_the_room_that_is_left_is(tmp_path):
    told = "[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"  # of `torch.save`, on a full disk
    with pytest.raises(NotWrittenError, match=r"unexpected pos 64 vs 0; [\d,]+ bytes are free there"):
        with writing(tmp_path / "checkpoint-4" / "optimizer.pt"):
            raise RuntimeError(told)


def test_what_a_run_could_not_read_stays_what_it_is(tmp_path):
    for error in (PermissionError(*REFUSED, str(tmp_path / "events.csv")), RuntimeError("no file (os error 2)")):
        with pytest.raises(type(error)) as caught, writing_any_of(tmp_path / "run"):
            raise error
        assert caught.value is error


def test_a_folder_is_whole_once_its_manifest_is_there(tmp_path):
    with replacing_folder(tmp_path / "folder") as folder:
        (folder / "inside").write_text("x")
        assert not is_whole(folder) and not (tmp_path / "folder").exists()
    assert is_whole(tmp_path / "folder") and not is_whole(tmp_path)


def test_bytes_are_on_the_disk_before_the_name_is(tmp_path):
    """Order of the system calls, as the kernel sees it."""
    script = (
        "import os, sys; from pathlib import Path; from rarec_hf.whole_files import replacing\n"
        "for name in ('fsync', 'replace'):\n"
        "    def told(*a, call=getattr(os, name), name=name): print(name); return call(*a)\n"
        "    setattr(os, name, told)\n"
        "with replacing(Path(sys.argv[1])) as path: path.write_text('x')\n"
    )
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["fsync", "replace", "fsync"]
