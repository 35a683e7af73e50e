"""Segments: columns with what a backbone keeps of them, to be read by later passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .attention_layout import Columns


@dataclass
class LinearState:
    """States of one layer by their number: `conv[s]` `(batch, channels, kernel)`, `recurrent[s]` of any shape."""

    conv: dict[int, Tensor] = field(default_factory=dict)
    recurrent: dict[int, Tensor] = field(default_factory=dict)


@dataclass
class Segment:
    """
    Columns with what the backbone keeps of them, by cache layer.

    Args:
        layers: `{i: (K, V)}`, K `(batch, heads_i, n, key_dim_i)`, V `(batch, heads_i, n, value_dim_i)`.
        linear: `{i: LinearState}`: what layers of linear attention, convolutions or state spaces remember after these
            columns. Soft prompts have none.
        indexer: `{i: (batch, n, dim_i)}`: keys of sparse attention's indexers; zeros stand for those of soft prompts.
    """

    columns: Columns
    layers: dict[int, tuple[Tensor, Tensor]]
    linear: dict[int, LinearState] = field(default_factory=dict)
    indexer: dict[int, Tensor] = field(default_factory=dict)

    def rows(self, rows: Tensor) -> Segment:
        """Some rows of the batch; a row may be taken more than once."""
        return self._mapped(lambda tensor: tensor[rows])

    def expanded(self, n: int) -> Segment:
        """The only row `n` times, without a copy."""
        return self._mapped(lambda tensor: tensor.expand(n, *tensor.shape[1:]))

    @classmethod
    def joined(cls, segments: Sequence[Segment]) -> Segment:
        """Batches one below the other; shorter ones are padded on the right with columns that nobody sees."""
        if len(segments) == 1:
            return segments[0]
        longest = max(len(segment.columns) for segment in segments)
        parts = [segment._padded(longest) for segment in segments]
        first = parts[0]
        columns = Columns.cat([part.columns for part in parts], dim=0)
        layers = {i: tuple(torch.cat([p.layers[i][n] for p in parts]) for n in (0, 1)) for i in first.layers}
        linear = {
            i: LinearState(
                {n: torch.cat([p.linear[i].conv[n] for p in parts]) for n in state.conv},
                {n: torch.cat([p.linear[i].recurrent[n] for p in parts]) for n in state.recurrent},
            )
            for i, state in first.linear.items()
        }
        return cls(columns, layers, linear, {i: torch.cat([p.indexer[i] for p in parts]) for i in first.indexer})

    def _padded(self, length: int) -> Segment:
        more = length - len(self.columns)
        if more == 0:
            return self
        pad = torch.nn.functional.pad
        columns = self.columns.mapped(lambda field: pad(field, (0, more)))
        layers = {i: (pad(k, (0, 0, 0, more)), pad(v, (0, 0, 0, more))) for i, (k, v) in self.layers.items()}
        return Segment(columns, layers, self.linear, {i: pad(x, (0, 0, 0, more)) for i, x in self.indexer.items()})

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Segment:
        """With a change of rows, which all that a segment holds has first."""

        def states(of: dict[int, Tensor]) -> dict[int, Tensor]:
            return {number: change(tensor) for number, tensor in of.items()}

        return Segment(
            self.columns.mapped(change),
            {i: (change(k), change(v)) for i, (k, v) in self.layers.items()},
            {i: LinearState(states(s.conv), states(s.recurrent)) for i, s in self.linear.items()},
            states(self.indexer),
        )


__all__ = ["LinearState", "Segment"]
