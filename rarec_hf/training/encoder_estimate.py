"""How long the ID encoders' training will take, from a short trial of it."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from dataclasses import dataclass, replace

import torch

from ..data.sequences import Sequences
from ..data.splits import Split, Targets
from .alignment_stage import drawn_targets
from .arguments import EncoderArguments, RARecTrainingArguments
from .encoder_stage import TEXT_ENCODER
from .id_encoder import SequenceDataset, encoder_scorer, train_id_encoder
from .ranking_trainer import RankingDataset

TRIED_STEPS = 50  # in which lengths are mixed as in an epoch: windows of like length come together
TRIED_USERS = 256


@dataclass(frozen=True)
class EncoderEstimate:
    """
    Args:
        seconds (`dict[str, float]`): by encoder, of all its epochs with their validation; patience may end it sooner.
        of_refit (`float`): seconds of all last trainings (`--encoder_refit`), if each takes as many epochs.
    """

    seconds: dict[str, float]
    of_refit: float

    def __str__(self) -> str:
        lines = ["ID encoders, as tried just now, if patience ends none of them:"]
        parts = self.seconds | ({"the last trainings (--encoder_refit)": self.of_refit} if self.of_refit else {})
        lines += [f"  {name:<42} {seconds / 60:>30.1f} min" for name, seconds in parts.items()]
        lines.append(f"  {'together':<42} {sum(parts.values()) / 60:>30.1f} min")
        return "\n".join(lines)


def estimate_encoders(
    split: Split, arguments: EncoderArguments, training: RARecTrainingArguments, text_width: int
) -> EncoderEstimate | None:
    """
    Trains each kind of encoder for a few steps, ranks a few validation users, and counts how often the run does so.

    Args:
        text_width (`int`): of the text vectors, for `--encoder_type text_sasrec`.

    Returns:
        the estimate; None where the encoder is loaded.
    """
    if arguments.id_encoder is not None:
        return None
    texts = None
    if arguments.encoder_type == TEXT_ENCODER:
        texts = torch.randn(split.interactions.n_items, text_width, generator=torch.Generator().manual_seed(0))
    plain = replace(arguments, encoder_type="sasrec") if texts is not None else arguments
    of_inner = split.validation_of(split.encoder_users)
    trained = {
        "inside RA-Rec": (arguments, texts, split.encoder_sequences(), of_inner),
        "its opponent": (plain, None, split.baseline_sequences(), split.validation),
    }
    if texts is not None and arguments.encoder_word_opponent:
        trained["its opponent over word counts"] = (arguments, texts, split.baseline_sequences(), split.validation)
    seconds, of_refit, tried = {}, 0.0, {}
    for name, (settings, vectors, sequences, validation) in trained.items():
        kind = settings.encoder_type
        if kind not in tried:
            tried[kind] = _tried(split, settings, training, vectors, sequences, validation)
        a_step, a_user = tried[kind]
        steps = settings.encoder_epochs * _steps(settings, training, sequences)
        seconds[name] = steps * a_step + settings.encoder_epochs * len(validation) * a_user
        of_refit += steps * a_step if settings.encoder_refit else 0.0
    return EncoderEstimate(seconds, of_refit)


def _steps(settings: EncoderArguments, training: RARecTrainingArguments, sequences: Sequences) -> int:
    """Of an epoch."""
    windows = len(SequenceDataset(sequences, settings.encoder_max_history))
    return -(-windows // (settings.encoder_batch_size * training.world_size))


def _tried(
    split: Split,
    settings: EncoderArguments,
    training: RARecTrainingArguments,
    texts: torch.Tensor | None,
    sequences: Sequences,
    validation: Targets,
) -> tuple[float, float]:
    """Seconds of a training step, and of ranking one validation user."""
    steps = _steps(settings, training, sequences)
    few = replace(settings, encoder_epochs=min(1.0, TRIED_STEPS / steps))
    with tempfile.TemporaryDirectory() as work, contextlib.redirect_stdout(io.StringIO()):  # the Trainer's log lines
        encoder, log = train_id_encoder(split, sequences, None, few, work, training.seed, None, True, texts)
    a_step = log[-1]["train_runtime"] / max(1, log[-1]["step"])
    some = RankingDataset(split.interactions, drawn_targets(validation, TRIED_USERS, training.seed))
    start = time.perf_counter()
    some.rank(encoder_scorer(encoder), "Trying", progress=False)
    return a_step, (time.perf_counter() - start) / max(1, len(some))


__all__ = ["EncoderEstimate", "estimate_encoders"]
