"""What a run will take, before anything starts: tokens are counted, the backbone's speed is tried for a moment."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from ..data.selection import count_of
from ..data.splits import Split, Targets
from ..modeling_rarec import RARecForSequentialRecommendation
from ..packed_texts import TextPacking, text_key
from ..processing_rarec import RARecProcessor
from ..token_texts import padded_texts
from ..weight_parts import part_here
from .arguments import AlignmentArguments, RARecTrainingArguments

SAMPLED_USERS = 300
TRIED_TOKENS = 2048
BACKWARD = 2.0  # of a forward: gradients of the states, none of frozen weights, and the attention's


@dataclass(frozen=True)
class Estimate:
    """
    Args:
        tokens (`dict[str, int]`): by stage, as many as pass the backbone; one with a backward pass counts as three.
        tokens_per_second (`float`): of the trial, without gradient.
        memory_bytes, disk_bytes (`dict[str, int]`): by what takes them.
    """

    tokens: dict[str, int]
    tokens_per_second: float
    memory_bytes: dict[str, int]
    disk_bytes: dict[str, int]

    def __str__(self) -> str:
        lines = [f"Estimate, at {self.tokens_per_second:,.0f} tokens/s as tried just now:"]
        lines += [
            f"  {name:<42} {n:>14,} tokens {n / self.tokens_per_second / 60:>8.1f} min"
            for name, n in self.tokens.items()
        ]
        total = sum(self.tokens.values())
        lines.append(f"  {'together':<42} {total:>14,} tokens {total / self.tokens_per_second / 60:>8.1f} min")
        for what, parts in (("Memory", self.memory_bytes), ("Disk", self.disk_bytes)):
            told = ", ".join(f"{name} {n / 2**30:.2f}" for name, n in parts.items())
            lines.append(f"{what}: {sum(parts.values()) / 2**30:.2f} GiB ({told})")
        return "\n".join(lines)


@torch.no_grad()
def tokens_per_second(model: RARecForSequentialRecommendation, n_tokens: int = 64) -> float:
    """Of the backbone alone on texts of `n_tokens`, the better of two short trials."""
    device = model.get_input_embeddings().weight.device
    rows = max(1, TRIED_TOKENS // n_tokens)
    ids, mask = padded_texts([list(range(5, 5 + n_tokens))] * rows, device)
    best = 0.0
    for _ in range(2):
        start = time.perf_counter()
        model._run_texts(ids % model.get_input_embeddings().num_embeddings, mask, keep=False)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, rows * n_tokens / (time.perf_counter() - start))
    return best


def estimate(
    model: RARecForSequentialRecommendation,
    split: Split,
    arguments: AlignmentArguments,
    training: RARecTrainingArguments,
    n_test_users: int,
) -> Estimate:
    """
    Counts what the stages of a run will read.

    Args:
        model: around the backbone; its ID encoder may be untrained.
        n_test_users (`int`): how many are evaluated.
    """
    processor = model.processor
    items = processor.item_texts(range(len(processor.item_ids)))
    distinct = {text_key(text): len(text) for text in items}
    item_tokens = sum(distinct.values())
    readout = {
        "user": len(processor.user_inputs([[0]], 1)["user_readout_ids"]),
        "item": len(processor.item_inputs([0])["item_readout_ids"]),
    }
    samples = split.alignment_samples()
    n_samples = count_of(arguments.alignment_samples, len(samples))
    sample_tokens = _mean_tokens(processor, split, samples, training.seed)
    test_tokens = _mean_tokens(processor, split, split.test, training.seed)
    mean_item = item_tokens / max(1, len(distinct))
    epochs, after = training.num_train_epochs, arguments.soft_prompt_position == "after_text"
    # A sample is a user's text and its target's
    text, out = sample_tokens + mean_item, readout["user"] + readout["item"]
    step = text + (1 + BACKWARD) * out if after else (1 + BACKWARD) * (text + out)
    tokens = {
        "alignment": round(n_samples * epochs * step),
        "encoding the catalogue": round(item_tokens + readout["item"] * len(items)),
        "gains": round(min(arguments.gain_users, len(split.validation)) * (test_tokens + readout["user"])),
        "evaluation": round(n_test_users * (test_tokens + readout["user"])),
    }
    element = torch.empty((), dtype=model.backbone.dtype).element_size()
    weights = sum(part_here(p).nbytes for p in model.parameters())
    width = TextPacking(model.spec).width
    batch = arguments.encode_batch_size * round(max(test_tokens, mean_item))
    catalogue = len(items) * (model.score_head.width + model.config.id_encoder_config.hidden_size) * 4
    stored = min(arguments.text_states_gib * 2**30, (item_tokens + n_samples * sample_tokens) * width * element)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Estimate(
        tokens,
        tokens_per_second(model),
        {"weights": weights, "states of a batch": 2 * batch * width * element, "catalogue": 2 * catalogue,
         "training": 16 * trained},
        {"the folder": catalogue + 4 * trained, "text states": round(stored),
         "the backbone in it": weights if arguments.include_backbone else 0},
    )  # fmt: skip


def _mean_tokens(processor: RARecProcessor, split: Split, targets: Targets, seed: int) -> float:
    """Tokens of a user's text, the mean over a seeded draw."""
    n = len(targets)
    if not n:
        return 0.0
    rows = np.random.default_rng(seed).choice(n, min(SAMPLED_USERS, n), replace=False)
    return float(
        np.mean([len(processor.user_text(targets.history(split.interactions, int(r)).tolist()).ids) for r in rows])
    )


__all__ = ["Estimate", "estimate", "tokens_per_second"]
