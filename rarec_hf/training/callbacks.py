"""What the model recommends to the same few users after every evaluation, for reading along."""

from __future__ import annotations

import html
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from ..joint_passes import finish_passes
from ..modeling_rarec import RARecForSequentialRecommendation
from ..whole_files import replacing
from .ranking_trainer import LOGGED, RankingDataset

SAMPLES_FILE = "recommendation_samples.md"
TAG = "recommendation_samples"  # in TensorBoard, W&B and trackio
COLUMNS = ("user", "chose, latest last", "then chose", "recommended")
SHOWN_HISTORY = 5  # titles


@dataclass(frozen=True)
class SampleUser:
    """
    A user who is looked at.

    Args:
        user_id (`str`): external.
        history (`list[str]`): item ids, oldest first.
        chose (`list[str]`): titles of the latest of them.
        then_chose (`list[str]`): titles of the targets.
    """

    user_id: str
    history: list[str]
    chose: list[str]
    then_chose: list[str]


def draw_users(data: RankingDataset, n_users: int, seed: int = 0) -> list[SampleUser]:
    """A seeded draw of users of a data set, all if there are no more; in the data set's order."""
    interactions, targets = data.interactions, data.targets
    item_ids, titles = interactions.items.item_ids, interactions.items.titles
    _, first = np.unique(targets.users, return_index=True)  # a user may have several targets
    rows = np.random.default_rng(seed).permutation(first)[:n_users]
    users = []
    for row in np.sort(rows).tolist():
        history, user = data.histories[row], targets.users[row]
        users.append(
            SampleUser(
                user_id=interactions.user_ids[int(user)],
                history=[item_ids[int(item)] for item in history],
                chose=[titles[int(item)] for item in history[-SHOWN_HISTORY:]],
                then_chose=[titles[int(item)] for item in targets.targets[targets.users == user]],
            )
        )
    return users


class RecommendationSamplesCallback(TrainerCallback):
    """
    After each evaluation: histories' titles and the titles recommended, as a section of `recommendation_samples.md`,
    and as text or a table to those of TensorBoard, Weights & Biases and trackio that the Trainer reports to.

    The Trainer's scorer must index the catalogue, as that of `rarec_hf.training.job.align` does.

    Args:
        model ([`RARecForSequentialRecommendation`]): being trained.
        data ([`RankingDataset`]): whose users are looked at, the same every time.
        folder (`str` or `Path`): made if it is not there; a file that is there already goes on.
        n_users (`int`), k (`int`): how many users, and how many recommendations each.
        seed (`int`): of the draw of users.
        trackers (`Sequence[TrainerCallback]`): among which those that take text are found:
            `trainer.callback_handler.callbacks`.

    Raises:
        ValueError: fewer than one user or recommendation.

    Example:
        ```python
        >>> callbacks = trainer.callback_handler.callbacks
        >>> trainer.add_callback(RecommendationSamplesCallback(model, data, "outputs", trackers=callbacks))
        ```
    """

    def __init__(
        self,
        model: RARecForSequentialRecommendation,
        data: RankingDataset,
        folder: str | Path,
        n_users: int = 3,
        k: int = 5,
        seed: int = 0,
        trackers: Sequence[TrainerCallback] = (),
    ) -> None:
        if n_users < 1 or k < 1:
            raise ValueError(f"`n_users` and `k` must be at least 1, got {n_users} and {k}.")
        self.model, self.folder, self.k, self.trackers = model, Path(folder), k, trackers
        self.users = draw_users(data, n_users, seed)

    def rows(self) -> list[tuple[str, list[str], list[str], list[str]]]:
        """Of each user the id, and the titles of the latest items, of the targets and of the recommendations."""
        known = [user.user_id for user in self.users] if self.model.id_encoder.takes_users else None
        answers = self.model.recommend([user.history for user in self.users], k=self.k, user_ids=known)
        return [
            (user.user_id, user.chose, user.then_chose, answer.titles)
            for user, answer in zip(self.users, answers, strict=True)
        ]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A training that goes on from a checkpoint evaluates again what came after it."""
        path = self.folder / SAMPLES_FILE
        if not state.global_step or not state.is_world_process_zero or not path.exists():
            return
        first, *sections = path.read_text("utf-8").split("\n## ")
        until = [text for text in sections if int(re.match(r"Step (\d+)", text)[1]) <= state.global_step]
        with replacing(path) as temporary:
            temporary.write_text("\n## ".join([first, *until]), "utf-8")

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero:
            finish_passes()
            return
        rows = [
            (user_id, " | ".join(chose), " | ".join(then), " | ".join(f"{n}. {t}" for n, t in enumerate(best, 1)))
            for user_id, chose, then, best in self.rows()
        ]
        finish_passes()
        table = markdown_table(rows)
        self._append(f"## {self._heading(state, metrics or {})}\n\n{table}")
        for tracker in self.trackers:
            if isinstance(tracker, TensorBoardCallback) and tracker.tb_writer is not None:
                tracker.tb_writer.add_text(TAG, table, state.global_step)
            elif isinstance(tracker, WandbCallback) and (wandb := importlib.import_module("wandb")).run is not None:
                _log_table(wandb, rows, state)
            elif isinstance(tracker, TrackioCallback):
                trackio = importlib.import_module("trackio")
                if trackio.context_vars.current_run.get() is not None:
                    _log_table(trackio, [tuple(map(markdown_text, row)) for row in rows], state)

    def _heading(self, state: TrainerState, metrics: dict[str, float]) -> str:
        epoch = "" if state.epoch is None else f", epoch {state.epoch:.3g}"
        names = {name.partition("_")[2]: name for name in metrics}  # without eval_ or another prefix
        values = [f", {names[name]} {metrics[names[name]]:.4f}" for name in LOGGED if name in names]
        return f"Step {state.global_step}{epoch} ({self.model.config.score}){''.join(values)}"

    def _append(self, section: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / SAMPLES_FILE
        before = path.read_text("utf-8") if path.exists() else "# Recommendations to the same users during training\n"
        with replacing(path) as temporary:
            temporary.write_text(f"{before}\n{section}", "utf-8")


def markdown_text(text: str) -> str:
    """Text on one line that markdown and HTML show as it is."""
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table of [`COLUMNS`]."""
    lines = [COLUMNS, [":---"] * len(COLUMNS), *([markdown_text(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _log_table(tracker: Any, rows: Sequence[Sequence[str]], state: TrainerState) -> None:
    """To W&B or trackio, which share these names."""
    table = tracker.Table(columns=list(COLUMNS), data=[list(row) for row in rows])
    tracker.log({TAG: table, "train/global_step": state.global_step})


__all__ = ["SAMPLES_FILE", "RecommendationSamplesCallback", "SampleUser", "draw_users"]
