"""A short main job in a process forked off one that has imported everything, and what such a run leaves."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import runpy
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import safe_open

import rarec_hf.training.job
import rarec_hf.training.table  # noqa: F401  (imported before the first fork)
from rarec_hf.training.run_comparison import TIMES
from rarec_hf.whole_files import MANIFEST, is_whole

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Fault:
    """
    Args:
        kind (`str`): what was done to the run.
        moment (`str`): when.
        kept (`list[str]`): finished stages and checkpoints that were whole after it.
        problems (`list[str]`): what went wrong: an untold error, a checkpoint that does not load, files that differ
            after the same command was given again. Empty: survived.
        differs (`list[str]`): these files.
        told (`str`): the run's last words; empty if it was killed.
    """

    kind: str
    moment: str
    kept: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    told: str = ""

    @property
    def survived(self) -> bool:
        return not self.problems


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


@dataclass
class Job:
    """
    A run's command and folder; every run of it writes to one log.

    Args:
        options (`list[str]`): of `examples/train.py`, without the folder.
        target (`Path`): the folder that it shall leave.
        log (`Path`): in another folder, which is never full.
    """

    options: list[str]
    target: Path
    log: Path

    @property
    def partial(self) -> Path:
        return self.target.with_name(f"{self.target.name}.partial")

    @property
    def stages(self) -> Path:
        return self.target.with_name(f"{self.target.name}.stages")

    def start(self, prepare: Callable[[], None] = lambda: None, at_end: Callable[[], None] = lambda: None) -> int:
        """The run in a process of its own, in which `prepare` is called before it; returns the process's id."""
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.argv = ["train.py", *self.options, "--output_dir", str(self.target)]
            prepare()
            runpy.run_path(str(ROOT / "examples" / "train.py"), run_name="__main__")
            at_end()
            code = 0
        except SystemExit as ended:
            print(ended.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def run(self, prepare: Callable[[], None] = lambda: None) -> tuple[bool, str]:
        """Runs to its end: whether that was a success, and what was said."""
        before = self.log.stat().st_size if self.log.exists() else 0
        _, status = os.waitpid(self.start(prepare), 0)
        return status == 0, self.said(before)

    def said(self, since: int) -> str:
        return self.log.read_bytes()[since:].decode("utf-8", "replace")

    def finish(self) -> None:
        """Runs to its end, which must be a success."""
        success, said = self.run()
        if not success:
            raise SystemExit(f"The run failed; its last words:\n{said[-3000:]}")

    def clear(self) -> None:
        for folder in (self.target, self.stages, self.partial):
            shutil.rmtree(folder, ignore_errors=True)

    def wait(self, pid: int) -> float:
        """Until the run has a folder to work in; returns that moment in seconds."""
        while not self.partial.exists():
            if os.waitpid(pid, os.WNOHANG)[0]:
                raise SystemExit(f"The run ended before its folder appeared:\n{self.said(0)[-3000:]}")
            time.sleep(0.002)
        return time.perf_counter()

    def left(self) -> list[str]:
        """Names beside the run's folder that a finished run should not leave."""
        name = self.target.name
        return sorted(p.name for p in self.target.parent.iterdir() if p.name.lstrip(".").startswith(f"{name}."))

    def check_end(self, fault: Fault, expected: dict[str, str]) -> None:
        """The same command once more; notes in the fault what differs from an undisturbed run."""
        success, said = self.run()
        if not success:
            fault.problems.append(f"did not go on: {last_words(said)}")
            return
        fault.differs = differences(expected, contents(self.target)) + self.left()
        if fault.differs:
            fault.problems.append(f"differs: {fault.differs}")

    def look(self, fault: Fault) -> None:
        """Notes what is whole, and that every tensor of it can be read."""
        if self.target.exists():
            fault.kept = ["the end"]
            return
        try:
            fault.kept = kept(self.stages)
            for name in fault.kept:
                for path in (self.stages / name).rglob("*.safetensors"):
                    with safe_open(path, "pt") as file:
                        for key in file.keys():  # noqa: SIM118  (not a dict)
                            file.get_tensor(key)
        except Exception as problem:  # whatever it is, the table must tell
            fault.problems.append(f"what was kept does not load: {problem}")


def killing_at(last_write: int, count: Path | None = None) -> Callable[[], None]:
    """For [`Job.start`]: the process kills itself when it is about to bring a file to the disk for the
    `last_write`-th time, and notes in `count`, at each, how many there were."""

    def prepare() -> None:
        writes, to_disk = itertools.count(1), os.fsync

        def fsync(handle: int) -> None:
            number = next(writes)
            if number == last_write:
                os.kill(os.getpid(), signal.SIGKILL)
            if count is not None:
                count.write_text(str(number))
            to_disk(handle)

        os.fsync = fsync

    return prepare


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


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def last_words(said: str) -> str:
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "nothing")


@dataclass
class Undisturbed:
    """What two undisturbed runs left alike: digests of the files, seconds after the folder appeared, writes."""

    expected: dict[str, str]
    seconds: float
    n_writes: int


def undisturbed(job: Job) -> Undisturbed:
    """Runs twice, with one result; leaves nothing."""
    count = job.log.with_name("writes")
    pid = job.start(killing_at(0, count))
    began = job.wait(pid)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(f"The run failed; its last words:\n{job.said(0)[-3000:]}")
    seconds, expected = time.perf_counter() - began, contents(job.target)
    job.clear()
    job.finish()
    if differs := differences(expected, contents(job.target)):
        raise SystemExit(f"Two undisturbed runs differ already: {differs}")
    job.clear()
    return Undisturbed(expected, seconds, int(count.read_text()))
