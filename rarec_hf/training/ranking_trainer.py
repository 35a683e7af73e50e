"""A `Trainer` that evaluates by ranking the full catalogue; scores never outlive their batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer

from ..data.interactions import Interactions
from ..data.splits import Targets
from ..evaluation.evaluator import Scorer, rank_targets
from ..evaluation.metrics import summarize
from ..evaluation.ranks import Ranks
from .push_callback import WholePushCallback

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
        """Ranks of the targets over the full catalogue, seen items removed or not; see [`rank_targets`]."""
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
    `eval_ndcg@10` and the like, for early stopping, best-model choice and users' own callbacks.

    Args:
        scorer: makes a scorer `histories -> (n, n_items)` of the model as it is at that moment.
        sampler (`Sampler`, *optional*): the order of the training samples; random otherwise.
    """

    def __init__(
        self, *args: Any, scorer: Callable[[], Scorer], sampler: Sampler | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(WholePushCallback())
        self.scorer, self.sampler = scorer, sampler
        self._parts: dict[str, list[float]] = {}

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        output = model(**inputs)
        for name in ("ranking_loss", "alignment_loss"):
            if model.training and output.get(name) is not None:
                self._parts.setdefault(name, []).append(output[name].item())
        return (output.loss, output) if return_outputs else output.loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        return super()._get_train_sampler(train_dataset) if self.sampler is None else self.sampler

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Trainer's draft, where a callback or the user has not put a card already."""
        if not (Path(self.args.output_dir) / "README.md").is_file():
            super().create_model_card(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs |= {name: float(np.mean(values)) for name, values in self._parts.items()}
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


__all__ = ["RankingDataset", "RankingTrainer"]
