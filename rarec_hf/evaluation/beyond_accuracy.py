"""What is recommended beside the targets: how much of the catalogue, and how popular."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from ..processes import collected
from .evaluator import Scorer
from .ranks import flatten_histories


class TopItemsRecorder:
    """
    A scorer that passes another one's scores on and remembers which items stood first, seen items left out.

    Args:
        scorer (`Scorer`): histories in, scores `(n, n_items)` out.
        k (`int`): how many first items.
        process (`PartialState`, *optional*): that [`rank_targets`] shares its batches by; then every process must ask
            for `items`.
    """

    def __init__(self, scorer: Scorer, k: int = 10, process: PartialState | None = None):
        if k < 1:
            raise ValueError(f"`k` must be at least 1, got {k}.")
        self.scorer, self.k, self.process = scorer, k, process
        self.takes_users = bool(getattr(scorer, "takes_users", False))
        self._found: list[np.ndarray] = []

    def __call__(self, histories: Sequence[np.ndarray], *users: Any) -> Any:
        scores = self.scorer(histories, *users)
        unseen = torch.as_tensor(scores).float().clone()
        rows, items = flatten_histories(histories, unseen.shape[1])
        unseen[torch.as_tensor(rows), torch.as_tensor(items)] = float("-inf")
        self._found.append(unseen.topk(min(self.k, unseen.shape[1]), 1).indices.cpu().numpy())
        return scores

    @property
    def items(self) -> np.ndarray:
        """The first items of all histories so far, `(n, k)`."""
        found = collected(self._found, self.process)
        if not found:
            raise ValueError("Nothing was scored yet.")
        return np.concatenate(found)


def coverage(top_items: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that stands in at least one list `(n, k)`."""
    return len(np.unique(top_items)) / n_items


def popularity_bias(top_items: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> float:
    """
    How much more popular the recommended items are than the chosen ones: the mean popularity rank of the items in
    lists `(n, k)` less that of the targets `(n,)`, both as a share of the catalogue that is less popular (ties by
    half). 0: as popular as what users choose; 0.5: the most popular only, where users choose evenly.

    Args:
        counts (`np.ndarray` of shape `(n_items,)`): how often each item occurs in training.
    """
    ordered = np.sort(counts)
    below, upto = np.searchsorted(ordered, counts, "left"), np.searchsorted(ordered, counts, "right")
    share = (below + upto) / (2 * len(counts))
    return float(share[top_items].mean() - share[targets].mean())


__all__ = ["TopItemsRecorder", "coverage", "popularity_bias"]
