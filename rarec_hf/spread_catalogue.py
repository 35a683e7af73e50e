"""The item side of every score, whole or spread by rows over processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .backbone_fingerprint import InParts
from .catalogue_rows import in_turn, rows_of_all
from .model_parts import ModelParts
from .processes import PartialState


@dataclass
class Catalogue:
    """
    The item side of every score, computed once.

    Args:
        texts (`torch.FloatTensor` of shape `(n_items, text_dim)`, *optional*): what histories are pooled from; rows
            not computed are NaN.
        items (`torch.FloatTensor` of shape `(n_items, width)`, *optional*): representations; None until the whole
            catalogue was encoded.
        keys (`torch.ByteTensor` of shape `(n_items, 16)`, *optional*): what each representation was made of.
        rows (`range`, *optional*): which rows of the catalogue the tensors hold, where other processes have the
            others; the tensors then have `len(rows)` rows instead of `n_items`.
    """

    texts: Tensor | None = None
    items: Tensor | None = None
    keys: Tensor | None = None
    rows: range | None = None

    def __repr__(self) -> str:
        tensors = {"texts": self.texts, "items": self.items, "keys": self.keys}
        shapes = {name: None if t is None else tuple(t.shape) for name, t in tensors.items()}
        rows = "" if self.rows is None else f", rows={self.rows}"
        return f"Catalogue({', '.join(f'{name}={shape}' for name, shape in shapes.items())}{rows})"


class RowsElsewhereError(ValueError):
    """Item representations are spread over processes, and what was called needs them whole."""


class SpreadCatalogueMixin(ModelParts):
    """What of a catalogue is in this process, and what comes from the others."""

    @property
    def has_rows_elsewhere(self) -> bool:
        """Whether other processes hold a part of the item representations."""
        return self._catalogue is not None and self._catalogue.rows is not None

    @property
    def rows_here(self) -> range:
        """The rows of the catalogue whose representations this process holds; all of them unless they are spread."""
        return self._catalogue.rows if self.has_rows_elsewhere else range(self.config.id_encoder_config.n_items)

    def catalogue_in_parts(self, process: PartialState | None) -> dict[str, InParts]:
        """What the saved index is of, `items` and `keys`, in pieces that come to every process. All of them must go
        through all pieces."""
        kept, rows, process = self._catalogue, self.rows_here, process if self.has_rows_elsewhere else None
        n_items = self.config.id_encoder_config.n_items

        def whole(held: Tensor) -> InParts:
            parts = partial(in_turn, held, rows, n_items, process)
            return InParts((n_items, *held.shape[1:]), held.dtype, parts)

        return {name: whole(held) for name in ("items", "keys") if (held := getattr(kept, name)) is not None}

    def _need_whole_catalogue(self) -> None:
        if self.has_rows_elsewhere:
            rows = self._catalogue.rows
            raise RowsElsewhereError(
                f"The item representations are spread over processes; this one holds {len(rows)} of "
                f"{self.config.id_encoder_config.n_items}, from row {rows.start}. Expected all of them here: rank "
                "with `rank_targets(model.scorer(), ..., process=...)`, answer with `recommend_together` or "
                "`recommend_to_shards` in every process, or index without `by_rows` (load without `by_rows_of`)."
            )

    def _texts_from_all(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """The text vectors of the items in histories, and the histories as rows of these. Every process must call it:
        [`take_part`] where it has no history."""
        if self.training:
            self._need_whole_catalogue()
        items, places = history.clamp(min=0).unique(return_inverse=True)
        table = rows_of_all(self._catalogue.texts, self._catalogue.rows, items, PartialState())
        return table, places.masked_fill(history < 0, -1)

    def take_part(self) -> None:
        """What a process without a history does while others represent theirs, where the catalogue is spread."""
        if self.has_rows_elsewhere and self.score_head.uses_text and self.config.pooled_history:
            rows_of_all(self._catalogue.texts, self._catalogue.rows, torch.empty(0, dtype=torch.long), PartialState())


__all__ = ["Catalogue", "RowsElsewhereError", "SpreadCatalogueMixin"]
