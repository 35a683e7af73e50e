"""What every ID encoder is: item vectors, and vectors of a user after each item of a history."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_id_encoders import IDEncoderConfig
from .objectives import OBJECTIVES, full_cross_entropy
from .spread_tables import SpreadTablesMixin


def catalogue_digest(item_ids: Sequence[str]) -> str:
    """Hash of the item ids in catalogue order: whose vectors an encoder's rows are."""
    return hashlib.sha256("\n".join(item_ids).encode()).hexdigest()


def padded_histories(histories: Sequence[Sequence[int] | np.ndarray], latest: int) -> Tensor:
    """The `latest` item indices of each history, oldest first: `(n, longest >= 1)`, right-padded with -1."""
    recent = [torch.tensor(history[-latest:], dtype=torch.long) for history in histories]
    if not any(len(history) for history in recent):
        return torch.full((len(recent), 1), -1)
    return nn.utils.rnn.pad_sequence(recent, batch_first=True, padding_value=-1)


def change_marks(tensors: Sequence[Tensor]) -> list[tuple] | None:
    """What differs, compared with an earlier one, once any of these tensors was changed, moved or cast; None where
    that cannot be told, as inference tensors do not count their changes."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return [(tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device) for tensor in tensors]


@dataclass
class IDEncoderOutput(ModelOutput):
    """
    Args:
        loss (`torch.FloatTensor`, *optional*): mean over the labels, when they are given.
        user_vectors (`torch.FloatTensor` of shape `(batch, interests, hidden_size)`): otherwise.
    """

    loss: Tensor | None = None
    user_vectors: Tensor | None = None


class IDEncoderModel(SpreadTablesMixin, PreTrainedModel):
    """
    Base of the ID encoders; a subclass gives `position_vectors`.

    Histories are `(batch, length)` item indices, oldest first, padded on the right with -1, so that a causal encoder
    needs no mask for padding.
    """

    config_class = IDEncoderConfig
    main_input_name = "history"
    accepts_loss_kwargs = False
    takes_users = False  # True where there is a table of users, so that `users` says more than the history
    lookup_table: Tensor | None = None  # in training, a second leaf over the table, of sparse gradients

    def __init__(self, config: IDEncoderConfig) -> None:
        super().__init__(config)
        self.item_embeddings = nn.Embedding(config.n_items, config.hidden_size)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.MultiheadAttention):
            init.normal_(module.in_proj_weight, std=self.config.initializer_range)
            init.zeros_(module.in_proj_bias)

    def position_vectors(self, history: Tensor) -> Tensor:
        """Vectors `(batch, length, interests, hidden_size)` of the user after each item, none of a later item."""
        raise NotImplementedError

    def look_up(self, items: Tensor) -> Tensor:
        """Embeddings `(..., hidden_size)` of item indices `(...)`."""
        self.need_whole_tables()
        if self.lookup_table is None:
            return self.item_embeddings(items)
        return nn.functional.embedding(items, self.lookup_table, sparse=True)

    def candidate_vectors(self, items: Tensor) -> Tensor:
        """Vectors `(n, width)` of item indices `(n,)`, as `item_vectors` gives them, for training on some items."""
        return self.look_up(items)

    def prompt_vectors(self, vectors: Tensor) -> Tensor:
        """The part `(..., hidden_size)` of vectors that soft prompts are made of."""
        return vectors

    def training_vectors(self, history: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """
        What is learnt from: vectors `(n, interests, hidden_size)` and the items `(n,)` that each should score highest,
        at every position that has a label.
        """
        labelled = labels != -100
        if not bool(labelled.any()):
            raise ValueError("No label is given (all are -100): a batch needs histories of at least two items.")
        return self.position_vectors(history)[labelled], labels[labelled]

    def embedded(self, history: Tensor) -> Tensor:
        """Item embeddings `(batch, length, hidden_size)` of a checked history; zeros where it is padded."""
        if history.dim() != 2 or history.shape[1] == 0:
            raise ValueError(f"Expected histories of shape (batch, length >= 1), got {tuple(history.shape)}.")
        if history.shape[1] > self.config.max_history:
            raise ValueError(
                f"Histories of {history.shape[1]} items exceed `max_history` ({self.config.max_history}); cut them."
            )
        lowest, highest = int(history.min()), int(history.max())
        if lowest < -1 or highest >= self.config.n_items:
            raise ValueError(
                f"Item indices must be within 0..{self.config.n_items - 1} (-1 pads), got {lowest}..{highest}."
            )
        if bool(((history[:, 1:] >= 0) & (history[:, :-1] < 0)).any()):
            raise ValueError("Histories must be padded on the right: a padding (-1) stands before an item.")
        return self.look_up(history.clamp(min=0)) * (history >= 0).unsqueeze(-1)

    def user_vectors(self, history: Tensor, users: Tensor | None = None) -> Tensor:
        """
        User vectors `(batch, interests, hidden_size)` after the latest item; zeros for an empty history.

        `users` (`torch.LongTensor` of shape `(batch,)`, *optional*): user indices, -1 for a user not known; only an
        encoder with a table of users looks at them.
        """
        length = (history >= 0).sum(1)
        vectors = self.position_vectors(history)
        last = vectors[torch.arange(len(vectors), device=vectors.device), (length - 1).clamp(min=0)]
        return last * (length > 0).view(-1, 1, 1)

    def item_vectors(self, rows: slice | None = None) -> Tensor:
        """Item vectors `(n_items, width)`, or those of some rows; the width is `hidden_size` unless a type says
        otherwise."""
        table = self.item_embeddings.weight
        return table if rows is None and self.rows is None else table[self.held_rows(rows)]

    @torch.no_grad()
    def add_items(self, nearest: Tensor, texts: Tensor) -> None:
        """
        Adds items that are in no history, each where its neighbours are on average.

        Args:
            nearest (`torch.LongTensor` of shape `(n_new, k)`): known items with the most alike texts.
            texts (`torch.FloatTensor` of shape `(n_new, text_dim)`): the new items' text vectors; only an encoder that
                reads texts looks at them.
        """
        self.need_whole_tables()
        table = self.item_embeddings.weight
        vectors = torch.cat([table, table[nearest.to(table.device)].mean(1)])
        self.item_embeddings = nn.Embedding.from_pretrained(vectors, freeze=not table.requires_grad)
        self.config.n_items = len(vectors)

    def scores(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """
        Scores `(batch, n)` of items `(n, hidden_size)` for users `(batch, interests, hidden_size)`: the best interest
        counts.
        """
        return (user_vectors @ item_vectors.T).amax(1)

    def forward(
        self,
        history: Tensor,
        labels: Tensor | None = None,
        negatives: Tensor | None = None,
        log_q: Tensor | None = None,
    ) -> IDEncoderOutput:
        """
        Args:
            history (`torch.LongTensor` of shape `(batch, length)`): item indices, right-padded with -1.
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*): the next item at each position; -100
                where there is none.
            negatives (`torch.LongTensor` of shape `(n,)`, *optional*): item indices drawn for the whole batch; all
                items are negatives otherwise.
            log_q (`torch.FloatTensor` of shape `(n_items,)`, *optional*): log of each item's chance to be drawn, which
                sampled cross-entropy subtracts (Bengio and Senecal, 2008).
        """
        if labels is None:
            return IDEncoderOutput(user_vectors=self.user_vectors(history))
        vectors, targets = self.training_vectors(history, labels)
        vectors = self._of_interest(vectors, targets)
        if negatives is None:
            if self.config.objective != "cross_entropy":
                raise ValueError(
                    f"Objective {self.config.objective!r} needs sampled `negatives`; only 'cross_entropy' runs over "
                    "the full catalogue."
                )
            return IDEncoderOutput(loss=full_cross_entropy(vectors, self.item_vectors(), targets))
        positive = (vectors * self.candidate_vectors(targets)).sum(-1, keepdim=True)
        scores = torch.cat([positive, vectors @ self.candidate_vectors(negatives).T], 1)
        if self.config.weighted_negatives:
            # Each drawn item stands for 1 / (n_drawn * its chance) of the catalogue, the target for itself
            chance = -math.log(self.config.n_items - 1) if log_q is None else log_q[negatives]
            weight = -(chance + math.log(len(negatives)))
            scores = torch.cat([positive, scores[:, 1:] + weight], 1)
        elif log_q is not None:
            chance = torch.cat([log_q[targets].unsqueeze(1), log_q[negatives].expand(len(targets), -1)], 1)
            scores = scores - chance
        allowed = negatives != targets.unsqueeze(1)
        allowed = torch.cat([torch.zeros_like(allowed[:, :1]), allowed], 1)
        rate = len(negatives) / max(1, self.config.n_items - 1)
        loss = OBJECTIVES[self.config.objective](scores, torch.zeros_like(targets), allowed, sampling_rate=rate)
        return IDEncoderOutput(loss=loss)

    def _of_interest(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """The interest `(n, hidden_size)` of `(n, interests, hidden_size)` that scores the target highest (label-aware
        attention with a hard choice; ComiRec, section 3.3)."""
        if vectors.shape[1] == 1:
            return vectors[:, 0]
        best = (vectors * self.look_up(targets).unsqueeze(1)).sum(-1).argmax(1)
        return vectors[torch.arange(len(vectors), device=vectors.device), best]


__all__ = [
    "IDEncoderConfig",
    "IDEncoderModel",
    "IDEncoderOutput",
    "catalogue_digest",
    "change_marks",
    "padded_histories",
]
