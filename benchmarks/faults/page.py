"""One table of all that was tried, and below it every fault with its moment."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.faults.inputs import Inputs
from benchmarks.faults.runs import Fault
from benchmarks.load import Load


def rows_of_faults(faults: Sequence[Fault]) -> list[tuple[str, ...]]:
    """A row a kind, in the order of their first fault."""
    rows = []
    for kind in dict.fromkeys(fault.kind for fault in faults):
        of = [fault for fault in faults if fault.kind == kind]
        survived, equal = sum(fault.survived for fault in of), sum(not fault.differs for fault in of if fault.survived)
        rows.append((f"fault: {kind}", str(len(of)), f"{survived} survived", f"{equal} equal"))
    return rows


def rows_of_inputs(inputs: Inputs) -> list[tuple[str, ...]]:
    """A row a kind of input, and how many of the tests found a wrong end."""
    rows = []
    for kind in sorted(inputs.refused.keys() | inputs.answered.keys()):
        refused, answered = inputs.refused.get(kind, 0), inputs.answered.get(kind, 0)
        rows.append((f"input: {kind}", str(refused + answered), f"{refused} typed errors", f"{answered} answers"))
    n_tests = inputs.passed + inputs.failed
    end = f"{inputs.failed} of {n_tests} tests found an untyped error or a silent wrong answer"
    refused, answered = sum(inputs.refused.values()), sum(inputs.answered.values())
    rows.append(("inputs together", str(inputs.tried), f"{refused} typed errors", f"{answered} answers; {end}"))
    return rows


def row_of_load(load: Load) -> tuple[str, ...]:
    """Calls from so many threads, what they left in memory, and answers that were not what one thread gave."""
    growth = "memory unknown" if load.growth is None else f"{load.growth:+.1f} MiB in 10,000 calls"
    called = f"load: calls from {load.threads} thread{'s' if load.threads > 1 else ''}"
    return called, str(load.calls), f"{'held' if load.held else 'NOT held'}, {growth}", f"{load.wrong} wrong answers"


def markdown(command: str, rows: Sequence[tuple[str, ...]], faults: Sequence[Fault]) -> str:
    survived = sum(fault.survived for fault in faults)
    lines = [
        "# Faults, hostile inputs and load",
        "",
        f"`{command}`: {survived} of {len(faults)} faults survived. A fault is survived if the run says in one line "
        "what was wrong with which file (if it was not killed), what it had finished still loads, and the same "
        "command, given again, leaves what an undisturbed run leaves, byte by byte, times left out. A machine "
        "that loses its power is not among them.",
        "",
        "| Tried | Times | Ended in | Result |",
        "| :--- | ---: | :--- | :--- |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "## Every fault",
        "",
        "| Fault | When | What was kept | Told | What went wrong |",
        "| :--- | :--- | :--- | :--- | :--- |",
    ]
    for fault in faults:
        cells = (fault.kind, fault.moment, ", ".join(map(_short, fault.kept)) or "nothing", fault.told)
        problems = "; ".join(fault.problems) or "nothing"
        lines.append(f"| {' | '.join(map(_cell, (*cells, problems)))} |")
    return "\n".join(lines) + "\n"


def _short(name: str) -> str:
    return name.replace("alignment_encoder_plus_llm", "alignment").replace(".checkpoints/checkpoint-", " step ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
