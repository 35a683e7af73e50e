"""Stage one of the main job: the ID encoder inside RA-Rec and its opponent."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModel

from ..data.sequences import Sequences
from ..data.splits import Split, Targets
from ..id_encoder import IDEncoderModel
from ..whole_files import remove_whole
from .arguments import EncoderArguments, RARecTrainingArguments
from .id_encoder import train_id_encoder
from .loaded_encoder import load_id_encoder
from .ranking_trainer import RankingDataset
from .stages import LOG_FILE, Stages

INNER_ENCODER, OPPONENT_ENCODER = "id_encoder", "id_encoder_all_users"
TEXT_ENCODER = "text_sasrec"


def prepare_encoders(
    split: Split,
    arguments: EncoderArguments,
    training: RARecTrainingArguments,
    work_folder: Path,
    texts: torch.Tensor | None = None,
    known: RankingDataset | None = None,
    stages: Stages | None = None,
) -> tuple[IDEncoderModel, IDEncoderModel | None, list[dict]]:
    """
    The encoder inside RA-Rec, which never sees the alignment users, and the opponent, trained on all users' training
    parts.

    A loaded single encoder has no opponent of its own training; None is given then. The opponent of an encoder that
    reads the LLM's text vectors is a SASRec of the same settings, which reads none.

    Args:
        texts (`torch.FloatTensor` of shape `(n_items, text_dim)`, *optional*): for `--encoder_type text_sasrec`.
        known (`RankingDataset`, *optional*): validation targets that gains and weights are fitted on later;
            `--encoder_refit` leaves those of their users out.
        stages ([`Stages`], *optional*): what a cut-off run had finished is taken from there, and kept there.

    Returns:
        inner encoder, opponent or None, log history of the inner encoder's training.
    """
    held_out = None if known is None else known.targets.users
    if arguments.id_encoder is not None:
        load = partial(
            load_id_encoder,
            split=split,
            trust=arguments.trust_id_encoder,
            held_out=held_out,
            user_vectors=arguments.user_vectors,
            trust_user_vectors=arguments.trust_user_vectors,
            similarity=arguments.vector_similarity,
            missing=arguments.missing_vectors,
            max_history=arguments.encoder_max_history,
        )
        folder = Path(arguments.id_encoder)
        if (folder / INNER_ENCODER).is_dir():
            opponent = folder / OPPONENT_ENCODER
            inner = load(str(folder / INNER_ENCODER))
            return inner, AutoModel.from_pretrained(opponent).eval() if opponent.is_dir() else None, []
        return load(arguments.id_encoder), None, []
    if arguments.user_vectors is not None:
        raise ValueError("--user_vectors needs the item vectors of the same model: give them with --id_encoder FILE.")
    if arguments.encoder_type == TEXT_ENCODER and texts is None:
        raise ValueError(f"--encoder_type {TEXT_ENCODER} needs the items' text vectors; see `read_item_texts`.")
    without_texts = replace(arguments, encoder_type="sasrec") if texts is not None else arguments

    def trained(
        name: str, sequences: Sequences, validation: Targets | None, digest: str | None, epochs: float
    ) -> tuple[IDEncoderModel, list[dict]]:
        inside = name == INNER_ENCODER
        settings = replace(arguments if inside else without_texts, encoder_epochs=epochs)
        stage = name if validation is not None else f"{name}_refit"
        if stages is not None and (kept := stages.kept(stage)) is not None:
            log = json.loads((kept / LOG_FILE).read_text("utf-8"))
            return AutoModel.from_pretrained(kept).to(stages.process.device).eval(), log
        encoder, log = train_id_encoder(
            split,
            sequences,
            validation,
            settings,
            work_folder / name if stages is None else stages.checkpoints(stage),
            training.seed,
            digest,
            training.disable_tqdm,
            texts if inside else None,
            *(() if stages is None else (True,)),
        )
        if stages is not None and stages.process.is_main_process:
            with stages.keep(stage) as folder:
                encoder.save_pretrained(folder)
                (folder / LOG_FILE).write_text(json.dumps(log) + "\n", "utf-8")
            if stages.checkpoints_folder(stage).exists():
                remove_whole(stages.checkpoints_folder(stage))
        if stages is not None:  # as the run that goes on will have it
            stages.process.wait_for_everyone()
            encoder = AutoModel.from_pretrained(stages.kept(stage)).to(encoder.device).eval()
        return encoder, log

    most, users = arguments.encoder_epochs, split.encoder_users
    inner, history = trained(
        INNER_ENCODER, split.encoder_sequences(), split.validation_of(users), split.seen_by_encoder_digest(), most
    )
    opponent, of_opponent = trained(OPPONENT_ENCODER, split.baseline_sequences(), split.validation, None, most)
    if arguments.encoder_refit:
        sequences = split.refit_sequences(users, held_out)
        digest = split.seen_by_encoder_digest(sequences)
        inner, _ = trained(INNER_ENCODER, sequences, None, digest, best_epoch(history))
        sequences = split.refit_sequences(held_out=held_out)
        opponent, _ = trained(OPPONENT_ENCODER, sequences, None, None, best_epoch(of_opponent))
    return inner, opponent, history


def best_epoch(log_history: list[dict]) -> float:
    """The epoch with the best validation NDCG@10, from the log history of an ID encoder's training."""
    return max((entry for entry in log_history if "eval_ndcg@10" in entry), key=lambda e: e["eval_ndcg@10"])["epoch"]


__all__ = ["INNER_ENCODER", "OPPONENT_ENCODER", "TEXT_ENCODER", "best_epoch", "prepare_encoders"]
