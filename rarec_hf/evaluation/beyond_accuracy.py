"""What is recommended beside the targets: how much of the catalogue, and how popular."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState

from ..catalogue_rows import together
from ..processes import collected
from ..top_k import best_items, merged
from .evaluator import Scorer
from .ranks import flatten_histories

if TYPE_CHECKING:
    from ..row_scoring import RowScorer


class TopItemsRecorder:
    """
    A scorer that passes another one's scores on and remembers which items stood first, seen items left out.

    Args:
        scorer (`Scorer`): histories in, scores `(n, n_items)` out.
        k (`int`): how many first items.
        process (`PartialState`, *optional*): that [`rank_targets`] shares its batches by; then every process must ask
            for `items`.
    """

    def __init__(self, scorer: Scorer | RowScorer, k: int = 10, process: PartialState | None = None):
        if k < 1:
            raise ValueError(f"`k` must be at least 1, got {k}.")
        self.scorer, self.k, self.process = scorer, k, process
        self.takes_users = bool(getattr(scorer, "takes_users", False))
        self._found: list[np.ndarray] = []
        self._of_rows: list[tuple[np.ndarray, torch.Tensor, torch.Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        # What a scorer of a catalogue that is spread over processes is asked for; any other lacks it here, too
        if name not in ("rounds", "queries", "pieces", "score", "n_items", "record"):
            raise AttributeError(name)
        return self._record if name == "record" else getattr(self.scorer, name)

    def _record(self, numbers: np.ndarray, query: Any, seen: Sequence[np.ndarray]) -> None:
        """The best of this process's rows, of the histories `numbers`."""
        scorer: Any = self.scorer
        self._of_rows.append((numbers, *scorer.best(query, self.k, seen)))

    def __call__(self, histories: Sequence[np.ndarray], *users: Any) -> Any:
        scorer: Any = self.scorer
        scores = scorer(histories, *users)
        found = torch.as_tensor(scores)
        flatten_histories(histories, found.shape[1])  # refuses what is no item
        _, items = best_items(
            lambda _, part: found[:, part].float(),
            len(found),
            found.shape[1],
            self.k,
            histories,
            scores_at_once=found.numel(),
        )
        self._found.append(items.cpu().numpy())
        return scores

    @property
    def items(self) -> np.ndarray:
        """The first items of all histories so far, `(n, k)`; equal scores in catalogue order."""
        if self._of_rows:
            of_all = together(tuple(map(list, zip(*self._of_rows, strict=True))), self.process)
            order = np.argsort(np.concatenate(of_all[0][0]), kind="stable")
            parts = [(torch.cat(values), torch.cat(items)) for _, values, items in of_all]
            return merged(parts, self.k)[1].numpy()[order]
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
