"""What a `Trainer` pushes to the Hub while it trains."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub.utils import filter_repo_objects
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..hub_upload import NEVER_UPLOADED, ignore_in_uploads

_OF_THE_RUN = ("trainer_state.json",)


class WholePushCallback(TrainerCallback):
    """
    Makes every push of a `Trainer` a model folder that loads: `Trainer` itself takes config and weights alone out of a
    checkpoint, here the item table, prompts and item representations go along. [`RankingTrainer`] has it; give it to
    any other with `callbacks=[WholePushCallback()]`.
    """

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        files = [p.relative_to(checkpoint).as_posix() for p in checkpoint.rglob("*") if p.is_file()]
        for name in filter_repo_objects(files, ignore_patterns=[*NEVER_UPLOADED, *_OF_THE_RUN]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkpoint / name, folder / name)
        if folder.is_dir():
            ignore_in_uploads(folder)


__all__ = ["WholePushCallback"]
