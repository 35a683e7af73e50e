"""Stage two of the main job: the alignment is trained, the catalogue encoded, the gains fitted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from transformers import EarlyStoppingCallback, TrainerCallback, set_seed
from transformers.utils import SAFE_WEIGHTS_NAME

from ..checkpoint_folder import REPRESENTATIONS_FILE
from ..data.selection_report import SelectionReport
from ..data.splits import Split, Targets
from ..evaluation.evaluator import Scorer
from ..joint_passes import is_sharded
from ..modeling_rarec import RARecForSequentialRecommendation
from ..processes import several
from ..sharded_backbone import ShardingError
from .alignment_picture import AlignmentMapCallback
from .arguments import AlignmentArguments, RARecTrainingArguments
from .calibration import fit_gains
from .callbacks import SAMPLES_FILE, RecommendationSamplesCallback
from .ranking_trainer import RankingDataset, RankingTrainer
from .samples import AlignmentCollator, text_grouped_orders
from .shared_batches import ShareOfBatch
from .stages import LOG_FILE, Stages, last_checkpoint
from .text_stage import draw_samples, store_texts

BESIDE = "beside"  # in a finished alignment: what was written beside the training


def align(
    model: RARecForSequentialRecommendation,
    split: Split,
    arguments: AlignmentArguments,
    training: RARecTrainingArguments,
    texts: RARecForSequentialRecommendation | None = None,
    folder: Path | None = None,
    known: RankingDataset | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    stages: Stages | None = None,
) -> tuple[list[dict], dict, SelectionReport]:
    """
    Stage two: draws the alignment samples, reads the texts they need, trains the alignment module, encodes the
    catalogue, and fits the gains of the LLM's parts on validation targets. With `--load_best_model_at_end` the weights
    are those of the evaluation with the best `--metric_for_best_model`.

    Args:
        texts ([`RARecForSequentialRecommendation`], *optional*): of [`read_item_texts`], so that no item's text is
            read twice for its vector.
        folder (`Path`, *optional*): where `--alignment_map` draws and `--recommendation_samples` writes; without it
            the first draws nothing and the second writes into `training.output_dir`. With `--score both` each score
            has its own folder of maps, `alignment_map/SCORE`.
        known (`RankingDataset`, *optional*): what the gains are fitted on instead of [`gain_targets`]; the ID encoder
            must not have seen it.
        callbacks (`Sequence[TrainerCallback]`): further ones; metrics come to their `on_evaluate` as `eval_ndcg@10`
            and the like.
        stages ([`Stages`], *optional*): what a cut-off run had finished is taken from there, and kept there; with
            `--save_strategy` a training that was under way goes on from its last checkpoint in `training.output_dir`.

    Returns:
        the Trainer's log history, what was drawn and fitted as counts, and the report of the drawn samples.
    """
    if training.per_device_train_batch_size < 2:
        raise ValueError(
            f"--per_device_train_batch_size must be at least 2, got {training.per_device_train_batch_size}: the "
            "negatives are the targets of the batch's other samples."
        )
    if is_sharded(model.backbone) and model.spec.equal_lengths and model.config.soft_prompt_position == "after_text":
        # Each process would have its own number of passes with gradient
        raise ShardingError(
            f"Backbone type `{model.language_model.config.model_type}` continues texts only in rows of one length, "
            "and is sharded: expected --soft_prompt_position before_text, got after_text."
        )
    set_seed(training.seed)
    process = PartialState()
    data, selection = draw_samples(split, arguments, training.seed, model.processor)
    drawn: dict[str, int | float] = dict(selection.counts) | {"user_texts": len(data.texts.texts)}
    if arguments.text_states_gib:
        plan = store_texts(model, data, arguments, not training.disable_tqdm)
        drawn |= {"texts_stored": plan.stored + len(plan.to_store), "texts_on_the_fly": plan.over_budget}
    trained, indexed = f"alignment_{model.config.score}", f"index_{model.config.score}"
    if stages is not None and (kept := stages.kept(trained)) is not None:
        log, best = _read(model, kept)
        _take_along(kept / BESIDE, folder)
        drawn |= best
        return log, drawn | _index(model, split, arguments, training, known, stages, indexed), selection
    if texts is not None and model.score_head.uses_text:
        model.take_texts_of(texts)
    else:
        items = data.items(model.config.pooled_history)
        model.prepare_texts(items, arguments.encode_batch_size, not training.disable_tqdm, process)

    def scorer() -> Scorer:
        model.index_catalogue(arguments.encode_batch_size, not training.disable_tqdm, process=process)
        return model.scorer()

    collator = AlignmentCollator(
        model.processor,
        model.config.id_encoder_config.max_history,
        data.log_q,
        data.texts,
        arguments.alignment_negatives,
        process if arguments.gather_negatives else None,
    )
    if several(process) and not arguments.gather_negatives:
        collator = ShareOfBatch(collator, lambda sample: 1, process)
    batch_size = training.train_batch_size * training.world_size
    beside = folder  # what is written beside the training
    if stages is not None and folder is not None:
        beside = stages.checkpoints(f"{trained}_beside")
        if last_checkpoint(Path(training.output_dir), process) is None and process.is_main_process and beside.exists():
            shutil.rmtree(beside)  # of a training that begins anew
    of_the_model = "use_cache" in vars(model.config)
    trainer = RankingTrainer(
        model=model,
        args=training,
        train_dataset=data,
        eval_dataset=RankingDataset(split.interactions, split.validation_of(split.alignment_users)),
        data_collator=collator,
        scorer=scorer,
        sampler=text_grouped_orders(data.texts, batch_size, training.seed),
        callbacks=list(callbacks),
    )
    if training.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(training.early_stopping_patience))
    if training.recommendation_samples:
        trainer.add_callback(
            RecommendationSamplesCallback(
                model,
                trainer.eval_dataset,
                beside or training.output_dir,
                training.recommendation_samples,
                seed=training.seed,
                trackers=trainer.callback_handler.callbacks,
            )
        )
    if arguments.alignment_map and folder is not None:
        maps = beside / "alignment_map"
        if arguments.score == "both":  # one after the other, with the same steps
            maps /= model.config.score
        trainer.add_callback(AlignmentMapCallback.of(model, split, maps, training.seed))
    trainer.train() if stages is None else trainer.go_on()
    if not of_the_model:  # Trainer puts its own there; a training that is not repeated after a cut-off would not
        vars(model.config).pop("use_cache", None)
    best = {"best_step": trainer.state.best_global_step} if training.load_best_model_at_end else {}
    log = trainer.state.log_history
    if stages is not None and process.is_main_process:
        with stages.keep(trained) as kept:
            _write(model, kept, [log, best])
            if beside is not None and beside.exists():
                # Not what was being written when a run was killed
                shutil.copytree(beside, kept / BESIDE, ignore=shutil.ignore_patterns(".*"))
        _take_along(stages.folder / trained / BESIDE, folder)
    drawn |= best
    return log, drawn | _index(model, split, arguments, training, known, stages, indexed), selection


def _take_along(source: Path, folder: Path | None) -> None:
    """Pictures and samples of a finished training into the run's folder; samples of a second score come after."""
    if folder is None or not source.exists() or not PartialState().is_main_process:
        return
    before = (folder / SAMPLES_FILE).read_text("utf-8") if (folder / SAMPLES_FILE).exists() else None
    shutil.copytree(source, folder, dirs_exist_ok=True)
    if before is not None and (source / SAMPLES_FILE).exists():
        added = (source / SAMPLES_FILE).read_text("utf-8").partition("\n")[2]
        (folder / SAMPLES_FILE).write_text(before + added, "utf-8")


def _write(model: RARecForSequentialRecommendation, folder: Path, told: Any) -> None:
    """The weights as a stage leaves them, and what it tells, into the stage's folder."""
    save_file({name: t.contiguous() for name, t in model.own_weights().items()}, folder / SAFE_WEIGHTS_NAME)
    (folder / LOG_FILE).write_text(json.dumps(told) + "\n", "utf-8")


def _read(model: RARecForSequentialRecommendation, folder: Path) -> Any:
    """Takes over the weights that a finished stage left; returns what it told."""
    model.load_state_dict(load_file(folder / SAFE_WEIGHTS_NAME), strict=False)
    return json.loads((folder / LOG_FILE).read_text("utf-8"))


def _index(
    model: RARecForSequentialRecommendation,
    split: Split,
    arguments: AlignmentArguments,
    training: RARecTrainingArguments,
    known: RankingDataset | None,
    stages: Stages | None,
    stage: str,
) -> dict[str, int | float]:
    """Encodes the catalogue and fits the gains, or takes both from a run that had; returns the counts."""
    process, drawn = PartialState(), {}
    if stages is not None and (kept := stages.kept(stage)) is not None:
        drawn = _read(model, kept)
        content = load_file(kept / REPRESENTATIONS_FILE)
        model._catalogue = model.catalogue_of(content["items"], content["keys"])
        return drawn
    model.index_catalogue(arguments.encode_batch_size, not training.disable_tqdm, process=process)
    if known is None:
        known = gain_targets(split, arguments.gain_users, training.seed)
    if model.score_head.uses_encoder and known is not None:
        progress, exclude = not training.disable_tqdm, arguments.exclude_seen
        text, readout = fit_gains(model, known, progress=progress, process=process, exclude_seen=exclude)
        drawn |= {"gain_users": len(np.unique(known.targets.users)), "text_gain": round(text, 3)}
        drawn["readout_gain"] = round(readout, 3)
    if stages is not None and process.is_main_process:
        with stages.keep(stage) as kept:
            _write(model, kept, drawn)
            items, keys = model.catalogue_items().contiguous(), model._catalogue.keys
            save_file({"items": items, "keys": keys}, kept / REPRESENTATIONS_FILE)
    return drawn


def gain_targets(split: Split, n_users: int, seed: int) -> RankingDataset | None:
    """The validation targets that weights are fitted on; None where none shall be."""
    if not n_users:
        return None
    return RankingDataset(split.interactions, drawn_targets(split.validation, n_users, seed))


def drawn_targets(targets: Targets, n_users: int, seed: int) -> Targets:
    """All targets of `n_users` of the users, drawn with the seed; all if there are no more."""
    users, row_user = np.unique(targets.users, return_inverse=True)
    if not 0 < n_users < len(users):
        return targets
    drawn = np.zeros(len(users), dtype=bool)
    drawn[np.random.default_rng(seed).choice(len(users), n_users, replace=False)] = True
    return targets.take(drawn[row_user])


__all__ = ["align", "drawn_targets", "gain_targets"]
