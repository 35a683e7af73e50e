"""`recommend()`, and scores of histories over the whole catalogue."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers.utils import logging

from .answering import AnsweringMixin
from .catalogue_rows import piece_size
from .histories import as_histories, index_lists, whole_number, yes_or_no
from .ids import shown
from .processes import PartialState, collected, speaks
from .row_scoring import RowScorer
from .rows_index import RowsIndexMixin
from .top_k import best_items

logger = logging.get_logger(__name__)

SHOWN = 3  # items, where there is one line


@dataclass
class Recommendation:
    """
    Ranked items for one history: `item_ids`, `titles` and `scores`, best first. A notebook shows it as a table, and
    [`recommendations_to_frame`] makes one table of many.
    """

    item_ids: list[str]
    titles: list[str]
    scores: list[float]

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` with a row an item: `rank` (from 1), `item_id`, `title`, `score`."""
        return recommendations_to_frame([self]).drop(columns="row")

    def __repr__(self) -> str:
        shown = ", ".join(f"{_cut(title)!r} ({score:.2f})" for _, title, score in list(self)[:SHOWN])
        return (
            f"Recommendation({len(self)} items{': ' + shown if shown else ''}{', ...' if len(self) > SHOWN else ''})"
        )

    def _repr_html_(self) -> str:
        columns = ("", "title", "item id", "score")
        lines = (
            f"<td>{rank}</td><td>{html.escape(title)}</td><td>{html.escape(item_id)}</td><td>{score:.3f}</td>"
            for rank, (item_id, title, score) in enumerate(self, 1)
        )
        head = "".join(f"<th>{column}</th>" for column in columns)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __len__(self) -> int:
        return len(self.item_ids)

    def __iter__(self) -> Iterator[tuple[str, str, float]]:
        return zip(self.item_ids, self.titles, self.scores, strict=True)


def _cut(title: str, longest: int = 60) -> str:
    return title if len(title) <= longest else title[: longest - 3] + "..."


def recommendations_to_frame(answers: Sequence[Recommendation], user_ids: Sequence[str] | None = None) -> Any:
    """
    A `pandas.DataFrame` of what `recommend()` gave for many histories, a row an item: `row` (of the history, from 0)
    or with `user_ids` `user_id`, then `rank` (from 1), `item_id`, `title` and `score`.

    Args:
        answers (`list[Recommendation]`): one a history; those without an item have no row.
        user_ids (`list[str]`, *optional*): whose histories they are.

    Raises:
        ValueError: another number of user ids than of answers, or one answer that is no list.
    """
    try:
        import pandas as pd
    except ImportError as problem:
        raise ImportError("A table of recommendations needs pandas: `pip install pandas`.") from problem
    if isinstance(answers, Recommendation):
        raise ValueError("Expected a list of recommendations, got one. Its own `to_frame()` makes a table of it.")
    if user_ids is not None and len(user_ids) != len(answers):
        raise ValueError(f"Expected a user id for each of {len(answers)} recommendations, got {len(user_ids)}.")
    name, of = ("row", range(len(answers))) if user_ids is None else ("user_id", user_ids)
    rows = [
        (whose, rank, *item) for whose, answer in zip(of, answers, strict=True) for rank, item in enumerate(answer, 1)
    ]
    return pd.DataFrame(rows, columns=[name, "rank", "item_id", "title", "score"])


class RecommendationMixin(AnsweringMixin, RowsIndexMixin):
    """Scores and recommendations of `RARecForSequentialRecommendation`."""

    @torch.no_grad()
    def score_histories(
        self,
        histories: Sequence[Sequence[int] | np.ndarray],
        batch_size: int = 16,
        users: Sequence[int] | np.ndarray | None = None,
    ) -> np.ndarray:
        """
        Scores of the whole catalogue, `(n, n_items)` float32, for histories of item indices.

        Args:
            users (`list[int]`, *optional*): user indices, -1 for an unknown user; see `user_inputs` of
                [`RARecProcessor`].

        Raises:
            ValueError: the catalogue was not indexed since weights changed, or a history holds what is no item index.
        """
        histories = index_lists(histories)
        items, item_vectors = self.catalogue_items(), self.id_encoder.item_vectors()
        scores = np.empty((len(histories), len(items)), dtype=np.float32)
        for rows, represented, vectors in self.represent_histories(histories, batch_size, users):
            items = items.to(represented.device)
            some = self.combine_all(represented, items, vectors, item_vectors)
            scores[rows] = some.float().cpu().numpy()
        return scores

    def scorer(self) -> Callable[..., np.ndarray] | RowScorer:
        """
        `score_histories` as an evaluation calls it: with users, where the ID encoder has a table of them. Where other
        processes hold parts of the item representations, a [`RowScorer`].
        """
        if self.has_rows_elsewhere:
            return RowScorer(self, PartialState())

        def score(
            histories: Sequence[Sequence[int] | np.ndarray], users: Sequence[int] | np.ndarray | None = None
        ) -> np.ndarray:
            return self.score_histories(histories, users=users)

        score.takes_users = self.id_encoder.takes_users
        return score

    @torch.no_grad()
    def represent_users(
        self,
        histories: Sequence[Sequence[int] | np.ndarray],
        batch_size: int = 16,
        progress: bool = False,
        users: Sequence[int] | None = None,
        process: PartialState | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Representations `(n, width)` and the ID encoder's vectors `(n, interests, id_dim)` of histories of item
        indices; `combine` makes scores of them. `users` as in `score_histories`, `process` as in `index_catalogue`."""
        histories = index_lists(histories)
        states: list[Tensor] = [None] * len(histories)
        vectors: list[Tensor] = [None] * len(histories)
        parts = []
        with tqdm(desc="Reading histories", unit="user", disable=not (progress and speaks(process))) as bar:
            for part in self.represent_histories(histories, batch_size, users, process):
                parts.append(part)
                bar.update(len(part[0]))
        for rows, some_states, some_vectors in collected(parts, process):
            for place, row in enumerate(rows):
                states[row], vectors[row] = some_states[place], some_vectors[place]
        return torch.stack(states), torch.stack(vectors)

    # A text is a sequence of texts, too; it is refused
    @overload
    def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        exclude_seen: bool = True,
        batch_size: int = 16,
        user_ids: str | Sequence[str | None] | None = None,
    ) -> Recommendation: ...

    @overload
    def recommend(
        self,
        history: Sequence[Sequence[str]],
        k: int = 10,
        exclude_seen: bool = True,
        batch_size: int = 16,
        user_ids: Sequence[str | None] | None = None,
    ) -> list[Recommendation]: ...

    def recommend(
        self,
        history: Sequence[str] | Sequence[Sequence[str]],
        k: int = 10,
        exclude_seen: bool = True,
        batch_size: int = 16,
        user_ids: str | Sequence[str | None] | None = None,
    ) -> Recommendation | list[Recommendation]:
        """
        Recommends the next items.

        Args:
            history (`list[str]` or `list[list[str]]`): item ids, oldest first; one history or many. The users need not
                have been seen before. An empty history is answered too, from what the model knows of an unknown user.
            k (`int`): how many; a k above the number of items left gives all of them.
            exclude_seen (`bool`): leave out the items of the history.
            user_ids (`str` or `list[str]`, *optional*): whose histories they are, for an ID encoder with a table of
                user vectors. A user without one there is, like a new one and like `None`, the mean of the history; how
                many are, is logged at level info.

        Returns:
            A [`Recommendation`] for one history, a list of them for many.

        Raises:
            ValueError: what is no history or no list of them, item ids that are not in the catalogue, `k` or
                `batch_size` that is no whole number of at least 1, another number of user ids than of histories, or
                user ids for an ID encoder that has no user vectors.
        """
        given, many = as_histories(history)
        k, batch_size = whole_number(k, "k"), whole_number(batch_size, "batch_size")
        exclude_seen = yes_or_no(exclude_seen, "exclude_seen")
        histories = [self._need_processor().item_indices(h) for h in given]
        users = self._known_users(user_ids if many or user_ids is None else [user_ids], len(histories))
        items, item_vectors = self.catalogue_items(), self.id_encoder.item_vectors()
        answers: list[Recommendation] = [None] * len(histories)
        for rows, states, vectors in self.represent_histories(histories, batch_size, users):
            seen = [histories[row] for row in rows] if exclude_seen else None
            items = items.to(states.device)
            values, chosen = self._best(states, vectors, items, item_vectors, k, seen)
            for row, some_values, some_items in zip(rows, values.tolist(), chosen.tolist(), strict=True):
                answers[row] = self._told(some_values, some_items, histories[row] if exclude_seen else ())
        return answers if many else answers[0]

    def _told(self, values: list[float], items: list[int], seen: Sequence[int]) -> Recommendation:
        """The best items in words; those of score -inf at the end, who have been seen, left out."""
        left = len(self.processor.item_ids) - len(set(seen))
        best = items[:left]
        return Recommendation(
            [self.processor.item_ids[i] for i in best], [self.processor.titles[i] for i in best], values[:left]
        )

    @torch.no_grad()
    def _best(
        self, states: Tensor, vectors: Tensor, items: Tensor, item_vectors: Tensor, k: int, seen: Any
    ) -> tuple[Tensor, Tensor]:
        """The best `k` items of each user, on the users' device, a piece of the catalogue at a time."""

        def score(users: slice, part: slice) -> Tensor:
            return self.combine_all(states[users], items[part], vectors[users], item_vectors[part], n_items)

        n_items = len(items)
        return best_items(score, len(states), n_items, k, seen, whole_pieces_of=piece_size(n_items))

    def _known_users(self, user_ids: Sequence[str | None] | None, n_histories: int) -> list[int] | None:
        if user_ids is None:
            return None
        if not self.id_encoder.takes_users:
            raise ValueError("This model's ID encoder has no user vectors; leave out `user_ids`.")
        user_ids = user_ids.tolist() if hasattr(user_ids, "tolist") else user_ids
        if not isinstance(user_ids, (list, tuple)) or len(user_ids) != n_histories:
            raise ValueError(f"Expected {n_histories} user ids, one for each history, got {shown(user_ids)}.")
        named = [user for user in user_ids if user is not None]
        rows = iter(self.id_encoder.user_indices(named).tolist() if named else [])
        users = [-1 if user is None else next(rows) for user in user_ids]
        if unknown := [user for user, row in zip(user_ids, users, strict=True) if row < 0]:
            logger.info("%d of %d users have no vector, the first: %s.", len(unknown), len(users), unknown[:5])
        return users


__all__ = ["Recommendation", "RecommendationMixin", "recommendations_to_frame"]
