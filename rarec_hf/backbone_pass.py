"""One pass of a frozen backbone over tokens that stand after segments: the one way to fill the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    create_causal_mask,
    create_recurrent_attention_mask,
)

from .attention_layout import READOUT, SOFT_PROMPT, TEXT, Columns, Window, visibility
from .backbone_cache import CacheLayerSpec, LayerShape, build_cache, kept_segment
from .joint_passes import announce_pass
from .segments import Segment

RECURRENT = "recurrent"
# Whose masks the library makes by indexing whole tensors. For a rule of one's own `create_causal_mask` goes through
# `torch.vmap` instead, which takes most of the time of a small batch
_BROADCAST = ("sdpa", "eager")


@dataclass(frozen=True)
class BackboneSpec:
    """
    What was measured on a backbone at construction.

    Args:
        layers: one `CacheLayerSpec` a cache layer.
        masks: `{layer type: Window, None or RECURRENT}`: whom a layer of that type sees; the single key `None` where
            the backbone makes one mask for all layers. None if it does not honour a mask of the rule.
        takes_positions: its forward has `position_ids`; otherwise positions are counted from the cache's length.
        position_offset: what a position id starts at (RoBERTa types: `padding_idx + 1`).
        max_positions: longest sequence that the backbone's position embedding carries, or None.
        max_columns: most columns among which sparse attention still sees every one, or None.
        equal_lengths: rows that continue kept text must be of one length, because positions are counted through
            padding, states run through it, or padding in the cache is read.
        bidirectional: text tokens see later ones (BERT types).
        after_text: "" where text continued from a kept cache equals the same text in one pass, else why not.
        every_position: "" where readouts of several groups can share a pass, else why not.
    """

    layers: tuple[CacheLayerSpec, ...]
    masks: tuple[tuple[str | None, Window | str | None], ...] | None = None
    takes_positions: bool = True
    position_offset: int = 0
    max_positions: int | None = None
    max_columns: int | None = None
    equal_lengths: bool = False
    bidirectional: bool = False
    after_text: str = ""
    every_position: str = ""

    @property
    def shapes(self) -> dict[int, LayerShape]:
        """Shapes of keys and values by cache layer, for the layers that have them."""
        return {index: layer.shape for index, layer in enumerate(self.layers) if layer.shape is not None}

    @property
    def windows(self) -> list[Window]:
        """The windows of the layer types that have one."""
        return [rule for _, rule in self.masks or () if isinstance(rule, Window)]


def run_backbone(
    base: nn.Module,
    spec: BackboneSpec,
    input_ids: Tensor,
    columns: Columns,
    past: Sequence[Segment] = (),
    keep: bool = False,
    depths: Sequence[float] = (1.0,),
) -> tuple[Tensor, Segment | None]:
    """
    One pass of the backbone over tokens `(batch, n)` described by `columns`, reading the `past` segments.

    Padding may stand anywhere in `columns`; the backbone is given it on the right, which every type gets right.

    Args:
        base (`nn.Module`): the backbone without its head, see `base_model_of`.
        past: what stands in the cache, in order. Gradients flow into its keys and values; it is not changed.
        keep (`bool`): also return what the tokens leave in the cache, to be read by a later pass.
        depths (`list[float]`): of which layers states are returned, side by side: 1 is the last one, 0 what enters the
            first, anything between counts layers in proportion.

    Returns:
        States `(batch, n, len(depths) * hidden)`, in the order of the tokens given, and the kept `Segment` or None.

    Raises:
        ValueError: widths of ids and columns differ, a segment lacks a layer, the sequence is longer than the backbone
            carries, or the backbone's attention cannot follow the mask that these columns need.
    """
    if input_ids.shape != columns.real.shape:
        raise ValueError(
            f"Expected columns of shape {tuple(input_ids.shape)} as the token ids, got {tuple(columns.real.shape)}."
        )
    for segment in past:
        if segment.layers.keys() != spec.shapes.keys():
            raise ValueError(
                f"A segment holds {len(segment.layers)} cache layers with keys and values, the backbone has "
                f"{len(spec.shapes)}."
            )
    order = None
    if bool((columns.real[:, 1:] & ~columns.real[:, :-1]).any()):
        order = torch.argsort((~columns.real).to(torch.uint8), dim=1, stable=True)
        input_ids, columns = input_ids.gather(1, order), columns.reordered(order)
    keys = Columns.cat([*(s.columns for s in past), columns])
    _check_limits(spec, columns, keys, past)
    cache = build_cache(spec.layers, past, keep)
    arguments = {"position_ids": columns.position + spec.position_offset} if spec.takes_positions else {}
    announce_pass(base)
    output = base(
        input_ids=input_ids,
        attention_mask=_attention_mask(base, spec, columns, keys, cache),
        past_key_values=cache,
        use_cache=True,
        **arguments,
        **({} if tuple(depths) == (1.0,) else {"output_hidden_states": True}),
    )
    states = output.last_hidden_state if tuple(depths) == (1.0,) else _states_at(base, output, depths)
    kept = kept_segment(cache, columns) if keep else None
    if order is not None:
        states = states.gather(1, torch.argsort(order, dim=1).unsqueeze(-1).expand_as(states))
    return states, kept


def _states_at(base: nn.Module, output: Any, depths: Sequence[float]) -> Tensor:
    hidden = output.hidden_states
    if not hidden or any(states.shape != output.last_hidden_state.shape for states in hidden):
        raise ValueError(
            f"{type(base).__name__} does not give the states of its inner layers, which `text_layers` {list(depths)} "
            "asks for. Set `text_layers=[1.0]`, the last layer."
        )
    return torch.cat([hidden[round(depth * (len(hidden) - 1))] for depth in depths], -1)


def _check_limits(spec: BackboneSpec, columns: Columns, keys: Columns, past: Sequence[Segment]) -> None:
    if spec.max_positions is not None and len(keys) > spec.max_positions:
        highest = int(columns.position.max()) + 1
        if highest > spec.max_positions:
            raise ValueError(
                f"{highest} positions (text and soft prompts) exceed the {spec.max_positions} that the backbone "
                "carries. Lower `max_text_tokens` or the number of soft prompts."
            )
    if spec.max_columns is not None and len(keys) > spec.max_columns:
        raise ValueError(
            f"{len(keys)} tokens and soft prompts exceed the {spec.max_columns} that the backbone's sparse attention "
            "sees whole; it could drop a soft prompt. Lower `max_text_tokens` or the number of soft prompts."
        )
    padded = ((s.columns.kind != SOFT_PROMPT) & ~s.columns.real for s in past)
    if spec.equal_lengths and any(bool(padding.any()) for padding in padded):
        raise ValueError(
            "This backbone continues kept text only in rows of one length; run rows of each length apart."
        )


def _attention_mask(base: nn.Module, spec: BackboneSpec, columns: Columns, keys: Columns, cache: DynamicCache) -> Any:
    """A 2D padding mask where the causal order of columns says it all, else the rule, one mask a layer type."""
    padding = keys.real.long()
    text_end = (keys.order + 1).masked_fill((keys.kind != TEXT) | ~keys.real, 0).amax(1, keepdim=True)
    stops_early = (columns.kind == READOUT) & (columns.reads_until < text_end)
    grouped = bool((keys.group > 0).any() | stops_early.any())
    if not grouped and not any(window.size < len(keys) for window in spec.windows):
        return padding
    if grouped and spec.every_position:
        raise ValueError(f"Readouts of several groups cannot share a pass on this backbone: {spec.every_position}.")
    config = base.config.get_text_config(decoder=True)
    implementation = str(getattr(config, "_attn_implementation", ""))
    if "flash" in implementation:
        raise ValueError(
            f"`attn_implementation={implementation!r}` keeps its windows inside the kernel, where they would hide the "
            f"soft prompts from {len(keys)} columns. Load the backbone with attn_implementation='sdpa' or 'eager'."
        )
    offset = len(keys) - len(columns)
    shape_and_dtype = torch.empty(*columns.real.shape, 1, dtype=base.dtype, device=columns.real.device)

    def mask_for(rule: Window | str | None) -> Any:
        if rule == RECURRENT:
            return create_recurrent_attention_mask(config, shape_and_dtype, padding, cache)
        visible = visibility(columns, keys, rule)

        def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return visible[batch, query - offset, key]

        if implementation in _BROADCAST:
            return ALL_MASK_ATTENTION_FUNCTIONS[implementation](
                batch_size=len(padding),
                q_length=len(columns),
                kv_length=len(keys),
                q_offset=offset,
                kv_offset=0,
                mask_function=sees,
                attention_mask=keys.real,
                allow_is_causal_skip=False,
                dtype=base.dtype,
                config=config,
                device=padding.device,
            )
        # (causal | rule) & rule = rule, while dtype, attention backend and padding stay the library's business
        return create_causal_mask(
            config, shape_and_dtype, padding, cache, or_mask_function=sees, and_mask_function=sees
        )

    masks = {layer_type: mask_for(rule) for layer_type, rule in spec.masks or ()}
    return masks[None] if None in masks else masks


__all__ = ["RECURRENT", "BackboneSpec", "run_backbone"]
