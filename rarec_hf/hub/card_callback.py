"""A card for what a `Trainer` pushes."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainerCallback

from .model_card import write_model_card


class ModelCardCallback(TrainerCallback):
    """
    Writes the model's card into `args.output_dir` before each push of a `Trainer`. [`RankingTrainer`] keeps it; any
    other `Trainer` writes its own draft over it when it pushes for the last time.

    Args:
        options: those of [`write_model_card`], such as `license`.
    """

    def __init__(self, **options):
        self.options = options

    def on_push_begin(self, args, state, control, model=None, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        write_model_card(args.output_dir, **{"repo_id": args.hub_model_id, "model": model, **self.options})


__all__ = ["ModelCardCallback"]
