"""A run leaves a whole folder or none."""

import errno
import json
import os
import sys

import pytest
import torch

import rarec_hf
from rarec_hf.training.run_folder import PeakMemory, run_environment, run_folder, told_in_words
from rarec_hf.whole_files import DamagedFileError, NotWrittenError


def test_success_leaves_the_folder_alone(tmp_path):
    with run_folder(tmp_path / "out") as work:
        (work / "file").write_text("whole")
        assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "whole"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_run_leaves_nothing(tmp_path, error):
    with pytest.raises(error), run_folder(tmp_path / "out") as work:
        (work / "file").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_unless_asked(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with pytest.raises(FileExistsError, match="overwrite_output_dir"), run_folder(tmp_path / "out"):
        pass
    with pytest.raises(ValueError), run_folder(tmp_path / "out", overwrite=True):
        raise ValueError
    assert (tmp_path / "out" / "old").read_text() == "old"
    with run_folder(tmp_path / "out", overwrite=True) as work:
        (work / "new").write_text("new")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]


def test_an_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    rename = os.replace

    def refused(source, target):
        if str(source).endswith(".partial"):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        rename(source, target)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(NotWrittenError, match="No space left"), run_folder(tmp_path / "out", overwrite=True) as work:
        (work / "new").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["out"] and (tmp_path / "out" / "old").read_text() == "old"


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order, to_disk, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: order.append("fsync") or to_disk(handle))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append("replace") or rename(*paths))
    with run_folder(tmp_path / "out") as work:
        (work / "file").write_text("x")
    assert order == ["fsync", "fsync", "replace", "fsync"]  # the file, its folder; the folder above


def test_what_a_user_can_mend_ends_in_words():
    @told_in_words()
    def main(error):
        raise error

    with pytest.raises(SystemExit, match="^DamagedFileError: a/b is truncated"):
        main(DamagedFileError("a/b is truncated"))
    with pytest.raises(KeyError):
        main(KeyError("x"))


def test_leftovers_of_a_killed_run_are_cleared(tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "half").write_text("half")
    with run_folder(tmp_path / "out") as work:
        assert list(work.iterdir()) == []


def test_peak_memory_sees_an_allocation():
    with PeakMemory(0.01) as memory:
        block = bytearray(b"x" * (64 << 20))
        memory._stop.wait(0.1)
    if memory.gib is not None:
        assert memory.gib > len(block) / 2**30


def test_what_a_run_ran_on_is_known(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["examples/train.py", "--items", "my items.csv"])
    ran = json.loads(json.dumps(run_environment()))
    assert ran["command"] == "python examples/train.py --items 'my items.csv'"
    assert ran["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]  # not every wheel says its build
    assert ran["versions"]["rarec_hf"] == rarec_hf.__version__
    assert torch.cuda.is_available() or f"{torch.get_num_threads()} of " in ran["device"]
