"""Item vectors of any other recommender as an ID encoder: nothing is trained, a user is the mean of the history."""

# No `from __future__ import annotations` here: `strict` checks a field only where its annotation is a type, not a
# string.

from collections.abc import Sequence

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor

from .id_encoder import IDEncoderConfig, IDEncoderModel, catalogue_digest


@strict
class ItemVectorsConfig(IDEncoderConfig):
    """
    Fields of [`IDEncoderConfig`], and

    Args:
        recency_decay (`float`): weight of an item relative to the next more recent one in a user's mean.
    """

    model_type = "rarec_item_vectors"

    max_history: int = 50
    dropout: float | int = 0.0
    recency_decay: float | int = 0.9

    def validate_decay(self):
        if not 0 < self.recency_decay <= 1:
            raise ValueError(f"Expected 0 < `recency_decay` <= 1, got {self.recency_decay}.")


class ItemVectorsModel(IDEncoderModel):
    """
    Item vectors from elsewhere; a user, new ones included, is the recency-weighted mean of the history's.

    Made by `from_vectors`.
    """

    config_class = ItemVectorsConfig
    base_model_prefix = "item_vectors"

    def __init__(self, config: ItemVectorsConfig):
        super().__init__(config)
        self.post_init()

    @classmethod
    def from_vectors(
        cls,
        item_ids: Sequence[str],
        item_vectors: np.ndarray | Tensor,
        catalogue_ids: Sequence[str] | None = None,
        **config,
    ):
        """
        Args:
            item_ids (`list[str]`): ids of the rows of `item_vectors`, in any order; compared as strings.
            item_vectors (`np.ndarray` or `torch.Tensor` of shape `(n, width)`): finite, none of them all zeros.
            catalogue_ids (`list[str]`, *optional*): the ids that are wanted, in catalogue order; rows of others are
                left out. All rows in their own order if not given.
            config: further fields of [`ItemVectorsConfig`].

        Raises:
            ValueError: ids are missing, or stand twice, rows and ids differ in number, or vectors are not finite, zero
                or not of one width. The first few ids are named.
        """
        ids = [str(item) for item in item_ids]
        vectors = torch.as_tensor(np.asarray(item_vectors) if not isinstance(item_vectors, Tensor) else item_vectors)
        if vectors.dim() != 2 or len(vectors) != len(ids) or not vectors.shape[1]:
            raise ValueError(f"Expected vectors of shape ({len(ids)}, width), got {tuple(vectors.shape)}.")
        if not vectors.is_floating_point():
            raise ValueError(f"Expected vectors of floating-point numbers, got {vectors.dtype}.")
        vectors, rows = vectors.float(), {item: row for row, item in enumerate(ids)}
        if len(rows) != len(ids):
            twice = sorted({item for row, item in enumerate(ids) if rows[item] != row})
            raise ValueError(f"{len(twice)} item ids stand more than once, the first: {twice[:5]}.")
        wanted = ids if catalogue_ids is None else [str(item) for item in catalogue_ids]
        if missing := [item for item in wanted if item not in rows]:
            raise ValueError(
                f"{len(missing)} of {len(wanted)} items of the catalogue have no vector, the first: {missing[:5]}. "
                f"Ids of the vectors look like {ids[:3]}. Give these items a vector, or leave them out of the data."
            )
        vectors = vectors[[rows[item] for item in wanted]]
        for problem, bad in (
            ("not finite", ~torch.isfinite(vectors).all(1)),
            ("all zeros", vectors.abs().amax(1) == 0),
        ):
            if bool(bad.any()):
                named = [wanted[row] for row in bad.nonzero().flatten()[:5].tolist()]
                raise ValueError(f"The vectors of {int(bad.sum())} items are {problem}, the first: {named}.")
        sizes = {"n_items": len(wanted), "hidden_size": vectors.shape[1]}
        model = cls(ItemVectorsConfig(**sizes, **{"catalogue": catalogue_digest(wanted), **config}))
        with torch.no_grad():
            model.item_embeddings.weight.copy_(vectors)
        return model.eval()

    def position_vectors(self, history: Tensor) -> Tensor:
        embedded, length = self.embedded(history), history.shape[1]
        age = torch.arange(length, device=history.device).unsqueeze(1) - torch.arange(length, device=history.device)
        weights = torch.where(age >= 0, float(self.config.recency_decay) ** age.clamp(min=0), 0.0)
        return (weights / weights.sum(1, keepdim=True) @ embedded).unsqueeze(2)


__all__ = ["ItemVectorsConfig", "ItemVectorsModel"]
