"""SIGKILL: to a run of one process at random moments, and to one or all of the processes of a launched run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil

from benchmarks.faults.runs import ROOT, Fault, Job, Undisturbed, contents, differences, killing_at, last_words


def kills(job: Job, alone: Undisturbed, n_kills: int, rng: random.Random) -> Iterator[Fault]:
    """A kill in each n-th part of the run, so that all stages have their share; by turns at a write, where most can go
    wrong, and at any time."""
    for number in range(n_kills):
        yield kill(job, alone, (number + rng.random()) / n_kills, number % 2 == 0)


def kill(job: Job, alone: Undisturbed, part: float, at_write: bool) -> Fault:
    if at_write:
        last_write = 1 + int(part * alone.n_writes)
        fault = Fault("killed, one process", f"at write {last_write} of {alone.n_writes}")
        os.waitpid(job.start(killing_at(last_write)), 0)
    else:
        fault = Fault("killed, one process", f"after {part * alone.seconds:.2f} s")
        pid = job.start()
        began = job.wait(pid)
        time.sleep(max(0.0, began + part * alone.seconds - time.perf_counter()))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    _go_on(job, fault, alone.expected, job.check_end)
    return fault


def _go_on(job: Job, fault: Fault, expected: dict[str, str], finish: Callable) -> None:
    job.look(fault)
    if fault.kept == ["the end"]:  # killed when all was done, `NAME.stages` may be left
        fault.differs = differences(expected, contents(job.target))
        fault.problems += [f"differs: {fault.differs}"] if fault.differs else []
    else:
        finish(fault, expected)
    job.clear()


class Launched:
    """A run of several processes, as `accelerate launch` starts it."""

    def __init__(self, job: Job, processes: int):
        self.job, self.processes = job, processes

    def start(self) -> subprocess.Popen:
        sys.path.insert(0, str(ROOT / "tests"))
        from tests_support import CONFIGURATIONS, one_thread

        configuration = str(CONFIGURATIONS / "processes.yaml")
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", configuration]
        script = [str(ROOT / "examples" / "train.py"), *self.job.options, "--output_dir", str(self.job.target)]
        command = [*launch, "--num_processes", str(self.processes), *script]
        with self.job.log.open("ab") as log:
            return subprocess.Popen(command, env=one_thread(), stdout=log, stderr=log, cwd=ROOT)

    def ranks(self, launcher: subprocess.Popen) -> list[psutil.Process]:
        """The processes that train, in the order of their start."""
        children = psutil.Process(launcher.pid).children(recursive=True)
        of_script = [p for p in children if any("examples/train.py" in word for word in p.cmdline())]
        return sorted(of_script, key=lambda process: (process.create_time(), process.pid))

    def finish(self) -> None:
        if self.start().wait():
            raise SystemExit(f"The launched run failed; its last words:\n{self.job.said(0)[-3000:]}")

    def check_end(self, fault: Fault, expected: dict[str, str]) -> None:
        before = self.job.log.stat().st_size
        if self.start().wait():
            fault.problems.append(f"did not go on: {last_words(self.job.said(before))}")
            return
        fault.differs = differences(expected, contents(self.job.target)) + self.job.left()
        fault.problems += [f"differs: {fault.differs}"] if fault.differs else []

    def wait(self, launcher: subprocess.Popen) -> float:
        while not self.job.partial.exists():
            if launcher.poll() is not None:
                raise SystemExit(f"The launched run ended before its folder appeared:\n{self.job.said(0)[-3000:]}")
            time.sleep(0.01)
        return time.perf_counter()

    def kill(self, part: float, seconds: float, victim: int | None, expected: dict[str, str]) -> Fault:
        """SIGKILL to the process `victim` of the run, or to all and the launcher, after this part of its seconds."""
        whom = f"process {victim}" if victim is not None else "all"
        fault = Fault(f"killed, one or all of {self.processes} processes", f"{whom} after {part * seconds:.2f} s")
        launcher = self.start()
        began = self.wait(launcher)
        time.sleep(max(0.0, began + part * seconds - time.perf_counter()))
        try:
            ranks = self.ranks(launcher)
            if victim is None:
                launcher.kill()
            for process in ranks if victim is None else ranks[victim : victim + 1]:
                process.kill()
        except psutil.NoSuchProcess:
            pass  # it was over
        launcher.wait()
        psutil.wait_procs(ranks, timeout=60)
        _go_on(self.job, fault, expected, self.check_end)
        return fault


def kills_of_launched(job: Job, processes: int, n_kills: int, rng: random.Random, tell: Callable) -> Iterator[Fault]:
    """By turns to one process and to all, after two undisturbed runs with one result."""
    launched = Launched(job, processes)
    launcher = launched.start()
    began = launched.wait(launcher)
    if launcher.wait():
        raise SystemExit(f"The launched run failed; its last words:\n{job.said(0)[-3000:]}")
    seconds, expected = time.perf_counter() - began, contents(job.target)
    job.clear()
    launched.finish()
    if differs := differences(expected, contents(job.target)):
        raise SystemExit(f"Two undisturbed runs of {processes} processes differ already: {differs}")
    job.clear()
    tell(f"Undisturbed, {processes} processes: {seconds:.1f} s, {len(expected)} files, the same twice.")
    for number in range(n_kills):
        part, victim = (number + rng.random()) / n_kills, None if number % 2 else number // 2 % processes
        yield launched.kill(part, seconds, victim, expected)
