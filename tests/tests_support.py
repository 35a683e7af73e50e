"""Inputs that more than one test folder makes: interactions with an order, and a tiny backbone on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

ROOT = Path(__file__).parent.parent
CONFIGURATIONS = ROOT / "examples" / "accelerate_configs"


def walk_tables(n_users: int = 40, n_items: int = 30, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Interactions and items: each user walks along the catalogue from a random start."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(n_users):
        start = rng.integers(n_items)
        rows += [(f"u{user}", f"i{(start + step) % n_items}", 10 * step) for step in range(rng.integers(5, 12))]
    items = pd.DataFrame([(f"i{n}", f"w{n} w{n // 5}") for n in range(n_items)], columns=["item_id", "title"])
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]), items


def save_tiny_backbone(folder: Path, **fields: Any) -> None:
    """A random Llama with a byte-level tokenizer, saved as any backbone is."""
    vocabulary = {character: n for n, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        **fields,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def save_inputs(folder: Path, tables: tuple[pd.DataFrame, pd.DataFrame] | None = None) -> None:
    """What the main job reads: `events.csv`, `items.jsonl` and a tiny backbone in `backbone`."""
    interactions, items = walk_tables() if tables is None else tables
    interactions.to_csv(folder / "events.csv", index=False)
    items.to_json(folder / "items.jsonl", orient="records", lines=True)
    save_tiny_backbone(folder / "backbone")


def one_thread() -> dict[str, str]:
    """The environment of a process that finds the package and the tests, and leaves other cores and any GPU alone."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}


def launch(
    processes: int,
    script: Path,
    *arguments: str,
    timeout: float,
    configuration: str = "processes.yaml",
    fails: bool = False,
) -> subprocess.CompletedProcess[str]:
    """A script that `accelerate launch` has run without an error, or with one; one process is started without."""
    file = str(CONFIGURATIONS / configuration)
    several = ("accelerate.commands.launch", "--config_file", file, "--num_processes", str(processes))
    command = [sys.executable, *(("-m", *several) if processes > 1 else ()), str(script), *arguments]
    done = subprocess.run(command, env=one_thread(), capture_output=True, text=True, timeout=timeout)
    assert (done.returncode != 0) == fails, done.stdout[-2000:] + done.stderr[-6000:]
    return done


def redraw(model: torch.nn.Module, seed: int, std: float = 0.2) -> None:
    """Weights large enough that attention is sharp: with a fresh model's 0.02 a dropped prefix would hardly show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            # Norms stay around what they do by themselves (gain 1, or 0 where a type adds 1 to it)
            parameter.copy_(parameter + 0.1 * noise if "norm" in name or "ln_" in name else std * noise)


def rows_of(model) -> list[int]:
    """Rows of each pass through the model's backbone, as they come."""
    rows = []
    model.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return rows
