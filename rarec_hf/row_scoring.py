"""Scores of a catalogue whose rows are spread over processes: representations of histories travel, scores never do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .catalogue_rows import piece_size, pieces, together
from .processes import PartialState
from .top_k import best_of_part, users_scored_at_once

if TYPE_CHECKING:
    from .recommendation import RecommendationMixin

T = TypeVar("T")


@dataclass
class Query:
    """
    What one batch of histories is scored by.

    Args:
        places (`np.ndarray` of shape `(n,)`): which of the histories given they are.
        states (`torch.FloatTensor` of shape `(n, width)`), vectors (`(n, interests, id_dim)`): their representations
            and the ID encoder's vectors, on the CPU.
    """

    places: np.ndarray
    states: Tensor
    vectors: Tensor

    def __len__(self) -> int:
        return len(self.places)


class RowScorer:
    """
    What `model.scorer()` is where other processes hold parts of the item representations. `rank_targets` asks it for
    the scores of this process's rows.

    Args:
        model ([`RARecForSequentialRecommendation`]): indexed or loaded by rows, as its weights are now.
        process (`PartialState`): every process makes one, and goes through the same `rounds`.

    Raises:
        ValueError: the catalogue was not indexed since weights changed.
    """

    def __init__(self, model: RecommendationMixin, process: PartialState):
        self.model, self.process = model, process
        self.takes_users = model.id_encoder.takes_users
        self.n_items, self.rows = model.config.id_encoder_config.n_items, model.rows_here
        device = model.id_scale.device
        self._items = model.catalogue_items(whole=False).to(device)
        self._vectors = model.id_encoder.item_vectors(slice(self.rows.start, self.rows.stop)).detach().to(device)
        self._asked: tuple[Query, Tensor, Tensor] | None = None

    def queries(
        self, histories: Sequence[Sequence[int] | np.ndarray], users: Any = None, batch_size: int = 16
    ) -> Iterator[Query]:
        """Histories of this process, batch by batch as one process alone would read them; for [`rounds`] only."""
        given: Any = histories
        for places, states, vectors in self.model.represent_histories(given, batch_size, users):
            yield Query(places, states.detach().cpu(), vectors.detach().cpu())

    def rounds(self, mine: Iterator[T]) -> Iterator[list[T | None]]:
        """What every process takes from its own iterator of queries, or of what holds them, one each a round; None of
        a process that has no more. Ends for all together."""
        while True:
            one = next(mine, None)
            if one is None:
                self.model.take_part()
            of_all = together(one, self.process)
            if all(other is None for other in of_all):
                return
            yield of_all

    @property
    def pieces(self) -> list[slice]:
        """Pieces of the catalogue that this process holds, as slices of item indices."""
        return pieces(self.n_items, self.rows)

    def score(self, query: Query, piece: slice, users: slice = slice(None)) -> Tensor:
        """Scores `(n, items of the piece)`, float32, where the model is; of some of the users only, on request."""
        if self._asked is None or self._asked[0] is not query:
            device = self._items.device  # copies lie as in the process that made them
            self._asked = query, query.states.to(device, copy=True), query.vectors.to(device, copy=True)
        _, states, vectors = self._asked
        here = slice(piece.start - self.rows.start, piece.stop - self.rows.start)
        with torch.no_grad():
            scores = self.model.combine(states[users], self._items[here], vectors[users], self._vectors[here])
        return scores.float()

    def best(self, query: Query, k: int, seen: Sequence[Sequence[int] | np.ndarray] | None) -> tuple[Tensor, Tensor]:
        """Scores and indices `(n, at most k)` of the best items among the rows of this process, on the CPU; see
        [`merged`]."""
        first, size = self.rows.start, piece_size(self.n_items)

        def score(users: slice, part: slice) -> Tensor:
            cut = pieces(self.n_items, range(part.start + first, part.stop + first))
            return torch.cat([self.score(query, piece, users) for piece in cut], 1)

        mine = None if seen is None else [[i - first for i in items if i in self.rows] for items in seen]
        at_once = users_scored_at_once(len(query), self.n_items)
        values, items = best_of_part(score, len(query), len(self.rows), k, mine, at_once, whole_pieces_of=size)
        return values.cpu(), items.cpu() + first


__all__ = ["Query", "RowScorer"]
