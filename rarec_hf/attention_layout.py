"""What attends to what: one description of blocks, one mask rule.

A forward pass is described by *columns*. Each column is a text token, a soft prompt or a readout token; it has a
position for the backbone's position embedding, an order (its rank among the tokens of the text line it continues,
which is what sliding windows are measured in) and a group (0: shared by all; g > 0: seen only by queries of group g).
Four layouts are made from these parts:

| layout                       | cache before the pass           | tokens of the pass   |
|------------------------------|---------------------------------|----------------------|
| `before_text` (the paper's)  | soft prompts                    | text, readout        |
| `after_text`                 | text (kept), soft prompts       | readout              |
| every position of a history  | text (kept), soft prompts 1..n  | readouts 1..n        |
| text appended to kept states | text (kept)                     | more text            |

All of them are `run_backbone(..., past=[segments])` of `backbone_pass.py`. Sliding windows never hide a soft prompt: a
query of its group always sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TEXT, SOFT_PROMPT, READOUT = 0, 1, 2


@dataclass
class Columns:
    """
    The columns of a stretch of the sequence, each field of shape `(batch, n)`.

    Args:
        kind: `TEXT`, `SOFT_PROMPT` or `READOUT`.
        position: what the backbone's position embedding is given.
        order: rank among the tokens of the text line, soft prompts not counted; windows are measured in it.
        group: 0 is shared by every query; a soft prompt or readout of group g is seen by queries of group g only.
        reads_until: a query reads text columns whose `order` is below this.
        real: False for padding.
    """

    kind: Tensor
    position: Tensor
    order: Tensor
    group: Tensor
    reads_until: Tensor
    real: Tensor

    def __len__(self) -> int:
        return self.kind.shape[1]

    @classmethod
    def text(cls, mask: Tensor, start: int | Tensor = 0, order_start: int | Tensor = 0) -> Columns:
        """Text tokens from a padding `mask` `(batch, n)`, padded on either side; `start` is the first token's
        position."""
        rank = (mask.long().cumsum(1) - 1).clamp(min=0)
        order = rank + _per_row(order_start, mask)
        return cls._of(TEXT, mask, rank + _per_row(start, mask), order, 0, order + 1)

    @classmethod
    def soft_prompts(
        cls, batch: int, length: int, start: int | Tensor, device: torch.device, group: int = 0
    ) -> Columns:
        """`length` soft prompts a row; they take up positions, as any cache in Transformers does."""
        real = torch.ones(batch, length, dtype=torch.bool, device=device)
        position = torch.arange(length, device=device).expand(batch, -1) + _per_row(start, real)
        return cls._of(SOFT_PROMPT, real, position, torch.zeros_like(position), group, torch.zeros_like(position))

    @classmethod
    def readouts(
        cls,
        mask: Tensor,
        start: int | Tensor,
        order_start: int | Tensor,
        group: int = 0,
        reads_until: Tensor | None = None,
    ) -> Columns:
        """Readout tokens that continue a text line of `order_start` tokens, at positions from `start`."""
        rank = (mask.long().cumsum(1) - 1).clamp(min=0)
        order = rank + _per_row(order_start, mask)
        until = order.new_zeros(order.shape) + _per_row(order_start if reads_until is None else reads_until, mask)
        return cls._of(READOUT, mask, rank + _per_row(start, mask), order, group, until)

    @classmethod
    def _of(cls, kind: int, real: Tensor, position: Tensor, order: Tensor, group: int, reads_until: Tensor) -> Columns:
        full = torch.full_like(position, kind)
        return cls(full, position, order, torch.full_like(position, group), reads_until, real.bool())

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Columns:
        """With every field changed alike."""
        return Columns(*(change(getattr(self, f)) for f in self.__dataclass_fields__))

    def reordered(self, order: Tensor) -> Columns:
        """Columns in the order `(batch, n)`, row by row."""
        return self.mapped(lambda field: field.gather(1, order))

    @classmethod
    def cat(cls, parts: Sequence[Columns], dim: int = 1) -> Columns:
        """One after the other, or with `dim=0` batches one below the other."""
        return cls(*(torch.cat([getattr(p, f) for p in parts], dim) for f in cls.__dataclass_fields__))


def _per_row(value: int | Tensor, like: Tensor) -> Tensor | int:
    return value.reshape(-1, 1).to(like.device) if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class Window:
    """The reach of a windowed layer type, in tokens: `sliding` (the last `size`) or `chunked` (the same block of
    `size`)."""

    kind: str
    size: int

    def reaches(self, query_order: Tensor, key_order: Tensor) -> Tensor:
        if self.kind == "sliding":
            return query_order - key_order < self.size
        return query_order // self.size == key_order // self.size


def visibility(query: Columns, key: Columns, window: Window | None = None) -> Tensor:
    """
    The mask rule: `(batch, n_query, n_key)` bool, True where the query reads the key.

    A key is read if it is real, is shared or belongs to the query's group, and either is a soft prompt, or a token not
    later than the query, within the text that the query reads, and within the layer's window. Padding queries read
    every real key (their states are never used; an empty row would be NaN).
    """

    def q(field: str) -> Tensor:
        return getattr(query, field).unsqueeze(2)

    def k(field: str) -> Tensor:
        return getattr(key, field).unsqueeze(1)

    token = (k("order") <= q("order")) & ((k("kind") != TEXT) | (k("order") < q("reads_until")))
    if window is not None:
        token = token & window.reaches(q("order"), k("order"))
    mine = (k("group") == 0) | (k("group") == q("group"))
    return k("real") & ((mine & ((k("kind") == SOFT_PROMPT) | token)) | ~q("real"))


__all__ = ["READOUT", "SOFT_PROMPT", "TEXT", "Columns", "Window", "visibility"]
