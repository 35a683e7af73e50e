"""Stage one of the main job: the ID encoder inside RA-Rec and its opponents."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import AutoModel

from ..data.sequences import Sequences
from ..data.splits import Split, Targets
from ..evaluation import word_vectors
from ..id_encoder import IDEncoderModel
from ..processes import filled, speaks
from ..whole_files import remove_whole
from .arguments import EncoderArguments, RARecTrainingArguments
from .id_encoder import train_id_encoder
from .loaded_encoder import load_id_encoder
from .ranking_trainer import RankingDataset
from .stages import LOG_FILE, Stages

INNER_ENCODER, OPPONENT_ENCODER = "id_encoder", "id_encoder_all_users"
WORD_OPPONENT = "id_encoder_words"
TEXT_ENCODER = "text_sasrec"


@dataclass(frozen=True)
class _Training:
    """How this stage trains each of its encoders, or takes it from a cut-off run that had finished it."""

    split: Split
    training: RARecTrainingArguments
    work_folder: Path
    stages: Stages | None

    def encoder(
        self,
        name: str,
        arguments: EncoderArguments,
        sequences: Sequences,
        validation: Targets | None,
        digest: str | None = None,
        texts: torch.Tensor | None = None,
        epochs: float | None = None,
    ) -> tuple[IDEncoderModel, list[dict]]:
        """The encoder and its log history; without `validation` the last training, of so many `epochs`."""
        stages = self.stages
        stage = name if validation is not None else f"{name}_refit"
        if stages is not None and (kept := stages.kept(stage)) is not None:
            log = json.loads((kept / LOG_FILE).read_text("utf-8"))
            return AutoModel.from_pretrained(kept).to(stages.process.device).eval(), log
        encoder, log = train_id_encoder(
            self.split,
            sequences,
            validation,
            arguments if epochs is None else replace(arguments, encoder_epochs=epochs),
            self.work_folder / name if stages is None else stages.checkpoints(stage),
            self.training.seed,
            digest,
            self.training.disable_tqdm,
            texts,
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
            return load(str(folder / INNER_ENCODER)), _loaded_if_there(folder / OPPONENT_ENCODER), []
        return load(arguments.id_encoder), None, []
    if arguments.user_vectors is not None:
        raise ValueError("--user_vectors needs the item vectors of the same model: give them with --id_encoder FILE.")
    if arguments.encoder_type == TEXT_ENCODER and texts is None:
        raise ValueError(f"--encoder_type {TEXT_ENCODER} needs the items' text vectors; see `read_item_texts`.")
    without_texts = replace(arguments, encoder_type="sasrec") if texts is not None else arguments
    train, users = _Training(split, training, work_folder, stages).encoder, split.encoder_users
    digest = split.seen_by_encoder_digest()
    validation = split.validation_of(users)
    inner, history = train(INNER_ENCODER, arguments, split.encoder_sequences(), validation, digest, texts)
    opponent, log = train(OPPONENT_ENCODER, without_texts, split.baseline_sequences(), split.validation)
    if arguments.encoder_refit:
        sequences = split.refit_sequences(users, held_out)
        digest = split.seen_by_encoder_digest(sequences)
        inner, _ = train(INNER_ENCODER, arguments, sequences, None, digest, texts, best_epoch(history))
        sequences = split.refit_sequences(held_out=held_out)
        opponent, _ = train(OPPONENT_ENCODER, without_texts, sequences, None, epochs=best_epoch(log))
    return inner, opponent, history


def prepare_word_opponent(
    split: Split,
    arguments: EncoderArguments,
    training: RARecTrainingArguments,
    work_folder: Path,
    texts: torch.Tensor | None = None,
    known: RankingDataset | None = None,
    stages: Stages | None = None,
) -> IDEncoderModel | None:
    """
    A further opponent of an encoder that reads the LLM's text vectors: one of the same settings that reads word counts
    ([`word_vectors`]) in their place, trained on all users' training parts. It tells what the LLM read from what is
    gained by training with texts at all.

    Args:
        texts, known, stages: as in [`prepare_encoders`]; the word vectors are as wide as `texts`, where there are so
            many words.

    Returns:
        the encoder; None for encoders that read no text, where `--encoder_word_opponent` is false, and for loaded ones
        that have none beside them.
    """
    if arguments.id_encoder is not None:
        return _loaded_if_there(Path(arguments.id_encoder) / WORD_OPPONENT)
    if texts is None or not arguments.encoder_word_opponent:
        return None
    process = PartialState()
    vectors = word_vectors(split.interactions.items.words(), texts.shape[1])
    vectors = filled(vectors if speaks(process) else torch.zeros_like(vectors), process)  # all have the same bits
    train = _Training(split, training, work_folder, stages).encoder
    encoder, log = train(WORD_OPPONENT, arguments, split.baseline_sequences(), split.validation, texts=vectors)
    if arguments.encoder_refit:
        sequences = split.refit_sequences(held_out=None if known is None else known.targets.users)
        encoder, _ = train(WORD_OPPONENT, arguments, sequences, None, texts=vectors, epochs=best_epoch(log))
    return encoder


def _loaded_if_there(folder: Path) -> IDEncoderModel | None:
    return AutoModel.from_pretrained(folder).eval() if folder.is_dir() else None


def best_epoch(log_history: list[dict]) -> float:
    """The epoch with the best validation NDCG@10, from the log history of an ID encoder's training."""
    return max((entry for entry in log_history if "eval_ndcg@10" in entry), key=lambda e: e["eval_ndcg@10"])["epoch"]


__all__ = [
    "INNER_ENCODER",
    "OPPONENT_ENCODER",
    "TEXT_ENCODER",
    "WORD_OPPONENT",
    "best_epoch",
    "prepare_encoders",
    "prepare_word_opponent",
]
