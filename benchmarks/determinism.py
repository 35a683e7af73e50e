"""Whether a run leaves the same again, and with another number of threads: the main job, several times, compared.

    python -m benchmarks.determinism --threads 1 1 2 2 --output benchmarks/results/determinism.md

On the embedded data (items and users with 20 interactions or more), with a tiny random backbone; all else is the main
job's default, or as `--more` says. Each run is a process of its own, told the number of threads by OMP_NUM_THREADS.
Every run is compared with the first one, and with the first of its number of threads.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from rarec_hf.training.run_comparison import compare_runs
from rarec_hf.training.run_folder import run_environment

ROOT = Path(__file__).parent.parent
SHORT = (
    *("--k_core", "20", "--fp32", "--disable_tqdm", "true", "--encoder_epochs", "3", "--alignment_samples", "256"),
    *("--eval_users", "200"),
)


def train(folder: Path, backbone: Path, threads: int, more: list[str]) -> None:
    """The main job in a process of its own."""
    words = [str(ROOT / "examples" / "train.py"), *SHORT, "--backbone", str(backbone), "--output_dir", str(folder)]
    words += more
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The run with {threads} threads failed:\n{done.stderr[-3000:]}")


def row(name: str, of: str, folder: Path, other: Path) -> tuple[str, bool]:
    """A row of the table, and whether all is equal."""
    lines = compare_runs(folder, other)
    told = {line.part: line.differs or "equal" for line in lines}
    parts = ("id_encoder/model.safetensors", "model.safetensors", "ranks.parquet", "metrics.json")
    return f"| {name} | {of} | {' | '.join(told[part] for part in parts)} |", all(line.equal for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 1, 2, 2], help="of each run, in turn")
    parser.add_argument("--more", default="", help="further options of the main job, in quotes")
    parser.add_argument("--output", type=Path, help="markdown file to write")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from tests_support import save_tiny_backbone

    rows, repeated = [], True
    with tempfile.TemporaryDirectory() as folder:
        save_tiny_backbone(Path(folder) / "backbone")
        runs = [Path(folder) / f"run{number}" for number in range(len(arguments.threads))]
        for run, threads in zip(runs, arguments.threads, strict=True):
            print(f"Training with {threads} threads", flush=True)
            train(run, Path(folder) / "backbone", threads, shlex.split(arguments.more))
        for number, threads in enumerate(arguments.threads):
            first = arguments.threads.index(threads)
            for other in dict.fromkeys((0, first)):
                if other == number:
                    continue
                name, of = (f"run {n + 1}, {arguments.threads[n]} threads" for n in (number, other))
                line, equal = row(name, of, runs[other], runs[number])
                rows.append(line)
                repeated &= equal or other != first
    device, more = run_environment()["device"], f" --more {shlex.quote(arguments.more)}" if arguments.more else ""
    page = [
        *("# The same again", ""),
        f"`python -m benchmarks.determinism --threads {' '.join(map(str, arguments.threads))}{more}`: the main job "
        f"with a tiny backbone, {device}, torch {torch.__version__}, Transformers {transformers.__version__}.",
        "",
        "| Run | compared with | ID encoder | model | ranks | metrics |",
        "| :--- | :--- | :--- | :--- | :--- | :--- |",
        *rows,
    ]
    print("\n".join(page))
    if arguments.output:
        arguments.output.write_text("\n".join(page) + "\n", "utf-8")
    if not repeated:
        raise SystemExit("Runs with one number of threads differ.")


if __name__ == "__main__":
    main()
