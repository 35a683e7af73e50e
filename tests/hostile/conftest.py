"""After the tests: how many generated cases there were, and how they ended; with `--tally FILE` as JSON, too."""

import json
from pathlib import Path

import pytest
from hostile_cases import TALLY


def pytest_addoption(parser) -> None:
    parser.addoption("--tally", type=Path, help="Where to write how the hostile cases ended, for `benchmarks.faults`.")


def pytest_sessionfinish(session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of several processes of pytest-xdist
        session.config.workeroutput["hostile_cases"] = dict(TALLY)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    TALLY.update(getattr(node, "workeroutput", {}).get("hostile_cases", {}))


def pytest_terminal_summary(terminalreporter) -> None:
    # Where these tests are not named on the command line, the option is not known
    if file := terminalreporter.config.getoption("tally", None):
        ended = {name: len(terminalreporter.stats.get(name, ())) for name in ("passed", "failed", "error")}
        file.write_text(json.dumps({"cases": TALLY, "tests": ended}) + "\n", "utf-8")
    if TALLY:
        refused = sum(count for name, count in TALLY.items() if name.endswith("refused"))
        terminalreporter.write_line(f"{TALLY.total()} hostile cases, {refused} of them refused by a typed error:")
        for name, count in sorted(TALLY.items()):
            terminalreporter.write_line(f"  {name} {count}")
