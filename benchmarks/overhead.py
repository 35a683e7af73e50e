"""What the soft prompts cost over the bare backbone, as ratios within one run: the rounds of all variants are
interleaved.

    python benchmarks/overhead.py                       # a backbone of SmolLM2-135M's shape with random weights
    python benchmarks/overhead.py --backbone FOLDER_OR_ID --dtype bfloat16

Prints a markdown table and, with --output, writes it. The bare forward is the base model's, without its
language-modelling head, on the same tokens (text and readout). Training steps are forward, loss and backward of one
side; the head must never run in them, and the script stops if it does.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, LlamaConfig, __version__

from rarec_hf import RARecForSequentialRecommendation, SASRecConfig, SASRecModel, load_backbone

SMOLLM2_135M = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "tie_word_embeddings": True,
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backbone", help="Hub id, folder or address; random weights of SmolLM2-135M's shape otherwise"
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--text_tokens", type=int, default=124)
    parser.add_argument("--readout_tokens", type=int, default=4)
    parser.add_argument("--context_length", type=int, default=7, help="soft prompts are one more")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="markdown file to write")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    dtype = getattr(torch, arguments.dtype)
    if arguments.backbone:
        backbone = load_backbone(arguments.backbone, dtype=dtype)
    else:
        backbone = AutoModelForCausalLM.from_config(LlamaConfig(**SMOLLM2_135M), dtype=dtype)
    backbone.to(arguments.device)
    encoder = SASRecModel(SASRecConfig(n_items=100))
    models = {
        position: RARecForSequentialRecommendation.from_backbone(
            backbone,
            encoder,
            soft_prompt_position=position,
            context_length=arguments.context_length,
            alignment_weight=0.0,
        ).to(arguments.device)
        for position in ("before_text", "after_text")
    }

    def never(*_):
        raise RuntimeError("The language-modelling head was computed.")

    head = backbone.get_output_embeddings()
    hook = head.register_forward_pre_hook(never)
    text = torch.randint(3, 1000, (arguments.batch_size, arguments.text_tokens), device=arguments.device)
    readout = torch.randint(3, 1000, (arguments.readout_tokens,), device=arguments.device)
    vectors = torch.randn(arguments.batch_size, 1, encoder.config.hidden_size, device=arguments.device)
    whole = torch.cat([text, readout.expand(len(text), -1)], 1)
    weights = torch.randn(backbone.config.hidden_size, device=arguments.device)

    def read(position: str):
        return models[position].read("user", text, torch.ones_like(text), readout, vectors).state

    def step(position: str):
        models[position].zero_grad()
        (read(position) * weights).sum().backward()

    bare = models["before_text"].backbone
    with_head = torch.no_grad()(lambda: head(bare(input_ids=whole, use_cache=False).last_hidden_state))
    variants = {
        "bare forward": torch.no_grad()(lambda: bare(input_ids=whole, use_cache=False)),
        "forward, soft prompts before the text": torch.no_grad()(lambda: read("before_text")),
        "forward, soft prompts after the text": torch.no_grad()(lambda: read("after_text")),
        "training step, soft prompts before the text": lambda: step("before_text"),
        "training step, soft prompts after the text": lambda: step("after_text"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in [*variants, "bare forward with language-modelling head"]}
    for round_ in tqdm(range(arguments.rounds + 1), desc="Rounds", unit="round"):
        for name, run in variants.items():
            elapsed = timed(run, arguments.device)
            if round_ > 0:  # the first round warms up
                seconds[name].append(elapsed)
        hook.remove()
        elapsed = timed(with_head, arguments.device)
        hook = head.register_forward_pre_hook(never)
        if round_ > 0:
            seconds["bare forward with language-modelling head"].append(elapsed)

    base = seconds["bare forward"]
    lines = [
        f"`python benchmarks/overhead.py --dtype {arguments.dtype} --batch_size {arguments.batch_size} "
        f"--text_tokens {arguments.text_tokens} --rounds {arguments.rounds} --seed {arguments.seed}`"
        + (
            f" with `--backbone {arguments.backbone}`"
            if arguments.backbone
            else " (SmolLM2-135M's shape, random weights)"
        ),
        "",
        f"{arguments.context_length + 1} soft prompts, {arguments.device}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, transformers {__version__}, {platform.machine()}. "
        "Ratio: median over rounds of the ratio to the bare forward of the same round.",
        "",
        "| | median s | min s | ratio |",
        "| :--- | ---: | ---: | ---: |",
    ]
    for name, values in seconds.items():
        ratio = statistics.median(value / other for value, other in zip(values, base, strict=True))
        lines.append(f"| {name} | {statistics.median(values):.3f} | {min(values):.3f} | {ratio:.2f} |")
    table = "\n".join(lines) + "\n"
    print(table)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(table, "utf-8")


def timed(run, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
