"""RA-Rec with soft prompts and readouts through the LLM, as the table's rows train it."""

from __future__ import annotations

import tempfile
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
    epochs: int = 1,
    samples_a_batch: int = 16,
    permute: bool = False,
    numbers: bool = False,
    **changes,
) -> tuple[RARecForSequentialRecommendation, int, dict]:
    """
    Args:
        encoder (`IDEncoderModel`): trained without the alignment users.
        samples (`int`): that the alignment learns from; 0 for all positions of the alignment users.
        epochs (`int`): over them. Of several, the one with the best NDCG@10 on these users' validation targets stays.
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
        arguments.text_states_gib = TEXT_STATES_BYTES / 2**30 if world.device.type == "cpu" else 0.0
        arguments.text_states_folder = str(world.cache / "text_states")
    choosing = {"save_strategy": "epoch", "save_total_limit": 1, "save_only_model": True, "eval_strategy": "epoch"}
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as work:
        training = RARecTrainingArguments(
            output_dir=work,
            seed=seed,
            num_train_epochs=epochs,
            per_device_train_batch_size=samples_a_batch,
            logging_steps=50,
            disable_tqdm=True,
            load_best_model_at_end=epochs > 1,
            **(choosing if epochs > 1 else {}),
        )
        log, drawn, _ = job.align(model, split, arguments, training, reader, known=world.known)
    if epochs > 1:
        drawn["validation_ndcg@10"] = [round(entry["eval_ndcg@10"], 4) for entry in log if "eval_ndcg@10" in entry]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return model, trained, {"backbone": line, "alignment_seconds": round(time.perf_counter() - start), **drawn}


@torch.no_grad()
def _permute(encoder, seed: int) -> None:
    """Item vectors change places, so that a vector no longer says which item it is of."""
    order = torch.randperm(encoder.config.n_items, generator=torch.Generator().manual_seed(seed))
    encoder.item_embeddings.weight.copy_(encoder.item_embeddings.weight[order])


__all__ = ["train_rarec"]
