"""The item side of every score, whole or spread by rows over processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .backbone_fingerprint import InParts
from .catalogue_rows import RowsElsewhereError, in_turn, rows_held, rows_of_all
from .model_parts import ModelParts
from .processes import PartialState, several


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

        tensors = {name: getattr(kept, name) for name in ("items", "keys")}
        return {n: _in_parts(held, rows, n_items, process) for n, held in tensors.items() if held is not None}

    def own_weights_in_parts(self, process: PartialState | None) -> dict[str, Tensor | InParts]:
        """`own_weights`, where the ID encoder's tables are spread too: these in pieces that come to every process. All
        of them must go through all pieces."""
        encoder = self.id_encoder
        weights: dict[str, Tensor | InParts] = dict(self.own_weights())
        if (rows := encoder.rows) is not None:
            for name in (f"id_encoder.{table}" for table in encoder.item_tables):
                if isinstance(held := weights.get(name), Tensor):
                    weights[name] = _in_parts(held, rows, encoder.config.n_items, process)
        return weights

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

    def spread_id_encoder(self, process: PartialState) -> None:
        """
        Drops the rows of the ID encoder's tables that other processes hold, as `from_pretrained(by_rows_of=)` does.
        For a catalogue that is indexed by rows; every process must call it. The model can neither be trained nor
        saved from then on.
        """
        if several(process):
            self.id_encoder.keep_rows(rows_held(self.config.id_encoder_config.n_items, process))

    def take_part(self) -> None:
        """What a process without a history does while others represent theirs, where the catalogue is spread."""
        self.id_encoder.take_part()
        if self.has_rows_elsewhere and self.score_head.uses_text and self.config.pooled_history:
            rows_of_all(self._catalogue.texts, self._catalogue.rows, torch.empty(0, dtype=torch.long), PartialState())


def _in_parts(held: Tensor, rows: range, n_items: int, process: PartialState | None) -> InParts:
    return InParts((n_items, *held.shape[1:]), held.dtype, partial(in_turn, held, rows, n_items, process))


__all__ = ["Catalogue", "RowsElsewhereError", "SpreadCatalogueMixin"]
