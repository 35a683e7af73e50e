"""The main job killed at random moments and given again leaves, byte by byte, what an undisturbed run leaves."""

import os
import subprocess
import sys

import pytest
from tests_support import ROOT, one_thread


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_killed_at_five_moments(tmp_path):
    # In a process of its own: a fork of one with threads would be of an undefined state
    command = [sys.executable, "-m", "benchmarks.faults", "--kills", "5", "--output", str(tmp_path / "page.md")]
    done = subprocess.run(command, cwd=ROOT, env=one_thread(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "5 of 5 runs that were killed and given again left what an undisturbed run leaves" in page
    assert page.count("| none |") == 5 and "id_encoder" in page  # something was kept, and gone on from
