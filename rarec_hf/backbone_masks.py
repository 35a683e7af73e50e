"""The forms of the mask rule that a backbone may take, read from its config."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig
from transformers.masking_utils import (
    LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING,
    create_chunked_causal_mask,
    create_recurrent_attention_mask,
    create_sliding_window_causal_mask,
)

from .attention_layout import Window
from .backbone_pass import RECURRENT

WINDOW_FIELDS = ("sliding_window", "attention_chunk_size")


def typed_masks(config: PreTrainedConfig) -> tuple[tuple[str, Window | str | None], ...] | None:
    """One mask a layer type, where the config names layer types and Transformers has a mask function for each."""
    types = getattr(config, "layer_types", None)
    rules: dict[str, Window | str | None] = {}
    for layer_type in dict.fromkeys(types or ()):
        function = LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING.get(layer_type)
        if function is None:
            return None
        for key in function if isinstance(function, dict) else [layer_type]:
            rules.setdefault(key, _rule_of(LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING.get(key), config))
    return tuple(rules.items()) or None


def _rule_of(function: Any, config: PreTrainedConfig) -> Window | str | None:
    sliding, chunk = getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)
    if function is create_recurrent_attention_mask:
        return RECURRENT
    if function is create_sliding_window_causal_mask and sliding:
        return Window("sliding", sliding)
    return Window("chunked", chunk) if function is create_chunked_causal_mask and chunk else None


def single_mask(config: PreTrainedConfig) -> tuple[tuple[None, Window | None], ...]:
    """One mask for all layers, with the window that the config states."""
    if sliding := getattr(config, "sliding_window", None):
        return ((None, Window("sliding", sliding)),)
    if chunk := getattr(config, "attention_chunk_size", None):
        return ((None, Window("chunked", chunk)),)
    return ((None, None),)


__all__ = ["WINDOW_FIELDS", "single_mask", "typed_masks"]
