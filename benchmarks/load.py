"""Many `recommend()` calls, from one thread and from several: memory that grows, answers that change, and what a call
takes beside the bare forward of the backbone on the same tokens.

    OMP_NUM_THREADS=1 python -m benchmarks.load --output benchmarks/results/load.md

A tiny random backbone, or one of SmolLM2-135M's shape (`--backbone smollm2`), or a folder that a run left (`--model`).
Each call is followed by a bare forward in the same thread, so that both meet the same machine: ratios are of one run.
Memory is the process's resident set (Linux), sampled after a warm-up; the slope is that of a line through the samples.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from rarec_hf import RARecForSequentialRecommendation, RARecProcessor, SASRecConfig, SASRecModel

SIZES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "smollm2": {
        **{"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9},
        **{"num_key_value_heads": 3, "head_dim": 64},
    },
}
SAMPLES = 20  # of memory
GROWTH_ALLOWED = 2.0  # MiB in 10,000 calls; the allocator's own unrest is below


@dataclass
class Load:
    """
    What some calls took and left.

    Args:
        threads, calls (`int`): calls of all threads together, warm-up left out.
        call_seconds, bare_seconds (`np.ndarray` of shape `(calls,)`): of `recommend()`, and of the bare forward.
        memory (`list[tuple[int, float]]`): after how many calls, resident MiB; empty where the system tells none.
        wrong (`int`): answers that are not, to the bit, what one thread gave for the same history before.
    """

    threads: int
    calls: int
    call_seconds: np.ndarray
    bare_seconds: np.ndarray
    memory: list[tuple[int, float]] = field(default_factory=list)
    wrong: int = 0

    def milliseconds(self, percent: float) -> tuple[float, float]:
        """That percentile of a call, and of the bare forward."""
        return tuple(1e3 * float(np.percentile(of, percent)) for of in (self.call_seconds, self.bare_seconds))

    @property
    def growth(self) -> float | None:
        """MiB in 10,000 calls, from a line through the samples of the second half; None where memory is unknown."""
        half = self.memory[len(self.memory) // 2 :]
        if len(half) < 3:
            return None
        calls, mib = np.array(half).T
        return float(np.polyfit(calls, mib, 1)[0]) * 10_000

    @property
    def held(self) -> bool:
        """No wrong answer, and no memory that grows."""
        return not self.wrong and (self.growth is None or self.growth <= GROWTH_ALLOWED)


def built_model(size: str = "tiny", n_items: int = 500, seed: int = 0) -> RARecForSequentialRecommendation:
    """A model around a random backbone and ID encoder, with a catalogue of made-up titles, indexed."""
    torch.manual_seed(seed)
    alphabet = {byte: n for n, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token="</s>")
    backbone = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(tokenizer), **SIZES[size]))
    encoder = SASRecModel(SASRecConfig(n_items=n_items))
    model = RARecForSequentialRecommendation.from_backbone(backbone, encoder)
    words, rng = ["red", "old", "night", "river", "king", "lost", "blue", "song", "last", "star"], random.Random(seed)
    titles = [" ".join(rng.sample(words, 3)) for _ in range(n_items)]
    model.processor = RARecProcessor(tokenizer, [f"i{n}" for n in range(n_items)], titles)
    model.prepare_texts(range(n_items), progress=False)
    model.index_catalogue(progress=False)
    return model


def some_histories(model: RARecForSequentialRecommendation, n: int = 64, seed: int = 0) -> list[list[str]]:
    """Random histories of 1 to 20 items of the model's catalogue."""
    rng = random.Random(seed)
    return [rng.choices(model.processor.item_ids, k=rng.randint(1, 20)) for _ in range(n)]


def load(
    model: RARecForSequentialRecommendation,
    calls: int = 10_000,
    threads: int = 1,
    warm_up: int = 500,
    histories: Sequence[Sequence[str]] | None = None,
    progress: bool = False,
) -> Load:
    """
    Asks a model `calls` times, from `threads` threads that share it.

    Args:
        calls (`int`): of all threads together, rounded down to a multiple of `threads`.
        warm_up (`int`): calls before, which count for nothing.
        histories (`list[list[str]]`, *optional*): what is asked for, in turn; random ones otherwise.

    Raises:
        ValueError: fewer calls than threads, or no history.
    """
    histories = some_histories(model) if histories is None else histories
    if threads < 1 or calls < threads or not histories:
        raise ValueError(
            f"Expected at least one thread, a call for each and a history, got {threads} threads, {calls} calls and "
            f"{len(histories)} histories."
        )
    expected = [model.recommend(history) for history in histories]
    tokens = [_tokens(model, history) for history in histories]
    each = calls // threads
    seconds = np.zeros((2, threads, each))
    wrong, memory, barrier = [0] * threads, [], Barrier(threads)

    def ask(thread: int, n: int, sample: Callable[[int], None] | None) -> None:
        barrier.wait()
        for turn in range(n):
            at = (thread * 7 + turn) % len(histories)
            start = time.perf_counter()
            answer = model.recommend(histories[at])
            between = time.perf_counter()
            _bare_forward(model, tokens[at])
            if sample is not None:
                seconds[:, thread, turn] = between - start, time.perf_counter() - between
                wrong[thread] += answer != expected[at]
                if thread == 0:
                    sample(turn + 1)

    step, bar = max(1, each // SAMPLES), tqdm(total=each * threads, unit="call", disable=not progress)

    def sample(done: int) -> None:
        bar.update(threads)
        if done % step == 0 and (mib := resident_mib()) is not None:
            memory.append((done * threads, mib))

    with bar, ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda thread: ask(thread, -(-warm_up // threads), None), range(threads)))
        gc.collect()
        _give_back()
        if (mib := resident_mib()) is not None:
            memory.append((0, mib))
        list(pool.map(lambda thread: ask(thread, each, sample), range(threads)))
    return Load(threads, each * threads, seconds[0].ravel(), seconds[1].ravel(), memory, sum(wrong))


@torch.no_grad()
def _bare_forward(model: RARecForSequentialRecommendation, tokens: torch.Tensor) -> None:
    model.backbone(input_ids=tokens, use_cache=False)


def _tokens(model: RARecForSequentialRecommendation, history: Sequence[str]) -> torch.Tensor:
    """The prompt `(1, length)` of a history, text and readout, as the bare backbone is given it."""
    inputs = model.processor.user_inputs([model.processor.item_indices(history)], 1)
    return torch.cat([inputs["user_text_ids"][0], inputs["user_readout_ids"]]).unsqueeze(0).to(model.device)


def resident_mib() -> float | None:
    """Of this process; None where the system has no `/proc`."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def _give_back() -> None:
    """What was freed goes back to the system, where that can be asked for: it is no growth when it is used again."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)


def summary(loads: Sequence[Load]) -> str:
    """One line: whether the load was held, and the figures that say so."""
    parts = []
    for one in loads:
        (call, bare), growth = one.milliseconds(50), one.growth
        told = "memory unknown" if growth is None else f"{growth:+.1f} MiB in 10,000 calls"
        parts.append(f"{one.calls:,} calls in {one.threads}: {one.wrong} wrong, {told}, {call / bare:.2f} x bare")
    return f"load {'held' if all(one.held for one in loads) else 'NOT held'} (threads: {'; '.join(parts)})"


def markdown(loads: Sequence[Load], command: str, what: str) -> str:
    """A page with a table of times and one of memory."""
    lines = [
        *("# Load", "", f"`{command}`: {what}, torch {torch.__version__}, Transformers {transformers.__version__},"),
        f"{torch.get_num_threads()} torch threads, {platform.machine()}.",
        "",
        "Each thread asks `recommend()` for one history and then runs the backbone alone over the same tokens (no "
        "cache, no language-modelling head); percentiles are over all calls. Another answer than one thread gave "
        "before, to the bit, is a wrong one.",
        "",
        "| Threads | Calls | Wrong | p50 ms | bare p50 ms | ratio | p99 ms | bare p99 ms | ratio |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in loads:
        cells = [f"{one.threads} | {one.calls:,} | {one.wrong}"]
        for call, bare in map(one.milliseconds, (50, 99)):
            cells += [f"{call:.2f} | {bare:.2f} | {call / bare:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Resident memory, MiB; the slope is over the second half of all samples.", ""]
    lines += ["| Threads | after warm-up | in between | at the end | MiB in 10,000 calls |"]
    lines += ["| ---: | ---: | :--- | ---: | ---: |"]
    for one in loads:
        if one.growth is None:
            lines.append(f"| {one.threads} | unknown | | | |")
            continue
        mib = [f"{value:.1f}" for _, value in one.memory]
        between = ", ".join(mib[1:-1][:: max(1, len(mib) // 8)])
        lines.append(f"| {one.threads} | {mib[0]} | {between} | {mib[-1]} | {one.growth:+.2f} |")
    return "\n".join([*lines, "", f"{summary(loads)}."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--backbone", choices=list(SIZES), default="tiny")
    parser.add_argument("--model", help="a model's folder or repository instead")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--warm_up", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="markdown file to write")
    arguments = parser.parse_args()
    if arguments.model:
        model = RARecForSequentialRecommendation.from_pretrained(arguments.model)
        what = "a trained model"
    else:
        model = built_model(arguments.backbone, seed=arguments.seed)
        what = f"random weights ({arguments.backbone})"
    what += f", {len(model.processor.item_ids):,} items"
    histories = some_histories(model, seed=arguments.seed)
    loads = [load(model, arguments.calls, n, arguments.warm_up, histories, True) for n in arguments.threads]
    command = f"python -m benchmarks.load {' '.join(sys.argv[1:])}".strip().replace(
        f" --output {arguments.output}", ""
    )
    page = markdown(loads, command, what)
    print(page)
    if arguments.output:
        arguments.output.write_text(page, "utf-8")
    if not all(one.held for one in loads):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
