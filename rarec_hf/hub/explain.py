"""Why items are recommended: the parts that a score is the sum of, and what each ranking would be alone."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..modeling_rarec import RARecForSequentialRecommendation
from ..training.table import text_only_scorer

ENCODER, TEXT, READOUT, LLM = "ID encoder", "text", "readout", "LLM"


@dataclass(frozen=True)
class Explanation:
    """
    The scores of the whole catalogue for one history, all arrays of shape `(n_items,)`.

    Args:
        parts (`dict[str, np.ndarray]`): what the model's score is the sum of: `"ID encoder"`, `"text"` and
            `"readout"`; `"LLM"` alone for a score that has no such parts.
        total (`np.ndarray`): the model's score.
        encoder (`np.ndarray`): the score of the ID encoder alone.
        likeness (`np.ndarray`): cosine of the item's text vector and the history's, from the LLM as it came.
        user (`np.ndarray` of shape `(width,)`, *optional*): the user among the vectors of [`Explainer.map_vectors`].
    """

    parts: Mapping[str, np.ndarray]
    total: np.ndarray
    encoder: np.ndarray
    likeness: np.ndarray
    user: np.ndarray | None

    @property
    def rankings(self) -> dict[str, np.ndarray]:
        """The scores of the model, of its ID encoder alone and of text alone."""
        return {"RA-Rec": self.total, "ID encoder alone": self.encoder, "Text alone": self.likeness}


@dataclass(frozen=True)
class RankedItem:
    """One place of a ranking: `item` is the index, `places` are the item's places in all rankings, from 1."""

    item: int
    score: float
    parts: dict[str, float]
    above_average: dict[str, float]
    places: dict[str, int]


class Explainer:
    """
    Explains what a model recommends; answers are kept for the latest histories. May be asked from several threads.

    Args:
        model ([`RARecForSequentialRecommendation`]): with an indexed catalogue.
        kept (`int`): how many answers are kept.

    Raises:
        ValueError: the model has no processor, or its catalogue is not indexed.
    """

    def __init__(self, model: RARecForSequentialRecommendation, kept: int = 16, progress: bool = False) -> None:
        model.catalogue_items()  # raises with the remedy
        self.model, self._kept = model, kept
        self._answers: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()  # reading texts leaves states in the model
        self._text_alone = text_only_scorer(model, progress=progress)

    def __call__(self, history: Sequence[int]) -> Explanation:
        """The explanation for a history of item indices, oldest first."""
        key = tuple(int(item) for item in history)
        with self._lock:
            if key not in self._answers:
                self._answers[key] = self._explain(list(key))
                if len(self._answers) > self._kept:
                    self._answers.popitem(last=False)
            self._answers.move_to_end(key)
            return self._answers[key]

    @torch.no_grad()
    def _explain(self, history: list[int]) -> Explanation:
        model, head = self.model, self.model.score_head
        states, vectors = model.represent_users([history])
        items = model.catalogue_items().to(states.device)
        item_vectors = model.id_encoder.item_vectors()
        encoder = _array(model.id_encoder.scores(vectors, item_vectors))
        if head.uses_text:
            llm = dict(zip((TEXT, READOUT), map(_array, head.parts(states, items)), strict=True))
        else:
            llm = {LLM: _array(states @ items.T)}
        parts = {ENCODER: encoder, **llm} if head.uses_encoder else llm
        total = _array(model.combine(states, items, vectors, item_vectors))
        if not np.isfinite(total).all():
            raise ValueError(
                "The scores are not numbers (NaN); the model's weights are damaged. Save or train it anew."
            )
        likeness = np.asarray(self._text_alone([history])[0], dtype=np.float32)
        return Explanation(parts, total, encoder, likeness, self._on_map(states[0].float().cpu()))

    def _roots(self) -> Tensor:
        """
        What each column of item representations is multiplied by: the root of its gain, so that the product of a
        user's and an item's vector is the LLM's part of the score. Ones where there are no gains, or before training.
        """
        head, width = self.model.score_head, self.model.score_head.width
        if not head.uses_text or not any(head.get_gains()):
            return torch.ones(width)
        text, readout = (abs(gain) ** 0.5 for gain in head.get_gains())
        return torch.cat([torch.full((head.text_dim,), text), torch.full((width - head.text_dim,), readout)])

    def map_vectors(self, items: Sequence[int]) -> np.ndarray:
        """Vectors `(n, width)` of these items for a map: their representations, in the score's own measure."""
        chosen = torch.as_tensor(np.asarray(items, dtype=np.int64))
        return (self.model.catalogue_items()[chosen].float().cpu() * self._roots()).numpy()

    def _on_map(self, state: Tensor) -> np.ndarray | None:
        roots = self._roots()  # the gains stand in a user's representation already
        vector = torch.where(roots > 0, state / roots.clamp(min=1e-12), 0.0)
        return vector.numpy() if bool(vector.any()) else None

    @torch.no_grad()
    def example_history(self, seed: int, length: int = 3) -> list[int]:
        """A made-up history: an item drawn with this seed and those that the ID encoder holds nearest to it."""
        vectors = torch.nn.functional.normalize(self.model.id_encoder.item_vectors().float().cpu(), dim=-1)
        item = int(np.random.default_rng(seed).integers(len(vectors)))
        nearest = (vectors @ vectors[item]).topk(min(length, len(vectors))).indices.tolist()
        return [*(other for other in reversed(nearest) if other != item), item][-length:]


def rank(explanation: Explanation, by: str, allowed: np.ndarray, k: int) -> list[RankedItem]:
    """
    The best `k` items that are allowed, equal scores in catalogue order, each with its score's parts.

    Args:
        by (`str`): one of `explanation.rankings`.
        allowed (`np.ndarray` of shape `(n_items,)`): booleans.

    Raises:
        ValueError: an unknown ranking, `k` below 1, or an `allowed` of another length.
    """
    rankings = explanation.rankings
    if by not in rankings:
        raise ValueError(f"`by` must be one of {list(rankings)}, got {by!r}.")
    if k < 1:
        raise ValueError(f"`k` must be at least 1, got {k}.")
    if allowed.shape != explanation.total.shape:
        raise ValueError(f"Expected one boolean for each of {len(explanation.total)} items, got {allowed.shape}.")
    items = np.flatnonzero(allowed)
    best = items[np.argsort(-rankings[by][items], kind="stable")[:k]]
    return [
        RankedItem(
            int(item),
            float(rankings[by][item]),
            {name: float(part[item]) for name, part in explanation.parts.items()},
            {name: float(part[item] - part.mean()) for name, part in explanation.parts.items()},
            {name: _place(scores, items, item) for name, scores in rankings.items()},
        )
        for item in best
    ]


def _place(scores: np.ndarray, items: np.ndarray, item: int) -> int:
    mine = scores[items]
    return 1 + int((mine > scores[item]).sum()) + int((mine[items < item] == scores[item]).sum())


def _array(scores: Tensor) -> np.ndarray:
    return scores[0].float().cpu().numpy()


__all__ = ["ENCODER", "LLM", "READOUT", "TEXT", "Explainer", "Explanation", "RankedItem", "rank"]
