"""
Kills the main job with SIGKILL at random moments, gives the same command again, and compares all that the run leaves,
byte by byte, with a run that nobody disturbed.

    OMP_NUM_THREADS=1 python -m benchmarks.faults --kills 20 --seed 0 --output benchmarks/results/faults.md

A tiny random backbone and forty users; every run is a process forked off one that has imported everything, so that
moments fall into the work and not into imports. What says how long something took is left out of the comparison.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from rarec_hf.training import job, table  # noqa: F401  (imported before the first fork)
from rarec_hf.whole_files import MANIFEST, is_whole

ROOT = Path(__file__).parent.parent
TIMES = ("seconds", "minutes", "peak_anonymous_memory_gib")


@dataclass
class Kill:
    """
    Args:
        moment (`str`): seconds after the run's folder appeared, or which time it brought a file to the disk.
        there (`list[str]`): what was kept.
        differs (`list[str]`): files that differ after the run was given again.
    """

    moment: str
    there: list[str]
    differs: list[str]


def short_run(folder: Path) -> list[str]:
    """Interactions, items and a tiny backbone; returns the options that name them and keep the run short."""
    sys.path.insert(0, str(ROOT / "tests"))
    from tests_support import save_inputs

    save_inputs(folder)
    return [
        *("--interactions", str(folder / "events.csv"), "--items", str(folder / "items.jsonl")),
        *("--backbone", str(folder / "backbone"), "--disable_tqdm", "true", "--fp32", "--encoder_hidden_size", "16"),
        *("--encoder_epochs", "4", "--encoder_batch_size", "8", "--alignment_fraction", "0.3"),
        *("--alignment_samples", "0", "--alignment_negatives", "4", "--num_train_epochs", "3", "--logging_steps", "3"),
        *("--per_device_train_batch_size", "8", "--save_strategy", "steps", "--save_steps", "4"),
        *("--save_total_limit", "2", "--eval_strategy", "steps", "--eval_steps", "4", "--load_best_model_at_end"),
        *("--early_stopping_patience", "9", "--recommendation_samples", "2"),
    ]


def start(options: list[str], log: Path, last_write: int = 0) -> int:
    """The main job in a process of its own, which kills itself when it is about to bring a file to the disk for the
    `last_write`-th time; returns its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.argv = ["train.py", *options]
        writes, to_disk = itertools.count(1), os.fsync

        def fsync(handle: int) -> None:
            number = next(writes)
            if number == last_write:
                os.kill(os.getpid(), signal.SIGKILL)
            to_disk(handle)

        os.fsync = fsync
        runpy.run_path(str(ROOT / "examples" / "train.py"), run_name="__main__")
        (log.parent / "writes").write_text(str(next(writes) - 1))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def finish(options: list[str], log: Path) -> None:
    """Runs the main job to its end."""
    _, status = os.waitpid(start(options, log), 0)
    if status:
        raise SystemExit(f"The run failed; the end of {log}:\n{log.read_text('utf-8', 'replace')[-3000:]}")


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a run's folder, times left out."""
    return {path.relative_to(folder).as_posix(): digest(path) for path in folder.rglob("*") if path.is_file()}


def digest(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "metrics.json":
        content = json.dumps(_without_times(json.loads(content))).encode()
    elif path.suffix == ".md":
        text = re.sub(rf"({'|'.join(TIMES)})\W+[\d.]+|[\d.]+ (minutes|GiB)|card [0-9a-f]{{16}}", "", content.decode())
        content = re.sub(r"\| \d+\.\d \|", "| |", text).encode()  # the column of seconds
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _without_times(content):
    if isinstance(content, dict):
        return {name: _without_times(value) for name, value in content.items() if name not in TIMES}
    return [_without_times(value) for value in content] if isinstance(content, list) else content


def kept(stages: Path) -> list[str]:
    """What a cut-off run left, by name; an error if a folder that says it is whole is not."""
    manifests = sorted(stages.rglob(MANIFEST))
    return [path.parent.relative_to(stages).as_posix() for path in manifests if is_whole(path.parent)]


def faults(n_kills: int, seed: int, folder: Path, tell=print) -> list[Kill]:
    """Runs undisturbed twice, then once for each kill and again for its end."""
    options, target, log = short_run(folder), folder / "run", folder / "log.txt"
    options += ["--output_dir", str(target)]
    partial, stages = (target.with_name(f"{target.name}.{what}") for what in ("partial", "stages"))
    pid = start(options, log)
    began = _wait_for(partial, pid)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(f"The run failed; the end of {log}:\n{log.read_text('utf-8', 'replace')[-3000:]}")
    seconds, expected = time.perf_counter() - began, contents(target)
    shutil.rmtree(target)
    finish(options, log)
    if differs := _differences(expected, contents(target)):
        raise SystemExit(f"Two undisturbed runs differ already: {differs}")
    shutil.rmtree(target)
    n_writes = int((folder / "writes").read_text())
    tell(f"Undisturbed: {seconds:.1f} s, {n_writes} writes, {len(expected)} files, the same twice.")
    kills, rng = [], random.Random(seed)
    for number in range(n_kills):
        # One in each n-th part of the run, so that all stages have their share; by turns at a write, where most can go
        # wrong, and at any time
        part = (number + rng.random()) / n_kills
        if number % 2 == 0:
            last_write = 1 + int(part * n_writes)
            moment = f"at write {last_write} of {n_writes}"
            os.waitpid(start(options, log, last_write), 0)
        else:
            moment = f"after {part * seconds:.2f} s"
            pid = start(options, log)
            began = _wait_for(partial, pid)
            time.sleep(max(0.0, began + part * seconds - time.perf_counter()))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        there = ["the end"] if target.exists() else kept(stages)
        if not target.exists():
            finish(options, log)
        left = [path.name for path in folder.iterdir() if path.name.startswith("run.")]
        differs = _differences(expected, contents(target))
        if not (there == ["the end"]):
            differs += left
        kills.append(Kill(moment, there, differs))
        tell(f"{number + 1:>3}. killed {moment}, kept {there}: {differs or 'equal'}")
        shutil.rmtree(target)
        shutil.rmtree(stages, ignore_errors=True)
    return kills


def _wait_for(path: Path, pid: int) -> float:
    while not path.exists():
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise SystemExit("The run ended before its folder appeared.")
        time.sleep(0.002)
    return time.perf_counter()


def _differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def markdown(kills: list[Kill], seed: int) -> str:
    equal = sum(not kill.differs for kill in kills)
    lines = [
        "# Killed anywhere",
        "",
        f"`python -m benchmarks.faults --kills {len(kills)} --seed {seed}`: {equal} of {len(kills)} runs that "
        "were killed and given again left what an undisturbed run leaves, byte by byte.",
        "",
        "| Killed | Kept | Files that differ |",
        "| :--- | :--- | :--- |",
    ]
    for kill in kills:
        lines.append(f"| {kill.moment} | {', '.join(kill.there) or 'nothing'} | {', '.join(kill.differs) or 'none'} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="Markdown file for the table.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kills = faults(arguments.kills, arguments.seed, Path(folder))
    page = markdown(kills, arguments.seed)
    print("\n" + page)
    if arguments.output:
        arguments.output.write_text(page, "utf-8")
    if any(kill.differs for kill in kills):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
