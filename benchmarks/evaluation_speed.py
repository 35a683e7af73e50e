"""What full-catalogue evaluation costs over the bare matrix product and top-k of torch on the same shapes.

    python benchmarks/evaluation_speed.py
    python benchmarks/evaluation_speed.py --device cuda --output benchmarks/results/evaluation_speed_gpu.md

Two ways over the same random vectors, in interleaved rounds: (a) `users @ items.T` in batches with `topk(100)`,
nothing else; (b) `rank_targets` with a scorer of these vectors, which checks every row, leaves out seen items and
counts exact ranks. Prints a markdown table and, with --output, writes it.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from rarec_hf.evaluation import Ranks, rank_targets
from rarec_hf.whole_files import replacing


class VectorScorer:
    """Scores of users that are known by their vectors."""

    takes_users = True

    def __init__(self, users: torch.Tensor, items: torch.Tensor):
        self.users, self.items = users, items

    def __call__(self, histories, users: np.ndarray) -> torch.Tensor:
        return self.users[torch.from_numpy(users).to(self.users.device)] @ self.items.T


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=40_000)
    parser.add_argument("--items", type=int, default=23_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--history", type=int, default=10, help="mean number of seen items a user")
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="markdown file to write")
    return parser.parse_args()


def make_histories(arguments: argparse.Namespace) -> tuple[list[np.ndarray], np.ndarray]:
    """Random distinct items for each user, the last one the target."""
    rng = np.random.default_rng(arguments.seed)
    lengths = 1 + rng.poisson(arguments.history - 1, arguments.users)
    drawn = [rng.choice(arguments.items, length + 1, replace=False) for length in lengths]
    return [items[:-1] for items in drawn], np.array([items[-1] for items in drawn])


@torch.no_grad()
def main() -> None:
    arguments = parse_arguments()
    generator = torch.Generator().manual_seed(arguments.seed)
    users, items = (
        torch.randn(n, arguments.dim, generator=generator).to(arguments.device)
        for n in (arguments.users, arguments.items)
    )
    histories, targets = make_histories(arguments)
    scorer = VectorScorer(users, items)

    def bare() -> None:
        for start in range(0, len(users), arguments.batch_size):
            (users[start : start + arguments.batch_size] @ items.T).topk(arguments.k)

    def evaluation() -> Ranks:
        return rank_targets(
            scorer,
            histories,
            targets,
            arguments.items,
            users=np.arange(arguments.users),
            batch_size=arguments.batch_size,
            progress=False,
        )

    seconds: dict[str, list[float]] = {"product and top-k": [], "evaluation": []}
    for turn in tqdm(range(arguments.rounds + 1), desc="Rounds"):
        for name, run in zip(seconds, (bare, evaluation), strict=True):
            start = time.perf_counter()
            run()
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            if turn:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    base, ours = seconds.values()
    ratio = statistics.median(b / a for a, b in zip(base, ours, strict=True))
    where = torch.cuda.get_device_name() if arguments.device != "cpu" else f"cpu, {torch.get_num_threads()} threads"
    shown = ("users", "items", "dim", "history", "batch_size", "rounds", "device")
    options = " ".join(f"--{name} {getattr(arguments, name)}" for name in shown)
    command = f"python benchmarks/evaluation_speed.py {options}"
    bare_name = f"| `users @ items.T` in batches, `topk({arguments.k})` |"
    text = (
        f"`{command}`\n\n{where}, torch {torch.__version__}, {platform.machine()}. Ratio: median over rounds of the "
        "ratio to the bare product and top-k of the same round.\n\n"
        "| | median s | min s | ratio |\n| :--- | ---: | ---: | ---: |\n"
        f"{bare_name} {statistics.median(base):.2f} | {min(base):.2f} | 1.00 |\n"
        "| `rank_targets`: rows checked, seen items left out, exact ranks with ties | "
        f"{statistics.median(ours):.2f} | {min(ours):.2f} | {ratio:.2f} |\n"
    )
    print(text)
    if arguments.output:
        with replacing(arguments.output) as path:
            path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
