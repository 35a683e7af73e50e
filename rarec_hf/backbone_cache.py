"""Cache layers that show a frozen backbone what stands before its tokens, and store nothing of their own.

An ordinary layer appends at every call: it would append twice when activation checkpointing recomputes a block, and a
cache could not be used for two forwards. What is shown may carry gradients and is cast to the backbone's dtype and
device at the boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DummyLayer, DynamicLayer, LinearAttentionLayer

from .attention_layout import Columns
from .segments import LinearState, Segment


@dataclass(frozen=True)
class LayerShape:
    """Heads, key width and value width of one cache layer (MLA backbones have different key and value widths)."""

    heads: int
    key_dim: int
    value_dim: int


@dataclass(frozen=True)
class CacheLayerSpec:
    """
    One layer of a backbone's cache, as measured.

    Args:
        shape: of its keys and values; None where it has none.
        linear_states: how many states of linear attention it keeps; 0 for none.
        indexer_dim: width of its indexer's keys (sparse attention); 0 for none.
        is_dummy: it stands for a block without attention.
    """

    shape: LayerShape | None
    linear_states: int = 0
    indexer_dim: int = 0
    is_dummy: bool = False


class ReadOnlyLayer(DynamicLayer):
    """Shows the `parts` (K, V) before the new keys and values; `keep` remembers the new ones in `new`."""

    def __init__(self, parts: Sequence[tuple[Tensor, Tensor]], keep: bool = False) -> None:
        super().__init__()
        self.parts, self.keep, self.new = list(parts), keep, None
        self.length = sum(key.shape[-2] for key, _ in self.parts)
        self.is_initialized = bool(self.parts)
        if self.parts:  # some backbones ask a layer whether it holds anything
            self.keys, self.values = self.parts[0]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.keep:
            self.new = (key_states, value_states)
        keys = torch.cat([*(k.to(key_states) for k, _ in self.parts), key_states], -2)
        values = torch.cat([*(v.to(value_states) for _, v in self.parts), value_states], -2)
        return keys, values

    def get_seq_length(self) -> int:
        return self.length


class ReadOnlyIndexedLayer(ReadOnlyLayer):
    """With an indexer's keys `index_parts`, each `(batch, n, dim)`."""

    def __init__(
        self, parts: Sequence[tuple[Tensor, Tensor]], index_parts: Sequence[Tensor], keep: bool = False
    ) -> None:
        super().__init__(parts, keep)
        self.index_parts, self.new_index = list(index_parts), None

    def update_indexer(self, indexer_key_states: Tensor) -> Tensor:
        if self.keep:
            self.new_index = indexer_key_states
        return torch.cat([*(part.to(indexer_key_states) for part in self.index_parts), indexer_key_states], 1)


class _Copies(dict):
    """Gives copies of its tensors: some backbones update the states they are given in place."""

    def __getitem__(self, key: int) -> Any:
        value = super().__getitem__(key)
        return value.clone() if isinstance(value, Tensor) else value


class ReadOnlyStates(LinearAttentionLayer):
    """Layers that remember by states instead of keys: begins from `state`, or afresh."""

    def __init__(self, number_of_states: int, state: LinearState | None = None, keep: bool = False) -> None:
        super().__init__(number_of_states=number_of_states)
        self.keep, self.new_state = keep, LinearState()
        if state is not None:
            self.conv_states = _Copies(self.conv_states | state.conv)
            self.recurrent_states = _Copies(self.recurrent_states | state.recurrent)
            for number in state.conv.keys() | state.recurrent.keys():
                self.has_previous_state[number] = True

    def update_conv_state(
        self, conv_states: Tensor, state_idx: int = 0, conv_kernel_size: int | None = None, **kwargs: Any
    ) -> Tensor:
        before = self.conv_states[state_idx]
        if before is not None:
            kernel, full = before.shape[-1], torch.cat([before.to(conv_states), conv_states], -1)
        else:
            kernel = conv_kernel_size or conv_states.shape[-1]
            full = torch.nn.functional.pad(conv_states, (max(kernel - conv_states.shape[-1], 0), 0))
        if self.keep:
            self.new_state.conv[state_idx] = full[..., -kernel:]
        return full

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **kwargs: Any) -> Tensor:
        if self.keep:
            self.new_state.recurrent[state_idx] = recurrent_states
        return recurrent_states


class ReadOnlyHybridLayer(ReadOnlyStates, ReadOnlyLayer):
    """One layer with keys and values and with states."""

    is_compileable = False

    def __init__(
        self,
        parts: Sequence[tuple[Tensor, Tensor]],
        number_of_states: int,
        state: LinearState | None = None,
        keep: bool = False,
    ) -> None:
        ReadOnlyLayer.__init__(self, parts, keep)
        ReadOnlyStates.__init__(self, number_of_states, state, keep)


def build_cache(layers: Sequence[CacheLayerSpec], past: Sequence[Segment], keep: bool) -> DynamicCache:
    """A cache that shows the `past` segments, in order, and with `keep` remembers what the next pass adds."""
    # Made without a config on purpose: windowed cache layers would forget what lies outside their window.
    cache = DynamicCache()
    cache.layers = [_layer(index, layer, past, keep) for index, layer in enumerate(layers)]
    cache.layer_class_to_replicate = None
    return cache


def _layer(index: int, layer: CacheLayerSpec, past: Sequence[Segment], keep: bool) -> Any:
    if layer.is_dummy:
        return DummyLayer()
    # States run through the text line alone: those after the last segment that has any
    state = next((s.linear[index] for s in reversed(past) if index in s.linear), None)
    if layer.shape is None:
        return ReadOnlyStates(layer.linear_states, state, keep) if layer.linear_states else ReadOnlyLayer([], keep)
    parts = [segment.layers[index] for segment in past]
    if layer.linear_states:
        return ReadOnlyHybridLayer(parts, layer.linear_states, state, keep)
    if layer.indexer_dim:
        zeros = [k.new_zeros(k.shape[0], k.shape[2], layer.indexer_dim) for k, _ in parts]
        return ReadOnlyIndexedLayer(parts, [s.indexer.get(index, z) for s, z in zip(past, zeros, strict=True)], keep)
    return ReadOnlyLayer(parts, keep)


def kept_segment(cache: DynamicCache, columns: Columns) -> Segment:
    """What a pass over `columns` with a cache of `build_cache(..., keep=True)` added."""
    segment = Segment(columns, {})
    for index, layer in enumerate(cache.layers):
        if getattr(layer, "new", None) is not None:
            segment.layers[index] = layer.new
        if getattr(layer, "new_index", None) is not None:
            segment.indexer[index] = layer.new_index
        state = getattr(layer, "new_state", None)
        if state is not None and (state.conv or state.recurrent):
            segment.linear[index] = state
    return segment


__all__ = ["CacheLayerSpec", "LayerShape", "ReadOnlyLayer", "build_cache", "kept_segment"]
