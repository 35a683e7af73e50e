"""The main job killed or refused a write at random moments and given again leaves what an undisturbed run leaves."""

import os
import subprocess
import sys

import pytest
from tests_support import ROOT, one_thread


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_faults_at_random_moments(tmp_path):
    # In a process of its own: a fork of one with threads would be of an undefined state
    options = ["--kills", "5", "--launched", "1", "--disk", "1", "--inputs", "none", "--load", "0"]
    command = [sys.executable, "-m", "benchmarks.faults", *options, "--output", str(tmp_path / "page.md")]
    done = subprocess.run(command, cwd=ROOT, env=one_thread(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "| fault: killed, one process | 5 | 5 survived | 5 equal |" in page
    assert "| fault: killed, one or all of 2 processes | 1 | 1 survived | 1 equal |" in page
    assert "id_encoder" in page  # something was kept, and gone on from
    rows = [line for line in page.splitlines() if line.startswith("| fault: ")]
    assert len(rows) >= 6 and not any("disk" in row and "| 0 survived" in row for row in rows)
    assert "No space left on device" in page and "NotWrittenError" in page and "DamagedFileError" in page
