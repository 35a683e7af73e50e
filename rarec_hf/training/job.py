"""The stages of the main job, one function each; `examples/train.py` strings them together."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback, set_seed

from ..backbone_fingerprint import weights_fingerprint
from ..backbone_source import load_backbone, load_tokenizer, resolve_backbone
from ..data import DataReport, load_interactions, load_movielens_latest_small, split_interactions
from ..data.selection_report import SelectionReport
from ..data.splits import Split, Targets
from ..evaluation.evaluator import Scorer
from ..id_encoder import IDEncoderModel
from ..modeling_rarec import RARecForSequentialRecommendation
from ..modeling_sasrec import SASRecConfig, SASRecModel
from ..processing_rarec import RARecProcessor
from .alignment_picture import AlignmentMapCallback
from .arguments import AlignmentArguments, DataArguments, RARecTrainingArguments
from .backbone_dtype import choose_dtype
from .calibration import fit_gains
from .callbacks import RecommendationSamplesCallback
from .encoder_stage import INNER_ENCODER, OPPONENT_ENCODER, TEXT_ENCODER, best_epoch, prepare_encoders
from .estimate import estimate
from .ranking_trainer import RankingDataset, RankingTrainer
from .samples import AlignmentCollator, TextGroupedSampler
from .text_stage import draw_samples, store_texts

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
    model, _ = build_model(split, SASRecModel(SASRecConfig(n_items=split.interactions.n_items)), arguments, TEXT_SCORE)
    model.prepare_texts(range(split.interactions.n_items), arguments.encode_batch_size, progress)
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
    if backbone is None:
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
            )
        },
        text_layers=arguments.text_layers or [1.0],
    ).to(backbone.device)
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
    )
    model.config.text_opening = model.processor.item_opening_length
    return model, f"{source.address}, {str(dtype).removeprefix('torch.')} ({reason})"


def align(
    model: RARecForSequentialRecommendation,
    split: Split,
    arguments: AlignmentArguments,
    training: RARecTrainingArguments,
    texts: RARecForSequentialRecommendation | None = None,
    folder: Path | None = None,
    known: RankingDataset | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple[list[dict], dict, SelectionReport]:
    """
    Stage two: draws the alignment samples, reads the texts they need, trains the alignment module, encodes the
    catalogue, and fits the gains of the LLM's parts on validation targets. With `--load_best_model_at_end` the weights
    are those of the evaluation with the best `--metric_for_best_model`.

    Args:
        texts ([`RARecForSequentialRecommendation`], *optional*): of [`read_item_texts`], so that no item's text is
            read twice for its vector.
        folder (`Path`, *optional*): where `--alignment_map` draws and `--recommendation_samples` writes; without it
            the first draws nothing and the second writes into `training.output_dir`.
        known (`RankingDataset`, *optional*): what the gains are fitted on instead of [`gain_targets`]; the ID encoder
            must not have seen it.
        callbacks (`Sequence[TrainerCallback]`): further ones; metrics come to their `on_evaluate` as `eval_ndcg@10`
            and the like.

    Returns:
        the Trainer's log history, what was drawn and fitted as counts, and the report of the drawn samples.
    """
    if training.per_device_train_batch_size < 2:
        raise ValueError(
            f"--per_device_train_batch_size must be at least 2, got {training.per_device_train_batch_size}: the "
            "negatives are the targets of the batch's other samples."
        )
    set_seed(training.seed)
    data, selection = draw_samples(split, arguments, training.seed, model.processor)
    drawn: dict[str, int | float] = dict(selection.counts) | {"user_texts": len(data.texts.texts)}
    if arguments.text_states_gib:
        plan = store_texts(model, data, arguments, not training.disable_tqdm)
        drawn |= {"texts_stored": plan.stored + len(plan.to_store), "texts_on_the_fly": plan.over_budget}
    if texts is not None and model.score_head.uses_text:
        model.take_texts_of(texts)
    else:
        items = data.items(model.config.pooled_history)
        model.prepare_texts(items, arguments.encode_batch_size, not training.disable_tqdm)

    def scorer() -> Scorer:
        model.index_catalogue(arguments.encode_batch_size, not training.disable_tqdm)
        return model.scorer()

    trainer = RankingTrainer(
        model=model,
        args=training,
        train_dataset=data,
        eval_dataset=RankingDataset(split.interactions, split.validation_of(split.alignment_users)),
        data_collator=AlignmentCollator(
            model.processor,
            model.config.id_encoder_config.max_history,
            data.log_q,
            data.texts,
            arguments.alignment_negatives,
        ),
        scorer=scorer,
        sampler=TextGroupedSampler(data.texts, training.train_batch_size, training.seed),
        callbacks=list(callbacks),
    )
    if training.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(training.early_stopping_patience))
    if training.recommendation_samples:
        trainer.add_callback(
            RecommendationSamplesCallback(
                model,
                trainer.eval_dataset,
                folder or training.output_dir,
                training.recommendation_samples,
                seed=training.seed,
                trackers=trainer.callback_handler.callbacks,
            )
        )
    if arguments.alignment_map and folder is not None:
        trainer.add_callback(AlignmentMapCallback.of(model, split, folder / "alignment_map", training.seed))
    trainer.train()
    if training.load_best_model_at_end:
        drawn["best_step"] = trainer.state.best_global_step
    model.index_catalogue(arguments.encode_batch_size, not training.disable_tqdm)
    if known is None:
        known = gain_targets(split, arguments.gain_users, training.seed)
    if model.score_head.uses_encoder and known is not None:
        text, readout = fit_gains(model, known, progress=not training.disable_tqdm)
        drawn |= {"gain_users": len(np.unique(known.targets.users)), "text_gain": round(text, 3)}
        drawn["readout_gain"] = round(readout, 3)
    return trainer.state.log_history, drawn, selection


def dry_run(split: Split, arguments: AlignmentArguments, training: RARecTrainingArguments) -> str:
    """What the run will take, in words; loads the backbone and tries it for a moment, trains nothing."""
    encoder = SASRecModel(SASRecConfig(n_items=split.interactions.n_items))
    score = TEXT_SCORE if arguments.score == "both" else arguments.score
    model, line = build_model(split, encoder, arguments, score)
    n_users = len(test_users(split, arguments.eval_users, training.seed))
    return f"Backbone: {line}\n{estimate(model, split, arguments, training, n_users)}"


def gain_targets(split: Split, n_users: int, seed: int) -> RankingDataset | None:
    """The validation targets that weights are fitted on; None where none shall be."""
    if not n_users:
        return None
    return RankingDataset(split.interactions, drawn_targets(split.validation, n_users, seed))


def test_users(split: Split, n_users: int, seed: int) -> RankingDataset:
    """The test targets of all users, or of a seeded draw of `n_users` of them."""
    return RankingDataset(split.interactions, drawn_targets(split.test, n_users, seed))


def drawn_targets(targets: Targets, n_users: int, seed: int) -> Targets:
    """All targets of `n_users` of the users, drawn with the seed; all if there are no more."""
    users, row_user = np.unique(targets.users, return_inverse=True)
    if not 0 < n_users < len(users):
        return targets
    drawn = np.zeros(len(users), dtype=bool)
    drawn[np.random.default_rng(seed).choice(len(users), n_users, replace=False)] = True
    return targets.take(drawn[row_user])


def ranking_rule(split: Split, exclude_seen: bool = True) -> str:
    """How the split was made and how its targets are ranked: what a reader of the table must know."""
    seen = "seen items removed" if exclude_seen else "seen items not removed"
    return f"{split.rule} Ranked over the full catalogue, {seen}; a tie counts by the mean over its places."


def remove_checkpoints(folder: Path) -> None:
    """Removes what the trainers left of their own, nobody asked for checkpoints; logs for TensorBoard stay."""
    for trainer in ("checkpoints", INNER_ENCODER, OPPONENT_ENCODER):
        for checkpoint in list((folder / trainer).rglob("checkpoint-*")):
            shutil.rmtree(checkpoint)
    made = sorted((folder / "checkpoints").rglob("*"), reverse=True) + [folder / "checkpoints"]
    for emptied in made:  # the deepest first
        if emptied.is_dir() and not any(emptied.iterdir()):
            emptied.rmdir()


__all__ = [
    "INNER_ENCODER",
    "OPPONENT_ENCODER",
    "TEXT_ENCODER",
    "TEXT_SCORE",
    "align",
    "best_epoch",
    "build_model",
    "dry_run",
    "gain_targets",
    "load_data",
    "prepare_encoders",
    "ranking_rule",
    "read_item_texts",
    "remove_checkpoints",
    "save_data",
    "test_users",
]
