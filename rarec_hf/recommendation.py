"""Item representations of a whole catalogue, and `recommend()`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers.utils import logging

from .attention_layout import Columns
from .backbone_pass import run_backbone

logger = logging.get_logger(__name__)


@dataclass
class Recommendation:
    """Ranked items for one history: `item_ids`, `titles` and `scores`, best first."""

    item_ids: list[str]
    titles: list[str]
    scores: list[float]

    def __len__(self) -> int:
        return len(self.item_ids)

    def __iter__(self) -> Iterator[tuple[str, str, float]]:
        return zip(self.item_ids, self.titles, self.scores, strict=True)


@dataclass
class Catalogue:
    """
    The item side of every score, computed once.

    Args:
        texts (`torch.FloatTensor` of shape `(n_items, text_dim)`, *optional*): what histories are pooled from; rows
            not computed are NaN.
        items (`torch.FloatTensor` of shape `(n_items, width)`, *optional*): representations; None until the whole
            catalogue was encoded.
    """

    texts: Tensor | None = None
    items: Tensor | None = None


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> list[np.ndarray]:
    """Batches of positions with like lengths, longest first so that memory shows its peak at once."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def recency_pooled(vectors: Tensor, history: Tensor, latest: int, decay: float) -> Tensor:
    """
    The mean of the `latest` items' vectors, each weighing `decay` times the next more recent one.

    Args:
        vectors (`torch.FloatTensor` of shape `(n_items, width)`): of the catalogue.
        history (`torch.LongTensor` of shape `(batch, length)`): item indices, oldest first, right-padded with -1.

    Returns:
        `(batch, width)`, of length 1; zeros for an empty history.
    """
    age = (history >= 0).sum(1, keepdim=True) - 1 - torch.arange(history.shape[1], device=history.device)  # 0: latest
    used = (age >= 0) & (age < latest)
    weights = torch.where(used, decay ** age.clamp(min=0).float(), 0.0)
    chosen = vectors.to(history.device)[history.clamp(min=0)].masked_fill(~used.unsqueeze(-1), 0.0)
    return torch.nn.functional.normalize((chosen * weights.unsqueeze(-1)).sum(1), dim=-1)


class RecommendationMixin:
    """Catalogue and recommendation methods of `RARecForSequentialRecommendation`."""

    def forget_representations(self) -> None:
        """Drops item representations, which no longer fit once weights changed; the frozen LLM's text vectors stay."""
        if self._catalogue is not None:
            self._catalogue.items = None

    def _inputs_to_device(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        device = self.get_input_embeddings().weight.device
        return {name: value.to(device) for name, value in inputs.items()}

    def _need_processor(self):
        if self.processor is None:
            raise ValueError("The model has no processor. Set `model.processor`, or load a folder that holds one.")
        if len(self.processor.item_ids) != self.config.id_encoder_config.n_items:
            raise ValueError(
                f"The processor's item table has {len(self.processor.item_ids)} items, the ID encoder "
                f"{self.config.id_encoder_config.n_items}. They must be of one catalogue."
            )
        return self.processor

    @torch.no_grad()
    def encode_texts(self, indices: Sequence[int], batch_size: int = 64, progress: bool = True) -> Tensor:
        """Mean text states `(n, hidden_size)` that the frozen LLM gives of items' texts alone, no soft prompts."""
        processor, rows = self._need_processor(), []
        lengths = processor.item_lengths()
        states = torch.empty(len(indices), self.config.text_config.get_text_config(decoder=True).hidden_size)
        batches = length_sorted_batches([lengths[i] for i in indices], batch_size)
        for rows in tqdm(batches, desc="Reading item texts", unit="batch", disable=not progress):
            inputs = self._inputs_to_device(processor.item_inputs([indices[r] for r in rows]))
            ids, mask = inputs["item_text_ids"], inputs["item_text_mask"]
            hidden, _ = run_backbone(self.backbone, self.spec, ids, Columns.text(mask))
            states[rows] = ((hidden.float() * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)).cpu()
        return states

    @torch.no_grad()
    def prepare_texts(self, indices: Sequence[int], batch_size: int = 64, progress: bool = True) -> None:
        """
        Reads the texts of these items once, fits the score's whitening on them and keeps their text vectors: all that
        training needs of the items in its histories. Does nothing for a score that pools no text.
        """
        if not self.score_head.uses_text:
            return
        indices = sorted({int(i) for i in indices})
        states = self.encode_texts(indices, batch_size, progress).to(self.score_head.text_mean.device)
        self.score_head.fit_whitening(states)
        texts = states.new_full((self.config.id_encoder_config.n_items, self.score_head.text_dim), float("nan"))
        texts[indices] = self.score_head.text(states)
        self._catalogue = Catalogue(texts)

    def catalogue_of(self, items: Tensor) -> Catalogue:
        """A catalogue from item representations `(n_items, width)`, whose first columns are the text vectors where the
        score has them."""
        return Catalogue(items[:, : self.score_head.text_dim] if self.score_head.uses_text else None, items)

    def catalogue_texts(self) -> Tensor:
        """Text vectors `(n_items, text_dim)` of the whole catalogue."""
        if self._catalogue is None or self._catalogue.items is None or self._catalogue.texts is None:
            raise ValueError("The catalogue's text vectors are not there. Call `model.index_catalogue()` first.")
        return self._catalogue.texts

    def pooled_text(self, history: Tensor) -> Tensor:
        """
        The recency-weighted mean `(batch, text_dim)` of the text vectors of the latest `pooled_history` items, each
        weighing `pooling_decay` times the next more recent one; of length 1, zeros for an empty history.
        """
        head = self.score_head
        if self.config.pooled_history == 0:
            return torch.zeros(len(history), head.text_dim, device=history.device)
        if self._catalogue is None or self._catalogue.texts is None:
            raise ValueError(
                "The items' text vectors are not there. Call `model.prepare_texts(...)` or `model.index_catalogue()`."
            )
        texts = recency_pooled(self._catalogue.texts, history, self.config.pooled_history, self.config.pooling_decay)
        if bool(texts.isnan().any()):
            raise ValueError("Some items of the histories have no text vector yet. Give them all to `prepare_texts`.")
        return texts

    @torch.no_grad()
    def index_catalogue(self, batch_size: int = 64, progress: bool = True) -> None:
        """Computes the representation of every item of the catalogue through the LLM; needed once after training."""
        processor, was_training = self._need_processor(), self.training
        self.eval()
        vectors = self.id_encoder.item_vectors()
        n_items, wants_text = len(processor.item_ids), self.score_head.uses_text
        items = torch.empty(n_items, self.score_head.width)
        batches = length_sorted_batches(processor.item_lengths(), batch_size)
        for rows in tqdm(batches, desc="Encoding the catalogue", unit="batch", disable=not progress):
            inputs = self._inputs_to_device(processor.item_inputs(rows))
            ids, mask = inputs["item_text_ids"], inputs["item_text_mask"]
            id_vectors = vectors[inputs["items"].to(vectors.device)].unsqueeze(1).to(ids.device)
            reading = self.read("item", ids, mask, inputs["item_readout_ids"], id_vectors, wants_text)
            text = self.score_head.text(reading.text_state) if wants_text else None
            items[rows] = self.score_head.item(reading.state, text).cpu()
        self._catalogue = self.catalogue_of(items)
        self.train(was_training)

    @torch.no_grad()
    def score_histories(
        self, histories: Sequence[Sequence[int]], batch_size: int = 16, users: Sequence[int] | None = None
    ) -> np.ndarray:
        """
        Scores of the whole catalogue, `(n, n_items)` float32, for histories of item indices.

        Args:
            users (`list[int]`, *optional*): user indices, -1 for an unknown user; see `user_inputs` of
                [`RARecProcessor`].

        Raises:
            ValueError: the catalogue was not indexed since weights changed.
        """
        processor = self._need_processor()
        if self._catalogue is None or self._catalogue.items is None:
            raise ValueError(
                "Item representations are missing or older than the weights. Call `model.index_catalogue()` first."
            )
        scores = np.empty((len(histories), len(processor.item_ids)), dtype=np.float32)
        item_vectors = self.id_encoder.item_vectors()
        for rows, represented, vectors in self._represented(histories, batch_size, users):
            items = self._catalogue.items.to(represented.device)
            scores[rows] = self.combine(represented, items, vectors, item_vectors).float().cpu().numpy()
        return scores

    def scorer(self) -> Callable[..., np.ndarray]:
        """`score_histories` as an evaluation calls it: with users, where the ID encoder has a table of them."""

        def score(histories: Sequence[Sequence[int]], users: Sequence[int] | None = None) -> np.ndarray:
            return self.score_histories(histories, users=users)

        score.takes_users = self.id_encoder.takes_users
        return score

    @torch.no_grad()
    def represent_users(
        self,
        histories: Sequence[Sequence[int]],
        batch_size: int = 16,
        progress: bool = False,
        users: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Representations `(n, width)` and the ID encoder's vectors `(n, interests, id_dim)` of histories of item
        indices; `combine` makes scores of them. `users` as in `score_histories`."""
        states: list[Tensor] = [None] * len(histories)
        vectors: list[Tensor] = [None] * len(histories)
        bar = tqdm(total=len(histories), desc="Reading histories", unit="user", disable=not progress)
        for rows, some_states, some_vectors in self._represented(histories, batch_size, users):
            for place, row in enumerate(rows):
                states[row], vectors[row] = some_states[place], some_vectors[place]
            bar.update(len(rows))
        bar.close()
        return torch.stack(states), torch.stack(vectors)

    def _represented(self, histories, batch_size: int, users=None) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        processor, was_training = self._need_processor(), self.training
        self.eval()
        limit = self.config.id_encoder_config.max_history
        for rows in length_sorted_batches([len(h) for h in histories], batch_size):
            of_rows = None if users is None else [users[r] for r in rows]
            inputs = self._inputs_to_device(processor.user_inputs([histories[r] for r in rows], limit, of_rows))
            history = inputs["history"]
            vectors = self.id_encoder.user_vectors(history, inputs.get("users"))
            state = self.read(
                "user", inputs["user_text_ids"], inputs["user_text_mask"], inputs["user_readout_ids"], vectors
            ).state
            pooled = self.pooled_text(history) if self.score_head.uses_text else None
            yield rows, self.score_head.user(state, pooled), vectors
        self.train(was_training)

    def recommend(
        self,
        history: Sequence[str] | Sequence[Sequence[str]],
        k: int = 10,
        exclude_seen: bool = True,
        batch_size: int = 16,
        user_ids: str | Sequence[str] | None = None,
    ) -> Recommendation | list[Recommendation]:
        """
        Recommends the next items.

        Args:
            history (`list[str]` or `list[list[str]]`): item ids, oldest first; one history or many. The users need not
                have been seen before. An empty history is answered too, from what the model knows of an unknown user.
            k (`int`): how many; a k above the number of items left gives all of them.
            exclude_seen (`bool`): leave out the items of the history.
            user_ids (`str` or `list[str]`, *optional*): whose histories they are, for an ID encoder with a table of
                user vectors. A user without one there is, like a new one, the mean of the history; how many are, is
                logged at level info.

        Returns:
            A [`Recommendation`] for one history, a list of them for many.

        Raises:
            ValueError: item ids that are not in the catalogue, k below 1, another number of user ids than of
                histories, or user ids for an ID encoder that has no user vectors.
        """
        if isinstance(history, str):
            raise ValueError(f"Expected a list of item ids, got the string {history!r}. Put it into a list.")
        if k < 1:
            raise ValueError(f"`k` must be at least 1, got {k}.")
        many = len(history) > 0 and not isinstance(history[0], (str, int, np.integer))
        processor = self._need_processor()
        histories = [processor.item_indices(h) for h in (history if many else [history])]
        users = self._known_users(user_ids if many or user_ids is None else [user_ids], len(histories))
        answers = []
        for start in range(0, len(histories), batch_size):
            part = histories[start : start + batch_size]
            of_part = None if users is None else users[start : start + batch_size]
            for seen, scores in zip(part, self.score_histories(part, batch_size, of_part), strict=True):
                if exclude_seen:
                    scores[seen] = -np.inf
                best = np.argsort(-scores, kind="stable")[
                    : min(k, len(scores) - (len(set(seen)) if exclude_seen else 0))
                ]
                answers.append(
                    Recommendation(
                        [processor.item_ids[i] for i in best],
                        [processor.titles[i] for i in best],
                        [float(scores[i]) for i in best],
                    )
                )
        return answers if many else answers[0]

    def _known_users(self, user_ids: Sequence[str] | None, n_histories: int) -> list[int] | None:
        if user_ids is None:
            return None
        if not self.id_encoder.takes_users:
            raise ValueError("This model's ID encoder has no user vectors; leave out `user_ids`.")
        if len(user_ids) != n_histories:
            raise ValueError(f"Expected {n_histories} user ids, one for each history, got {user_ids!r:.100}.")
        users = self.id_encoder.user_indices(user_ids).tolist()
        if unknown := [user for user, row in zip(user_ids, users, strict=True) if row < 0]:
            logger.info("%d of %d users have no vector, the first: %s.", len(unknown), len(users), unknown[:5])
        return users


__all__ = ["Catalogue", "Recommendation", "RecommendationMixin", "recency_pooled"]
