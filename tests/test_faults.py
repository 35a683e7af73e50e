"""The main job killed at random moments and given again leaves, byte by byte, what an undisturbed run leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_killed_at_five_moments(tmp_path):
    # In a process of its own: a fork of one with threads would be of an undefined state
    command = [sys.executable, "-m", "benchmarks.faults", "--kills", "5", "--output", str(tmp_path / "page.md")]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "5 of 5 runs that were killed and given again left what an undisturbed run leaves" in page
    assert page.count("| none |") == 5 and "id_encoder" in page  # something was kept, and gone on from
