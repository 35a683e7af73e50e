"""After the tests: how many generated cases there were, and how they ended."""

from hostile_cases import TALLY


def pytest_terminal_summary(terminalreporter) -> None:
    if TALLY:
        refused = sum(count for name, count in TALLY.items() if name.endswith("refused"))
        terminalreporter.write_line(f"{TALLY.total()} hostile cases, {refused} of them refused by a typed error:")
        for name, count in sorted(TALLY.items()):
            terminalreporter.write_line(f"  {name} {count}")
