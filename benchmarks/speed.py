"""What training and answering cost, as ratios within one run: the rounds of all variants are interleaved.

    python -m benchmarks.speed                                # SmolLM2-135M's shape with random weights, float32
    python -m benchmarks.speed --backbone qwen3-1.7b --dtype bfloat16 --device cuda
    python -m benchmarks.speed --backbone tiny --rounds 2 --scoring_items 20000 --output ""     # does it run?

8 texts of 124 tokens with a readout of 4, 8 soft prompts. Compared with the bare backbone's forward on the same
tokens, with PEFT's prefix tuning (its language-modelling head and loss included, as its users run it), with generating
a list by 10 beams of 4 tokens, and with torch's own product and top-k. Writes `benchmarks/results/speed.md`. Needs
`peft`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from benchmarks.overhead import timed
from benchmarks.speed_page import page
from benchmarks.speed_variants import TITLES, Ours, Setting, generate, load, peft_step, text_ids
from rarec_hf.top_k import SCORES_AT_ONCE, best_items
from rarec_hf.training.run_folder import PeakMemory

RESULTS = Path(__file__).parent / "results"
MANY = 32  # texts a batch: stored states leave room for more
PROFILED = (
    "bare forward",
    "PEFT step",
    "paper's layout, step, without the alignment loss",
    "after_text, step, stored states",
)
POSITIONS = 6  # readings of a text: after its title 7, 8, ... 12
SCORING_WIDTH, SCORING_K = 64, 10


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="smollm2-135m", help="a shape with random weights, or an address")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scoring_users", type=int, default=4096)
    parser.add_argument("--scoring_items", type=int, default=1_000_000)
    parser.add_argument("--scoring_rounds", type=int, default=3)
    parser.add_argument("--output", default=str(RESULTS / "speed.md"), help="markdown file; empty writes none")
    parser.add_argument("--memory_of", choices=["peft", "after_text", "paper"], help=argparse.SUPPRESS)
    return parser.parse_args()


def variants(setting: Setting) -> dict:
    """Each variant: a function, and what must be done before each of its calls, which is not timed; or None."""
    backbone = load(setting)
    paper = Ours(backbone, setting, "before_text")
    aligned = Ours(backbone, setting, "before_text", alignment_weight=0.1)
    after = Ours(backbone, setting, "after_text")
    stored = Ours(backbone, setting, "after_text")
    stored.store_texts()
    many = Ours(backbone, replace(setting, batch=MANY), "after_text")
    many.store_texts()
    answering = Ours(backbone, setting, "after_text", score="encoder_plus_llm")
    answering.index()
    kept = Ours(backbone, setting, "after_text", score="encoder_plus_llm")
    kept.index()
    ids, bare = text_ids(after), backbone.get_decoder()
    positions = [history[:end] for history in stored.histories for end in range(TITLES - POSITIONS + 1, TITLES + 1)]

    def keep_before() -> None:
        kept.model.forget_texts()
        kept.model.keep_texts(max_gib=8)
        kept.answer([history[:-1] for history in kept.histories])()

    return {
        "bare forward": (torch.no_grad()(lambda: bare(input_ids=ids, use_cache=False)), None),
        "PEFT step": (peft_step(backbone, setting, ids), None),
        "paper's layout, step, without the alignment loss": (paper.user_step(), None),
        "paper's layout, step, alignment loss on known text states": (aligned.user_step(), None),
        "after_text, step, with the text pass": (after.user_step(), None),
        "after_text, step, stored states": (stored.user_step(), None),
        "after_text, step, stored states, 32 texts": (many.user_step(), None),
        "every position, stored states": (stored.user_step(positions, shared=True), None),
        "answer, 23 K items": (answering.answer(), None),
        "answer after one new title, kept states": (kept.answer(), keep_before),
        "generate 10 beams x 4 tokens": (generate(backbone, ids), None),
    }


def measure(setting: Setting, rounds: int) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Seconds of each round by variant, and where the time of some goes: shares of the heaviest operations."""
    runs = variants(setting)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in tqdm(range(rounds + 1), desc="Rounds", unit="round"):
        for name, (run, prepare) in runs.items():
            if prepare is not None:
                prepare()
            elapsed = timed(run, setting.device)
            if number > 0:  # the first round warms up
                seconds[name].append(elapsed)
    seconds["every position, stored states, a target"] = [
        s / (setting.batch * POSITIONS) for s in seconds.pop("every position, stored states")
    ]
    name = "after_text, step, stored states, 32 texts"
    seconds[f"{name}, a text"] = [s / MANY for s in seconds.pop(name)]
    seconds["PEFT step, a text"] = [s / setting.batch for s in seconds["PEFT step"]]
    return seconds, {name: profiled(runs[name][0]) for name in PROFILED}


def profiled(run) -> dict[str, float]:
    with torch.profiler.profile() as profile:
        run()
    times = {e.key: e.self_cpu_time_total + getattr(e, "self_device_time_total", 0) for e in profile.key_averages()}
    total = sum(times.values())
    heaviest = sorted(times, key=times.get, reverse=True)[:4]
    return {key.removeprefix("aten::"): times[key] / total for key in heaviest}


@torch.no_grad()
def measure_scoring(
    n_users: int, n_items: int, rounds: int, device: str
) -> tuple[dict[str, list[float]], list[float]]:
    """`best_items` against torch's product and top-k in pieces of as many scores; and its peak memory for the users
    and for a quarter of them, in GiB."""
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(n_users, SCORING_WIDTH, generator=generator).to(device)
    items = torch.randn(n_items, SCORING_WIDTH, generator=generator).to(device)
    some = max(1, SCORES_AT_ONCE // n_items)

    def ours(n: int = n_users):
        return best_items(lambda u, i: users[:n][u] @ items[i].T, n, n_items, SCORING_K)

    def plain():
        return [(users[start : start + some] @ items.T).topk(SCORING_K) for start in range(0, n_users, some)]

    seconds: dict[str, list[float]] = {"best items": [], "product and top-k": []}
    for number in tqdm(range(rounds + 1), desc="Scoring", unit="round"):
        for name, run in zip(seconds, (ours, plain), strict=True):
            elapsed = timed(run, device)
            if number > 0:
                seconds[name].append(elapsed)
    values, chosen = ours()
    expected = torch.cat([part.values for part in plain()])
    torch.testing.assert_close(values, expected)
    peaks = []
    for n in (n_users // 4, n_users):
        ours(n)
        peaks.append(peak_gib(lambda n=n: ours(n), device))
    return seconds, peaks


def peak_gib(run, device: str) -> float:
    """How much more memory than before the run takes at its peak."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**30
    with PeakMemory(0.002) as before:
        time.sleep(0.2)
    with PeakMemory(0.002) as peak:
        run()
    return max(0.0, (peak.gib or 0.0) - (before.gib or 0.0))


def memory_of(which: str, setting: Setting) -> float:
    """Peak memory above the loaded weights of the first training steps, in a process of its own."""
    backbone = load(setting)
    ours = Ours(backbone, setting, "before_text" if which == "paper" else "after_text")
    step = peft_step(backbone, setting, text_ids(ours)) if which == "peft" else ours.user_step()
    return peak_gib(lambda: (step(), step()), setting.device)


def matmul_peak(dtype: torch.dtype, device: str, size: int = 2048) -> float:
    """Operations a second of a large product: what the machine can do."""
    a, b = (torch.randn(size, size, dtype=torch.float32).to(device, dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: a @ b, device) for _ in range(6))


def main() -> None:
    arguments = parse_arguments()
    setting = Setting(arguments.backbone, getattr(torch, arguments.dtype), arguments.device)
    if arguments.memory_of:
        print(json.dumps(memory_of(arguments.memory_of, setting)))
        return
    memory = {}
    for which in ("peft", "paper", "after_text"):
        command = [sys.executable, "-m", "benchmarks.speed", "--memory_of", which, "--backbone", arguments.backbone]
        command += ["--dtype", arguments.dtype, "--device", arguments.device]
        memory[which] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    scoring, peaks = measure_scoring(
        arguments.scoring_users, arguments.scoring_items, arguments.scoring_rounds, arguments.device
    )
    seconds, profile = measure(setting, arguments.rounds)
    seconds |= scoring
    peak = matmul_peak(setting.dtype, setting.device)
    text = page(arguments, setting, seconds, memory, peaks, peak, profile, SCORING_WIDTH)
    print(text)
    if arguments.output:
        Path(arguments.output).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
