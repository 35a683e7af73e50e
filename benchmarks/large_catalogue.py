"""Memory and throughput of SASRec's training on a catalogue of a million items, full against sampled cross-entropy.

    python -m benchmarks.large_catalogue            # writes benchmarks/results/large_catalogue.md

Each run is a process of its own, so that its peak is its own: resident memory at the peak of training less what the
process had after a first training on a small catalogue, which loads all libraries. Linux only. The bound is three
times the embedding table plus the optimizer's state.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "large_catalogue.md"
RUNS = (  # negatives (0: full catalogue), windows trained on
    (0, 32),
    (512, 512),
    (4096, 512),
)
BATCH, LENGTH, HIDDEN = 16, 20, 64


def resident(field: str) -> float:
    """`VmRSS`, resident memory now, or `VmHWM`, its peak, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"This machine does not say {field}.")


def train(n_items: int, negatives: int, windows: int, seed: int) -> dict:
    """Trains by `train_id_encoder`, as every user does, and says what it took."""
    import torch

    from rarec_hf.data import leave_one_out
    from rarec_hf.data.interactions import Interactions, ItemTable
    from rarec_hf.training.arguments import EncoderArguments
    from rarec_hf.training.id_encoder import train_id_encoder

    def run(n_items: int, windows: int):
        rng = np.random.default_rng(seed)
        weights = 1 / np.arange(1, n_items + 1) ** 0.8  # power-law popularity
        items = rng.choice(n_items, windows * (LENGTH + 3), p=weights / weights.sum())
        interactions = Interactions(
            [str(user) for user in range(windows)],
            ItemTable([str(item) for item in range(n_items)], [""] * n_items, [{}] * n_items),
            items,
            np.arange(len(items)),
            np.arange(0, len(items) + 1, LENGTH + 3),
        )
        split = leave_one_out(interactions)
        arguments = EncoderArguments(
            encoder_hidden_size=HIDDEN,
            encoder_max_history=LENGTH,
            encoder_batch_size=BATCH,
            encoder_negatives=negatives,
            encoder_epochs=1,
        )
        sequences = split.baseline_sequences()
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, start = resident("VmRSS"), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            encoder, _ = train_id_encoder(split, sequences, None, arguments, folder, seed, None, disable_tqdm=True)
        return encoder, sequences, time.perf_counter() - start, resident("VmHWM") - before

    run(100, BATCH)
    encoder, sequences, seconds, peak = run(n_items, windows)
    table = encoder.item_vectors().numel() * 4
    state = 2 * 4 * sum(parameter.numel() for parameter in encoder.parameters())
    return {
        "negatives": negatives,
        "positions": sum(len(sequence) - 1 for sequence in sequences),
        "seconds": seconds,
        "peak_mib": peak,
        "table_mib": table / 2**20,
        "bound_mib": (3 * table + state) / 2**20,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n_items", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", nargs=2, type=int, help="negatives and windows of one run, in this process")
    parser.add_argument("--dry", action="store_true", help="print without writing the page")
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(train(arguments.n_items, *arguments.run, arguments.seed)))
        return
    rows = []
    for run in RUNS:
        command = [sys.executable, "-m", "benchmarks.large_catalogue", "--n_items", str(arguments.n_items)]
        command += ["--seed", str(arguments.seed), "--run", *map(str, run)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows.append(json.loads(output.strip().splitlines()[-1]))
    page = render(rows, arguments)
    print(page)
    if not arguments.dry:
        RESULTS.write_text(page, "utf-8")


def render(rows: list[dict], arguments) -> str:
    lines = [
        f"# SASRec on {arguments.n_items:,} items",
        "",
        f"`python -m benchmarks.large_catalogue --n_items {arguments.n_items} --seed {arguments.seed}`, "
        f"{platform.machine()}, {rows[0]['threads']} threads of a shared machine; {HIDDEN} wide, 2 blocks, batches of "
        f"{BATCH} windows of {LENGTH} items. The embedding table takes {rows[0]['table_mib']:.0f} MiB; peak memory is "
        "what training added to the process, its bound three tables plus AdamW's state.",
        "",
        "| Loss | Positions | Positions a second | Steps a second | Peak, MiB | Bound, MiB | Peak / bound |",
        "| :--- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        loss = f"sampled, {row['negatives']:,} negatives" if row["negatives"] else "full cross-entropy"
        rate = row["positions"] / row["seconds"]
        lines.append(
            f"| {loss} | {row['positions']:,} | {rate:,.0f} | {rate / (BATCH * LENGTH):.2f} | "
            f"{row['peak_mib']:,.0f} | {row['bound_mib']:,.0f} | {row['peak_mib'] / row['bound_mib']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
