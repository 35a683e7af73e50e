"""A `Trainer` that evaluates by ranking the full catalogue; scores never outlive their batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, sort_checkpoints

from ..checkpoint_folder import BACKBONE_PREFIX
from ..data.interactions import Interactions
from ..data.splits import Targets
from ..evaluation.evaluator import Scorer, rank_targets
from ..evaluation.metrics import summarize
from ..evaluation.ranks import Ranks
from ..joint_passes import is_sharded
from ..processes import several, wait
from ..whole_files import remove_whole, write_manifest, writing
from .divergence import DivergenceGuard
from .push_callback import WholePushCallback
from .shared_batches import SeededOrders
from .stages import TRAINER_STATE_NAME, last_checkpoint

LOGGED = ("ndcg@10", "hit_rate@10", "hit_rate@100")  # of all metrics: a log line is for reading


class RankingDataset(Dataset):
    """Histories and targets as a data set; histories are cut out when asked for."""

    def __init__(self, interactions: Interactions, targets: Targets) -> None:
        self.interactions, self.targets = interactions, targets
        self.histories = _Histories(interactions, targets)

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"RankingDataset({self.targets!r}, n_items={self.interactions.n_items})"

    def __getitem__(self, row: int) -> dict:
        return {"history": self.histories[row], "target": int(self.targets.targets[row])}

    def rank(
        self,
        scorer: Scorer,
        description: str,
        batch_size: int = 64,
        progress: bool = True,
        exclude_seen: bool = True,
    ) -> Ranks:
        """Ranks of the targets over the full catalogue, seen items removed or not, by all processes of `accelerate
        launch` together; see [`rank_targets`]."""
        return rank_targets(
            scorer,
            self.histories,
            self.targets.targets,
            self.interactions.n_items,
            users=self.targets.users,
            exclude_seen=exclude_seen,
            batch_size=batch_size,
            description=description,
            progress=progress,
            process=PartialState(),
        )


class _Histories(Sequence):
    def __init__(self, interactions: Interactions, targets: Targets) -> None:
        self.interactions, self.targets = interactions, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> np.ndarray:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.targets.history(self.interactions, row)


class RankingTrainer(Trainer):
    """
    `Trainer` whose `evaluate` ranks the targets of a [`RankingDataset`] over the full catalogue and reports
    `eval_ndcg@10` and the like, for early stopping, best-model choice and users' own callbacks. A training that
    diverges is stopped, see [`DivergenceGuard`].

    Args:
        scorer: makes a scorer `histories -> (n, n_items)` of the model as it is at that moment.
        sampler ([`SeededOrders`], *optional*): the order of the training samples, the same in every process; random
            otherwise. With it, each process of `accelerate launch` is given every global batch, and `data_collator`
            takes its part: so many samples as one process would be given stand in a batch, the last one included.
    """

    def __init__(
        self, *args: Any, scorer: Callable[[], Scorer], sampler: SeededOrders | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(WholePushCallback())
        self.add_callback(_LogWithCheckpoint())
        self.add_callback(DivergenceGuard())
        self.scorer, self.sampler = scorer, sampler
        self._parts: dict[str, list[float]] = {}
        if sampler is not None:
            self.add_callback(_EpochsOrder(sampler))

    def create_accelerator_and_postprocess(self) -> None:
        """Trainer's. Accelerate holds on to the mixed precision of the first Trainer of a process: here the ID
        encoder's, which has none, and would refuse `--bf16` of the alignment. Processes and devices stay."""
        if AcceleratorState._shared_state and AcceleratorState().mixed_precision != self.args.mixed_precision:
            AcceleratorState._reset_state()
        super().create_accelerator_and_postprocess()

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: DataLoader | None = None) -> nn.Module:
        """Trainer's. Beside a sharded backbone, which Accelerate refuses to wrap, the rest is wrapped as ever: it is
        the same in all processes, and its gradients are averaged."""
        wrapped = super()._wrap_model(model, training, dataloader)
        if not training or wrapped is not self.model or not is_sharded(wrapped):
            return wrapped
        ignored = [name for name, _ in wrapped.named_parameters() if name.startswith(BACKBONE_PREFIX)]
        ignored += [name for name, _ in wrapped.named_buffers() if name.startswith(BACKBONE_PREFIX)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(wrapped, ignored)
        device_ids = None if self.args.device.type == "cpu" else [self.args.device]
        return DistributedDataParallel(wrapped, device_ids=device_ids, **self.accelerator.ddp_handler.to_kwargs())

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        if not is_sharded(model):  # else it is where it belongs
            super()._move_model_to_device(model, device)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        share = inputs.pop("share", None)
        output = model(**inputs)
        for name in ("ranking_loss", "alignment_loss"):
            if model.training and output.get(name) is not None:
                self._parts.setdefault(name, []).append(output[name].item())
        loss = output.loss
        if share is not None:
            loss = loss * share
        elif "own_rows" in inputs:  # gradients of own rows only: their sum is wanted, and the mean will be taken
            loss = loss.detach() + self.args.world_size * (loss - loss.detach())
        return (loss, output) if return_outputs else loss

    def go_on(self) -> TrainOutput:
        """
        Trains from the latest whole checkpoint in `args.output_dir`, from the start if there is none. From one where
        training had ended it takes what belongs to the end (the best weights, random numbers), and no further step.
        """
        last = last_checkpoint(Path(self.args.output_dir), PartialState())
        self.args.restore_callback_states_from_checkpoint = True  # in any case: checkpoints hold the arguments
        if last is None or not _had_ended(state := TrainerState.load_from_json(str(Path(last) / TRAINER_STATE_NAME))):
            return self.train(resume_from_checkpoint=last)
        # Trainer would do one more step after an early stop, and reads random numbers only when an epoch begins
        length = self.args.max_steps, self.args.num_train_epochs
        self.args.max_steps, self.args.num_train_epochs = -1, math.floor(state.epoch)
        try:
            output = self.train(resume_from_checkpoint=last)
        finally:
            self.args.max_steps, self.args.num_train_epochs = length
        self._load_rng_state(last)
        if self.args.should_save:  # the run may have been killed between the last checkpoint and this
            self._remove_older(last)
        return output

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """With a manifest, and older checkpoints removed after it only: one is whole at any time."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        checkpoint = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            with writing(checkpoint):
                super()._save_checkpoint(model, trial)
                wait(PartialState())  # each process has its own random numbers
                if self.args.should_save:
                    write_manifest(checkpoint)
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            self._remove_older(str(checkpoint))

    def _remove_older(self, latest: str) -> None:
        if not self.args.save_total_limit:
            return
        best = self.state.best_model_checkpoint
        # The best stands before the latest
        found = sort_checkpoints(self.args.output_dir, best_model_checkpoint=best)
        for old in found[: -max(self.args.save_total_limit, 1 if best in (None, latest) else 2)]:
            remove_whole(Path(old))

    def get_train_dataloader(self) -> DataLoader:
        if self.sampler is None or self.args.world_size == 1:
            return super().get_train_dataloader()
        return DataLoader(
            self.train_dataset,
            self._train_batch_size * self.args.world_size,
            sampler=self.sampler,
            collate_fn=self.data_collator,
            drop_last=self.args.dataloader_drop_last,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        return super()._get_train_sampler(train_dataset) if self.sampler is None else self.sampler

    def _save(self, *args: Any, **kwargs: Any) -> None:
        """
        Trainer's, which pickles its arguments beside the weights: without the token among them, and in the same bytes
        whether or not other trainings went before in this process, which make another object of the same device.
        """
        token, self.args.hub_token = self.args.hub_token, None
        if (device := vars(self.args).get("_setup_devices")) is not None:
            vars(self.args)["_setup_devices"] = torch.device(str(device))
        try:
            super()._save(*args, **kwargs)
        finally:
            self.args.hub_token = token

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Trainer's draft, where a callback or the user has not put a card already."""
        if not (Path(self.args.output_dir) / "README.md").is_file():
            super().create_model_card(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            means = torch.tensor([float(np.mean(values)) for values in self._parts.values()], dtype=torch.float64)
            if several(process := PartialState()) and len(means):
                means = reduce(means.to(process.device), "mean")
            logs |= dict(zip(self._parts, means.tolist(), strict=True))
            self._parts.clear()
        super().log(logs, *args, **kwargs)

    def evaluate(
        self, eval_dataset: RankingDataset | None = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        if not isinstance(data, RankingDataset):
            raise ValueError(f"Expected a RankingDataset to evaluate on, got {type(data).__name__}.")
        was_training = self.model.training
        self.model.eval()
        ranks = data.rank(self.scorer(), "Validation", progress=not self.args.disable_tqdm and len(data) > 2000)
        values = summarize(ranks)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in values.items()}
        self.model.train(was_training)
        self.log({f"{metric_key_prefix}_{name}": values[name] for name in LOGGED})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _had_ended(state: TrainerState) -> bool:
    """Whether training was over (all steps done, or stopped early) when this state was saved."""
    return state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]


class _LogWithCheckpoint(TrainerCallback):
    """Losses since the last log line are in no checkpoint: a line with each, and none is lost when a run goes on."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_log |= control.should_save

    on_epoch_end = on_step_end


class _EpochsOrder(TrainerCallback):
    def __init__(self, orders: SeededOrders) -> None:
        self.orders = orders

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.orders.set_epoch(int(state.epoch or 0))


__all__ = ["RankingDataset", "RankingTrainer"]
