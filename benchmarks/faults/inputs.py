"""How the generated hostile inputs of `tests/hostile` end, counted by these tests themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.runs import ROOT


@dataclass
class Inputs:
    """
    Args:
        refused, answered (`dict[str, int]`): by kind of input, how many ended in a typed error and in an answer.
        passed, failed (`int`): tests; each stops at the first input that ends in a wrong answer, an untyped error, or
            too late.
    """

    refused: dict[str, int]
    answered: dict[str, int]
    passed: int
    failed: int

    @property
    def tried(self) -> int:
        return sum(self.refused.values()) + sum(self.answered.values())


def hostile_inputs(tally: Path, full: bool) -> Inputs:
    """
    Runs the tests, a few hundred cases or, `full`, all of them; `tally` is a file for their counts.

    Raises:
        SystemExit: the tests did not come to their end.
    """
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/hostile", "--tally", str(tally)]
    command += ["-m", "slow or not slow"] if full else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not tally.exists() or done.returncode > 1:
        raise SystemExit(f"The hostile tests did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = json.loads(tally.read_text("utf-8"))
    ends: dict[str, dict[str, int]] = {"refused": {}, "answered": {}}
    for name, count in found["cases"].items():
        kind, _, end = name.rpartition(": ")
        ends[end][kind] = count
    tests = found["tests"]
    return Inputs(**ends, passed=tests["passed"], failed=tests["failed"] + tests["error"])
