"""RA-Rec with soft prompts and readouts through the LLM, as the table's rows train it."""

from __future__ import annotations

import time

import torch

from benchmarks.quality.world import TEXT_STATES_BYTES, World
from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.id_encoder import IDEncoderModel
from rarec_hf.training import job
from rarec_hf.training.arguments import RARecTrainingArguments


def train_rarec(
    world: World,
    encoder: IDEncoderModel,
    seed: int,
    samples: int = 384,
    permute: bool = False,
    numbers: bool = False,
    **changes,
) -> tuple[RARecForSequentialRecommendation, int, dict]:
    """
    Args:
        encoder (`IDEncoderModel`): trained without the alignment users.
        samples (`int`): that the alignment learns from.
        permute (`bool`): the encoder's item vectors change places first.
        numbers (`bool`): item numbers stand for the titles.
        changes: fields of `AlignmentArguments`.

    Returns:
        the model, its catalogue encoded and its gains fitted; how many parameters the alignment trained; facts.
    """
    reader = world.reader("llm")
    if permute:
        _permute(encoder, seed)
    arguments = world.alignment_arguments(alignment_samples=samples, **changes)
    start = time.perf_counter()
    split = world.numbered if numbers else world.split
    model, line = job.build_model(
        split, encoder, arguments, changes.get("score", job.TEXT_SCORE), reader.language_model
    )
    if arguments.soft_prompt_position == "after_text":  # else the texts read the soft prompts
        world.store_texts(model)
        arguments.text_states_gib = TEXT_STATES_BYTES / 2**30
        arguments.text_states_folder = str(world.cache / "text_states")
    with torch.random.fork_rng():
        training = RARecTrainingArguments(
            output_dir=str(world.cache / "alignment"), seed=seed, logging_steps=50, disable_tqdm=True
        )
        _, drawn, _ = job.align(model, split, arguments, training, reader, known=world.known)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return model, trained, {"backbone": line, "alignment_seconds": round(time.perf_counter() - start), **drawn}


@torch.no_grad()
def _permute(encoder, seed: int) -> None:
    """Item vectors change places, so that a vector no longer says which item it is of."""
    order = torch.randperm(encoder.config.n_items, generator=torch.Generator().manual_seed(seed))
    encoder.item_embeddings.weight.copy_(encoder.item_embeddings.weight[order])


__all__ = ["train_rarec"]
