"""Alignment samples as a data set, and the collator that makes a batch of them: users, their distinct targets,
negatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from ..data.interactions import Interactions
from ..data.sequences import covered
from ..data.splits import Targets
from ..processing_rarec import RARecProcessor


class AlignmentDataset(Dataset):
    """
    One row a sample: `history` (item indices, oldest first) and `target`. Not whose it is: an encoder's vector of a
    known user has seen the whole training part, and a sample stands in its middle.

    `log_q[i]` is the log of item i's share among the targets: its chance to stand in a batch as somebody's target.
    """

    def __init__(self, interactions: Interactions, samples: Targets):
        self.interactions, self.samples = interactions, samples
        counts = np.bincount(samples.targets, minlength=interactions.n_items)
        with np.errstate(divide="ignore"):
            self.log_q = np.log(counts / max(1, len(samples))).astype(np.float32)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> dict:
        return {"history": self.samples.history(self.interactions, row), "target": int(self.samples.targets[row])}

    def items(self, latest: int) -> np.ndarray:
        """Distinct items that stand in the latest part of a history or are a target: whose texts training needs."""
        samples, interactions = self.samples, self.interactions
        windows = np.minimum(samples.ends, latest)
        firsts = interactions.offsets[samples.users] + samples.ends - windows
        recent = interactions.item_index[covered(firsts, windows, len(interactions.item_index))]
        return np.unique(np.concatenate([recent, samples.targets]))


class AlignmentCollator:
    """
    Makes model inputs of a batch of samples. A target that several users share is encoded once; an item is a negative
    of a user unless it is the user's target or stands in the user's whole history.

    Args:
        max_history (`int`): latest items that the ID encoder reads.
        log_q (`np.ndarray` of shape `(n_items,)`, *optional*): see [`AlignmentDataset`].
    """

    def __init__(self, processor: RARecProcessor, max_history: int, log_q: np.ndarray | None = None):
        self.processor, self.max_history, self.log_q = processor, max_history, log_q

    def __call__(self, samples: Sequence[dict]) -> dict[str, torch.Tensor]:
        items, targets = np.unique([sample["target"] for sample in samples], return_inverse=True)
        negatives = np.stack([~np.isin(items, sample["history"]) for sample in samples])
        negatives[np.arange(len(samples)), targets] = False
        batch = self.processor.user_inputs([sample["history"] for sample in samples], self.max_history)
        batch |= self.processor.item_inputs(items)
        batch |= {"targets": torch.as_tensor(targets), "negatives": torch.as_tensor(negatives)}
        if self.log_q is not None:
            batch["item_log_q"] = torch.as_tensor(self.log_q[items])
        return batch


__all__ = ["AlignmentCollator", "AlignmentDataset"]
