"""What attends to what: one description of blocks, one mask rule, one way to fill the cache.

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

All of them are `run_backbone(..., past=[segments])`. Sliding windows never hide a soft prompt: a query of its group
always sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import create_causal_mask

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
    def soft_prompts(cls, batch: int, length: int, start: int | Tensor, device, group: int = 0) -> Columns:
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

    @classmethod
    def cat(cls, parts: Sequence[Columns]) -> Columns:
        return cls(*(torch.cat([getattr(p, f) for p in parts], 1) for f in cls.__dataclass_fields__))


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


@dataclass
class Segment:
    """Columns with their keys and values: `layers[i] = (K, V)`, K `(batch, heads_i, n, key_dim_i)`, V `(batch,
    heads_i, n, value_dim_i)`."""

    columns: Columns
    layers: dict[int, tuple[Tensor, Tensor]]


class ReadOnlyLayer(DynamicLayer):
    """
    A cache layer that shows given keys and values before the new ones and stores nothing.

    An ordinary layer appends at every call: it would append twice when activation checkpointing recomputes a block,
        and a cache could not
    be used for two forwards. Keys and values may carry gradients and are cast to the backbone's dtype and device at
    the boundary.
    """

    def __init__(self, parts: Sequence[tuple[Tensor, Tensor]], keep: bool = False):
        super().__init__()
        self.parts, self.keep, self.new = list(parts), keep, None
        self.length = sum(key.shape[-2] for key, _ in self.parts)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if self.keep:
            self.new = (key_states, value_states)
        keys = torch.cat([*(k.to(key_states) for k, _ in self.parts), key_states], -2)
        values = torch.cat([*(v.to(value_states) for _, v in self.parts), value_states], -2)
        return keys, values

    def get_seq_length(self) -> int:
        return self.length


@dataclass(frozen=True)
class LayerShape:
    """Heads, key width and value width of one cache layer (MLA backbones have different key and value widths)."""

    heads: int
    key_dim: int
    value_dim: int


@dataclass(frozen=True)
class BackboneSpec:
    """
    What was measured on a backbone at construction.

    Args:
        shapes: one `LayerShape` a cache layer.
        windows: `{layer type: Window or None}`; the single key `None` where the backbone makes one mask for all
            layers.
        position_offset: what a position id starts at (RoBERTa types: `padding_idx + 1`).
        max_positions: longest sequence that the backbone's position embedding carries, or None.
    """

    shapes: tuple[LayerShape, ...]
    windows: tuple[tuple[str | None, Window | None], ...]
    position_offset: int
    max_positions: int | None

    def window_matters(self, longest: int) -> bool:
        return any(w is not None and w.size < longest for _, w in self.windows)


def run_backbone(
    base: nn.Module,
    spec: BackboneSpec,
    input_ids: Tensor,
    columns: Columns,
    past: Sequence[Segment] = (),
    keep: bool = False,
) -> tuple[Tensor, Segment | None]:
    """
    One pass of the backbone over tokens `(batch, n)` described by `columns`, reading the `past` segments.

    Args:
        base (`nn.Module`): the backbone without its head, see `base_model_of`.
        past: what stands in the cache, in order. Gradients flow into its keys and values; it is not changed.
        keep (`bool`): also return the tokens' own keys and values, to be read by a later pass.

    Returns:
        States of the last layer `(batch, n, hidden)`, and the kept `Segment` or None.

    Raises:
        ValueError: widths of ids and columns differ, a segment lacks a layer, or the sequence is longer than the
            backbone carries.
    """
    if input_ids.shape != columns.real.shape:
        raise ValueError(
            f"Expected columns of shape {tuple(input_ids.shape)} as the token ids, got {tuple(columns.real.shape)}."
        )
    for segment in past:
        if len(segment.layers) != len(spec.shapes):
            raise ValueError(
                f"A segment holds {len(segment.layers)} cache layers, the backbone has {len(spec.shapes)}."
            )
    # The cache is made without a config on purpose: windowed cache layers would forget what lies outside their window.
    cache = DynamicCache()
    cache.layers = [ReadOnlyLayer([s.layers[i] for s in past], keep) for i in range(len(spec.shapes))]
    cache.layer_class_to_replicate = None
    keys = Columns.cat([*(s.columns for s in past), columns])
    if spec.max_positions is not None and len(keys) > spec.max_positions:
        highest = int(columns.position.max()) + 1
        if highest > spec.max_positions:
            raise ValueError(
                f"{highest} positions (text and soft prompts) exceed the {spec.max_positions} that the backbone "
                "carries. Lower `max_text_tokens` or the number of soft prompts."
            )
    output = base(
        input_ids=input_ids,
        attention_mask=_attention_mask(base, spec, columns, keys, cache),
        position_ids=columns.position + spec.position_offset,
        past_key_values=cache,
        use_cache=True,
    )
    kept = Segment(columns, {i: layer.new for i, layer in enumerate(cache.layers)}) if keep else None
    return output.last_hidden_state, kept


def _attention_mask(base: nn.Module, spec: BackboneSpec, columns: Columns, keys: Columns, cache: DynamicCache):
    """A 2D padding mask where the causal order of columns says it all, else the rule, one mask a layer type."""
    padding = keys.real.long()
    text_end = (keys.order + 1).masked_fill((keys.kind != TEXT) | ~keys.real, 0).amax(1, keepdim=True)
    stops_early = (columns.kind == READOUT) & (columns.reads_until < text_end)
    if not spec.window_matters(len(keys)) and not bool((keys.group > 0).any() | stops_early.any()):
        return padding
    config = base.config.get_text_config(decoder=True)
    offset = len(keys) - len(columns)
    shape_and_dtype = torch.empty(*columns.real.shape, 1, dtype=base.dtype, device=columns.real.device)

    def mask_for(window: Window | None):
        visible = visibility(columns, keys, window)

        def rule(batch, head, query, key):
            return visible[batch, query - offset, key]

        # (causal | rule) & rule = rule, while dtype, attention backend and padding stay the library's business
        return create_causal_mask(
            config, shape_and_dtype, padding, cache, or_mask_function=rule, and_mask_function=rule
        )

    masks = {layer_type: mask_for(window) for layer_type, window in spec.windows}
    return masks[None] if None in masks else masks


__all__ = [
    "READOUT",
    "SOFT_PROMPT",
    "TEXT",
    "BackboneSpec",
    "Columns",
    "LayerShape",
    "ReadOnlyLayer",
    "Segment",
    "Window",
    "run_backbone",
    "visibility",
]
