"""
ID vectors -> keys and values for every layer of the backbone (RA-Rec, arXiv 2402.04527, section on ID representation
alignment).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attention_layout import Columns
from .backbone_cache import LayerShape
from .segments import Segment


@dataclass
class SoftPrompts:
    """
    Soft prompts of a batch.

    Args:
        layers (`dict[int, tuple[Tensor, Tensor]]`): per cache layer K `(batch, heads, length, key_dim)` and V `(batch,
            heads, length, value_dim)`.
        pooled_values (`list[Tensor]`, *optional*): per layer, the mean of the projected values `(batch, heads *
            value_dim)` without the contextual instruction; what the alignment loss compares with the text. None where
            no ID vectors are used.
    """

    layers: dict[int, tuple[Tensor, Tensor]]
    pooled_values: list[Tensor] | None

    def segment(self, start: int | Tensor, group: int = 0) -> Segment:
        """As a segment of the cache whose positions begin at `start`."""
        keys, _ = next(iter(self.layers.values()))
        return Segment(Columns.soft_prompts(keys.shape[0], keys.shape[2], start, keys.device, group), self.layers)

    def segment_of_groups(self, table: Tensor, starts: Tensor, used: Tensor) -> Segment:
        """
        Several sets a row, each seen by readouts of its own group only: group g of row r (from 1) is the set
        `table[r, g - 1]`.

        Args:
            table, starts (`torch.LongTensor` of shape `(rows, groups)`): which set, and its first position.
            used (`torch.BoolTensor` of the same shape): False where there is none.
        """
        n_rows, n_groups = table.shape
        groups = []
        for group in range(n_groups):
            columns = Columns.soft_prompts(n_rows, len(self), starts[:, group], table.device, group + 1)
            columns.real = columns.real & used[:, group : group + 1]
            groups.append(columns)
        layers = {
            index: tuple(part[table].transpose(1, 2).flatten(2, 3) for part in pair)
            for index, pair in self.layers.items()
        }
        return Segment(Columns.cat(groups), layers)

    def __len__(self) -> int:
        """Soft prompts a row."""
        return next(iter(self.layers.values()))[0].shape[2]

    def rows(self, rows: Tensor) -> SoftPrompts:
        """Those of some rows of the batch."""
        layers = {index: (keys[rows], values[rows]) for index, (keys, values) in self.layers.items()}
        return SoftPrompts(layers, None if self.pooled_values is None else [v[rows] for v in self.pooled_values])


class SoftPromptGenerator(nn.Module):
    """
    Reparameterization `p^l = W^l v + b^l` and contextual instruction `c^l`, for one side (user or item).

    In layer l the soft prompt is `[c^l ; p^l]`: `context_length` learnable vectors shared by all rows, then one vector
    for each ID vector. The matrices of all layers are kept as the rows of one, so that a forward is a single product.

    Args:
        shapes (`dict[int, LayerShape]`): the backbone's cache layers with keys and values, as measured.
        id_dim (`int`): width of the ID vectors, 0 to leave the reparameterization out (plain prefix tuning).
        context_length (`int`): 0 leaves the contextual instruction out.
        layer_specific (`bool`): False shares one projector among all layers (the paper's ablation).
    """

    def __init__(
        self, shapes: Mapping[int, LayerShape], id_dim: int, context_length: int, layer_specific: bool = True
    ) -> None:
        super().__init__()
        if id_dim == 0 and context_length == 0:
            raise ValueError("A soft prompt needs ID vectors, a contextual instruction, or both; got neither.")
        if not layer_specific and len(set(shapes.values())) > 1:
            raise ValueError(
                "One projector for all layers needs equal cache shapes, got "
                f"{sorted(set(map(str, shapes.values())))}. Set `layer_specific_projectors=True`."
            )
        self.shapes, self.layer_specific = dict(shapes), layer_specific
        self.widths = [s.heads * (s.key_dim + s.value_dim) for s in self.shapes.values()]
        projected = sum(self.widths) if layer_specific else self.widths[0]
        self.projector = nn.Linear(id_dim, projected) if id_dim else None
        self.context = nn.Parameter(torch.empty(context_length, sum(self.widths))) if context_length else None

    @property
    def length(self) -> int:
        """Soft prompts a row when one ID vector is given."""
        return (0 if self.context is None else self.context.shape[0]) + (self.projector is not None)

    def forward(self, id_vectors: Tensor) -> SoftPrompts:
        """
        Args:
            id_vectors (`torch.FloatTensor` of shape `(batch, n, id_dim)`): n vectors a row become n soft prompts.
                Ignored, but for the batch size, without a projector.
        """
        parts, projected = [], None
        if self.context is not None:
            parts.append(self.context.unsqueeze(0).expand(id_vectors.shape[0], -1, -1))
        if self.projector is not None:
            projected = self.projector(id_vectors)  # (batch, n, widths of all layers)
            if not self.layer_specific:
                projected = projected.repeat(1, 1, len(self.shapes))
            parts.append(projected)
        layers = dict(zip(self.shapes, self._split(torch.cat(parts, 1)), strict=True))
        pooled = None
        if projected is not None:
            pooled = [values.transpose(1, 2).mean(1).flatten(1) for _, values in self._split(projected)]
        return SoftPrompts(layers, pooled)

    def _split(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """
        `(batch, n, widths of all layers)` -> per layer K `(batch, heads, n, key_dim)`, V `(batch, heads, n,
        value_dim)`.
        """
        pairs = []
        for shape, layer in zip(self.shapes.values(), flat.split(self.widths, -1), strict=True):
            layer = layer.unflatten(-1, (shape.heads, shape.key_dim + shape.value_dim)).transpose(1, 2)
            keys, values = layer.split([shape.key_dim, shape.value_dim], -1)
            pairs.append((keys, values))
        return pairs


__all__ = ["SoftPromptGenerator", "SoftPrompts"]
