"""A card for what a `Trainer` pushes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .model_card import write_model_card


class ModelCardCallback(TrainerCallback):
    """
    Writes the model's card into `args.output_dir` before each push of a `Trainer`. [`RankingTrainer`] keeps it; any
    other `Trainer` writes its own draft over it when it pushes for the last time.

    Args:
        options: those of [`write_model_card`], such as `license`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        write_model_card(folder, **{"repo_id": args.hub_model_id, "model": model, **self.options})


__all__ = ["ModelCardCallback"]
