"""
Puts faults into the main job, gives the same command again, and compares all that the run leaves, byte by byte, with a
run that nobody disturbed. Beside it: how generated hostile inputs end, and whether `recommend()` holds a load.

    OMP_NUM_THREADS=1 python -m benchmarks.faults --kills 20 --seed 0 --output benchmarks/results/faults.md

Faults: SIGKILL at random moments to a run of one process (`--kills`) and to one or all processes of a launched run
(`--launched`, `--processes`), disks that are full, read-only or lose a write (`--disk` moments of each kind). A tiny
random backbone and forty users; a run of one process is forked off one that has imported everything, so that moments
fall into the work and not into imports. What says how long something took is left out of the comparison.
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
import tempfile
from pathlib import Path

from benchmarks.faults.disk import disk_faults
from benchmarks.faults.inputs import hostile_inputs
from benchmarks.faults.kills import kills, kills_of_launched
from benchmarks.faults.page import markdown, row_of_load, rows_of_faults, rows_of_inputs
from benchmarks.faults.runs import Fault, Job, short_run, undisturbed
from benchmarks.load import built_model, load


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.strip().splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="Of a run of one process.")
    parser.add_argument("--launched", type=int, default=4, help="Kills of a launched run; each takes a minute.")
    parser.add_argument("--processes", type=int, default=2, help="Of the launched run.")
    parser.add_argument("--disk", type=int, default=3, help="Faults of each kind of disk fault.")
    parser.add_argument("--inputs", choices=["none", "few", "all"], default="few", help="Hostile inputs.")
    parser.add_argument("--load", type=int, default=10_000, help="Calls of `recommend()` from 1 thread, and from 8.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="Markdown file for the table.")
    arguments = parser.parse_args()
    faults: list[Fault] = []

    def tell(text: str) -> None:
        print(text, flush=True)

    def note(fault: Fault) -> None:
        faults.append(fault)
        end = "; ".join(fault.problems) or "survived, equal"
        tell(f"{len(faults):>3}. {fault.kind}, {fault.moment}, kept {fault.kept}: {end}")

    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), random.Random(arguments.seed)
        (folder / "out").mkdir()
        job = Job(short_run(folder), folder / "out" / "run", folder / "log.txt")
        alone = undisturbed(job)
        n_files = len(alone.expected)
        tell(f"Undisturbed: {alone.seconds:.1f} s, {alone.n_writes} writes, {n_files} files, the same twice.")
        for fault in kills(job, alone, arguments.kills, rng):
            note(fault)
        if arguments.disk:
            for fault in disk_faults(job, alone, arguments.disk, rng, tell):
                note(fault)
        if arguments.launched:
            for fault in kills_of_launched(job, arguments.processes, arguments.launched, rng, tell):
                note(fault)
        rows = rows_of_faults(faults)
        wrong_ends = 0
        if arguments.inputs != "none":
            inputs = hostile_inputs(folder / "tally.json", arguments.inputs == "all")
            rows += rows_of_inputs(inputs)
            wrong_ends = inputs.failed
    held = True
    if arguments.load:
        model = built_model()
        loads = [load(model, arguments.load, threads) for threads in (1, 8)]
        rows += [row_of_load(one) for one in loads]
        held = all(one.held for one in loads)
    shown = [word for word in sys.argv[1:] if word != str(arguments.output) and word != "--output"]
    page = markdown(shlex.join(["python", "-m", "benchmarks.faults", *shown]), rows, faults)
    for path in (name, str(Path(name).resolve())):
        page = page.replace(f"{path}/", "")
    tell("\n" + page)
    if arguments.output:
        arguments.output.write_text(page, "utf-8")
    if wrong_ends or not held or not all(fault.survived for fault in faults):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
