"""The stages of the main job, one function each; `examples/train.py` strings them together."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import PreTrainedModel

from ..backbone_fingerprint import weights_fingerprint
from ..backbone_source import load_backbone, load_tokenizer, resolve_backbone
from ..data import DataReport, load_interactions, load_movielens_latest_small, split_interactions
from ..data.splits import Split
from ..id_encoder import IDEncoderModel
from ..modeling_rarec import RARecForSequentialRecommendation
from ..modeling_sasrec import SASRecConfig, SASRecModel
from ..processes import wait
from ..processing_rarec import RARecProcessor
from ..sharded_backbone import load_sharded_backbone
from ..zero3_backbone import load_zero3_backbone
from .alignment_stage import align, drawn_targets, gain_targets
from .arguments import AlignmentArguments, DataArguments, EncoderArguments, RARecTrainingArguments
from .backbone_dtype import choose_dtype
from .encoder_estimate import estimate_encoders
from .encoder_stage import (
    INNER_ENCODER,
    OPPONENT_ENCODER,
    TEXT_ENCODER,
    WORD_OPPONENT,
    best_epoch,
    prepare_encoders,
    prepare_word_opponent,
)
from .estimate import estimate
from .ranking_trainer import RankingDataset

TEXT_SCORE = "encoder_plus_llm"


def load_data(arguments: DataArguments, seed: int) -> Split:
    """Interactions, validated and split; prints nothing."""
    if arguments.interactions is None:
        if arguments.items is not None:
            raise ValueError("--items needs --interactions; the embedded data bring their own item table.")
        interactions = load_movielens_latest_small(arguments.k_core)
    else:
        interactions = load_interactions(
            arguments.interactions,
            arguments.items,
            user_column=arguments.user_column,
            item_column=arguments.item_column,
            timestamp_column=arguments.timestamp_column,
            title_column=arguments.title_column,
            attribute_columns=[c.strip() for c in arguments.attribute_columns.split(",") if c.strip()],
            k_core=arguments.k_core,
            timestamp_unit=arguments.timestamp_unit,
            on_broken_row=arguments.on_broken_row,
        )
    options = ("validation_from", "test_from", "validation_share", "test_share", "history_share")
    return split_interactions(
        interactions,
        arguments.split,
        alignment_fraction=arguments.alignment_fraction,
        seed=seed,
        **{name: getattr(arguments, name) for name in options},
    )


def save_data(split: Split, folder: Path) -> None:
    """What the run was given: the data report, and which index stands for which user and item."""
    DataReport.of(split.interactions).save(folder)
    split.interactions.save_id_maps(folder)


def read_item_texts(
    split: Split, arguments: AlignmentArguments, progress: bool = True
) -> RARecForSequentialRecommendation:
    """
    A model that has read the whole catalogue's texts, before there is any ID encoder (an untrained one stands in its
    place): text states depend on none. [`align`] takes them from it.
    """
    encoder = SASRecModel(SASRecConfig(n_items=split.interactions.n_items))
    model, _ = build_model(split, encoder, replace(arguments, item_side="both"), TEXT_SCORE)
    model.prepare_texts(range(split.interactions.n_items), arguments.encode_batch_size, progress, PartialState())
    return model


def build_model(
    split: Split,
    encoder: IDEncoderModel,
    arguments: AlignmentArguments,
    score: str,
    backbone: PreTrainedModel | None = None,
) -> tuple[RARecForSequentialRecommendation, str]:
    """
    The model around a frozen backbone, with its processor; `backbone` may be one that is loaded already.

    Returns:
        the model, and a line that says which backbone it is and in which dtype.
    """
    source = resolve_backbone(arguments.backbone, revision=arguments.backbone_revision)
    dtype, reason = choose_dtype(arguments.backbone_dtype)
    if backbone is None and arguments.shard_backbone != "none":
        process = PartialState()
        if arguments.shard_backbone == "zero3":
            backbone = load_zero3_backbone(source, process, dtype)
        else:
            backbone = load_sharded_backbone(source, process, dtype, arguments.shard_backbone == "fsdp2_offload")
        reason += f", sharded over {process.num_processes} processes"
    elif backbone is None:
        backbone = load_backbone(source, dtype=dtype)
        backbone.to("cuda" if torch.cuda.is_available() else "cpu")
    model = RARecForSequentialRecommendation.from_backbone(
        backbone,
        encoder,
        backbone_address=source.address,
        backbone_fingerprint=weights_fingerprint(backbone),
        score=score,
        **{
            name: getattr(arguments, name)
            for name in (
                "soft_prompt_position",
                "use_soft_prompts",
                "use_id_vectors",
                "context_length",
                "layer_specific_projectors",
                "alignment_weight",
                "alignment_temperature",
                "score_dim",
                "text_dim",
                "text_ridge",
                "pooled_history",
                "popularity_correction",
                "objective",
                "objective_temperature",
            )
        },
        item_soft_prompts=arguments.item_side != "text",
        text_layers=arguments.text_layers or [1.0],
    )
    for name, part in model.named_children():
        if name != "language_model":  # which is where it belongs
            part.to(backbone.device)
    model.id_scale = model.id_scale.to(backbone.device)
    items = split.interactions.items
    model.processor = RARecProcessor(
        load_tokenizer(source),
        items.item_ids,
        items.titles,
        items.attributes,
        max_history_items=arguments.max_history_items,
        max_title_tokens=arguments.max_title_tokens,
        max_text_tokens=arguments.max_text_tokens,
        history_block=arguments.history_block,
        item_titles=arguments.item_side != "id",
    )
    model.config.text_opening = model.processor.item_opening_length
    return model, f"{source.address}, {str(dtype).removeprefix('torch.')} ({reason})"


def dry_run(
    split: Split, encoder_arguments: EncoderArguments, arguments: AlignmentArguments, training: RARecTrainingArguments
) -> str:
    """What the run will take, in words; tries the backbone and the encoders' training for a moment, keeps nothing."""
    encoder = SASRecModel(SASRecConfig(n_items=split.interactions.n_items))
    score = TEXT_SCORE if arguments.score == "both" else arguments.score
    model, line = build_model(split, encoder, arguments, score)
    n_users = len(test_users(split, arguments.eval_users, training.seed))
    said = f"Backbone: {line}\n{estimate(model, split, arguments, training, n_users)}"
    width = arguments.text_dim * len(arguments.text_layers or [1.0])
    of_encoders = estimate_encoders(split, encoder_arguments, training, width)
    wait(PartialState())
    return f"{said}\n{of_encoders}" if of_encoders else said


def test_users(split: Split, n_users: int, seed: int) -> RankingDataset:
    """The test targets of all users, or of a seeded draw of `n_users` of them."""
    return RankingDataset(split.interactions, drawn_targets(split.test, n_users, seed))


def ranking_rule(split: Split, exclude_seen: bool = True) -> str:
    """How the split was made and how its targets are ranked: what a reader of the table must know."""
    seen = "seen items removed" if exclude_seen else "seen items not removed"
    return f"{split.rule} Ranked over the full catalogue, {seen}; a tie counts by the mean over its places."


def take_checkpoints(source: Path, target: Path) -> None:
    """What a `Trainer` left, whole checkpoints and logs for TensorBoard, into the run's folder; linked, not copied."""
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        if path.name.startswith(".") and path.name != ".gitignore":
            continue  # it was being written when a run was killed
        (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target / path.relative_to(source))
        except OSError:  # a file system without links
            shutil.copyfile(path, target / path.relative_to(source))


__all__ = [
    "INNER_ENCODER",
    "OPPONENT_ENCODER",
    "TEXT_ENCODER",
    "TEXT_SCORE",
    "WORD_OPPONENT",
    "align",
    "best_epoch",
    "build_model",
    "dry_run",
    "gain_targets",
    "load_data",
    "prepare_encoders",
    "prepare_word_opponent",
    "ranking_rule",
    "read_item_texts",
    "save_data",
    "take_checkpoints",
    "test_users",
]
