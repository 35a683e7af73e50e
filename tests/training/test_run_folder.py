"""A run leaves a whole folder or none."""

import json
import sys

import pytest
import torch

import rarec_hf
from rarec_hf.training.run_folder import PeakMemory, run_environment, run_folder


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
    assert ran["versions"]["torch"] == torch.__version__ and ran["versions"]["rarec_hf"] == rarec_hf.__version__
    assert torch.cuda.is_available() or f"{torch.get_num_threads()} of " in ran["device"]
