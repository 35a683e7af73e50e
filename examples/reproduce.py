"""Repeats a run from what its folder says of it, and compares what both left.

    python examples/reproduce.py outputs/rarec

The data are looked at first, then the run is repeated into `outputs/rarec.again`, then weights, ranks and metrics are
compared to the bit. The exit code is 0 only if all are equal. A run of several processes is repeated by as many:

    accelerate launch --config_file examples/accelerate_configs/processes.yaml --num_processes 2 examples/reproduce.py outputs/rarec
"""  # noqa: E501

from __future__ import annotations

import argparse
import os
import runpy
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from rarec_hf.training import job
from rarec_hf.training.command_line import parse_arguments
from rarec_hf.training.run_comparison import compare_runs, comparison_table
from rarec_hf.training.run_record import RunRecord

TRAIN = Path(__file__).resolve().with_name("train.py")


def say(text: str) -> None:
    if PartialState().is_main_process:
        print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", help="a folder that `examples/train.py` left")
    parser.add_argument("--output_dir", help="where the repetition goes; FOLDER.again by default")
    for name in ("interactions", "items", "backbone", "id_encoder"):
        parser.add_argument(f"--{name}", help="where it lies now, if not where it lay then")
    given = parser.parse_args()
    record = RunRecord.of(given.folder)
    output = Path(given.output_dir or f"{record.folder}.again").absolute()
    moved = {n: getattr(given, n) for n in ("interactions", "items", "backbone", "id_encoder") if getattr(given, n)}
    moved = {name: os.path.abspath(path) if os.path.exists(path) else path for name, path in moved.items()}
    words = record.words_of_repetition(output, moved)
    if os.path.isdir(record.working_folder):
        os.chdir(record.working_folder)  # which its paths are relative to
    if torch.get_num_threads() != record.threads:  # sums depend on it
        torch.set_num_threads(record.threads)
    data, _, _, training = parse_arguments(words)
    process = PartialState()
    record.check_launch(process)
    record.check_data(job.load_data(data, training.seed).interactions)
    say(f"The data are the same: {record.data_fingerprint}. The run is repeated into {output}.\n")

    sys.argv = [str(TRAIN), *words]
    runpy.run_path(str(TRAIN), run_name="__main__")

    process.wait_for_everyone()
    lines = compare_runs(record.folder, output)
    say(f"\n{record.folder} then, {output} now:\n\n{comparison_table(lines)}")
    others = record.differences(RunRecord.of(output))
    say("Versions, device, threads and options are the same." if not others else "What else differs:")
    for line in others:
        say(f"  {line}")
    if not all(line.equal for line in lines):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
