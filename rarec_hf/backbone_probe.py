"""What a backbone can carry: measured once, at construction, on the backbone itself; never looked up by its name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import (
    DummyLayer,
    DynamicIndexedLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

from .attention_layout import Columns, Window
from .backbone_cache import CacheLayerSpec, LayerShape
from .backbone_masks import WINDOW_FIELDS, single_mask, typed_masks
from .backbone_pass import BackboneSpec, run_backbone
from .segments import Segment

KNOWN_LAYERS = (
    DummyLayer,
    DynamicIndexedLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)


class BackboneRefused(ValueError):
    """A backbone that cannot carry soft prompts through `past_key_values`; says which type, why, and what to use."""


def base_model_of(language_model: PreTrainedModel) -> nn.Module:
    """The backbone without its language-modelling head, which a recommender never needs."""
    base = language_model.base_model
    if base is language_model:
        base = language_model.get_decoder()
    return getattr(language_model, "model", base) if base is language_model else base


@torch.no_grad()
def measure_backbone(language_model: PreTrainedModel, bidirectional: bool = False) -> BackboneSpec:
    """
    Measures the cache with one short forward, then proves on the backbone itself that soft prompts and layouts are
    computed right; what a layout fails at is recorded in the spec, with the reason.

    Args:
        bidirectional (`bool`): the backbone's text tokens are meant to see later ones (BERT types).

    Raises:
        BackboneRefused: the backbone cannot carry a soft prompt.
        ValueError: its weights are not loaded.
    """
    base, name = base_model_of(language_model), language_model.config.model_type
    device, was_training = next(base.parameters()).device, base.training
    if device.type == "meta":
        raise ValueError(f"Backbone type `{name}` is on the meta device. Load its weights before it is wrapped.")
    try:
        base.eval()
        return _Measurement(base, language_model, bidirectional, device).spec()
    except _Cannot as reason:
        problem = str(reason)
    except Exception as error:  # whatever an unknown architecture raises is the reason it is refused for
        problem = f"its forward with soft prompts in a cache failed ({type(error).__name__}: {str(error)[:300]})"
    finally:
        base.train(was_training)
    raise BackboneRefused(
        f"Backbone type `{name}` ({type(language_model).__name__}) cannot carry soft prompts: {problem}. Use a causal "
        "LM whose attention layers keep keys and values in a `DynamicCache`, such as Llama, Qwen or Gemma types."
    )


class _Cannot(Exception):
    """Why a backbone is refused."""


class _Measurement:
    """The steps of one measurement: they share the backbone, some text, and what was found so far."""

    def __init__(
        self, base: nn.Module, language_model: PreTrainedModel, bidirectional: bool, device: torch.device
    ) -> None:
        self.base, self.bidirectional = base, bidirectional
        self.config = base.config.get_text_config(decoder=True)
        vocabulary = language_model.get_input_embeddings().num_embeddings
        self.ids = torch.tensor([[3, 5, 4, 6, 7, 3]], device=device) % vocabulary

    def spec(self) -> BackboneSpec:
        layers, plain = self._cache_layers()
        offset = _position_offset(self.base)
        takes_positions = "position_ids" in inspect.signature(self.base.forward).parameters
        spec = BackboneSpec(
            layers,
            takes_positions=takes_positions,
            position_offset=offset,
            max_positions=_max_positions(self.config, offset),
            equal_lengths=not takes_positions or any(layer.linear_states for layer in layers),
            bidirectional=self.bidirectional,
        )
        if any(layer.indexer_dim for layer in layers):
            spec = replace(spec, max_columns=getattr(self.config, "index_topk", None))
        whole = self._check_text(spec, plain)
        spec = replace(spec, after_text=self._after_text_problem(spec, whole))
        self._check_soft_prompts(spec)
        spec = replace(spec, equal_lengths=spec.equal_lengths or not self._hides_masked(spec, whole))
        return self._with_masks(spec, whole)

    # steps -----------------------------------------------------------------------------------------------------------

    def _cache_layers(self) -> tuple[tuple[CacheLayerSpec, ...], Tensor]:
        """Cache layers as one forward over 3 tokens leaves them, and its states."""
        cache, ids = DynamicCache(config=self.base.config), self.ids[:, :3]
        plain = self.base(input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache, use_cache=True)
        layers = []
        for index, layer in enumerate(cache.layers):
            if type(layer) not in KNOWN_LAYERS:
                raise _Cannot(f"cache layer {index} is a {type(layer).__name__}, which has no rule here")
            if getattr(layer, "indexer_position_ids", None) is not None:
                raise _Cannot(f"the indexer of cache layer {index} needs positions that a soft prompt does not have")
            keys, values, shape = getattr(layer, "keys", None), getattr(layer, "values", None), None
            if keys is not None and keys.numel():
                if keys.dim() != 4 or keys.shape[2] != 3:
                    got = tuple(keys.shape)
                    raise _Cannot(f"cache layer {index} holds keys of shape {got}, expected (1, heads, 3, width)")
                shape = LayerShape(keys.shape[1], keys.shape[3], values.shape[3])
            linear = layer.number_of_states if isinstance(layer, LinearAttentionCacheLayerMixin) else 0
            index_keys = getattr(layer, "indexer_keys", None)
            dim = index_keys.shape[-1] if index_keys is not None else 0
            layers.append(CacheLayerSpec(shape, linear, dim, isinstance(layer, DummyLayer)))
        if not any(layer.shape for layer in layers):
            raise _Cannot("its forward leaves no keys and values in a given `DynamicCache`")
        return tuple(layers), plain.last_hidden_state

    def _check_text(self, spec: BackboneSpec, plain: Tensor) -> Tensor:
        """Text without soft prompts: explicit positions are the backbone's own, no state survives, order is causal."""
        head = self._text(spec, self.ids[:, :3])
        if head.shape[1] != 3:
            raise _Cannot(f"it returns {head.shape[1]} states for 3 tokens")
        if not _close(head, plain):
            raise _Cannot("explicit position ids give other states than its own, or it keeps state between calls")
        whole = self._text(spec, self.ids)
        if not _close(self._text(spec, self.ids[:, :3]), plain):
            raise _Cannot("the same text gives other states the second time: it keeps state between calls")
        if self.bidirectional and _close(whole[:, :3], plain):
            raise _Cannot("`bidirectional=True` was asked for, but no token sees a later one")
        if not self.bidirectional and not _close(whole[:, :3], plain):
            raise _Cannot(
                "a later token changes the states of an earlier one. BERT types: load it with `is_decoder=True`, or "
                "set `bidirectional=True`"
            )
        return whole

    def _after_text_problem(self, spec: BackboneSpec, whole: Tensor) -> str:
        if self.bidirectional:
            return "it reads text in both directions, which is not finished before the readout"
        try:
            head, kept = run_backbone(self.base, spec, self.ids[:, :3], self._columns(3), keep=True)
            tail, _ = run_backbone(self.base, spec, self.ids[:, 3:], self._columns(3, start=3), past=[kept])
            # One token alone takes another path through linear layers
            next_, _ = run_backbone(self.base, spec, self.ids[:, 3:4], self._columns(1, start=3), past=[kept])
        except Exception as error:
            return f"continuing kept text failed ({type(error).__name__}: {str(error)[:200]})"
        if _close(torch.cat([head, tail], 1), whole) and _close(next_, whole[:, 3:4]):
            return ""
        if any(layer.linear_states for layer in spec.layers):
            return "text continued from kept states differs from the same text in one pass"
        raise _Cannot("text continued from a kept cache differs from the same text in one pass")

    def _check_soft_prompts(self, spec: BackboneSpec) -> None:
        """Soft prompts change the text's states, and a padded row reads them as a row alone does."""
        prompts = self._prompts(spec)
        seen = self._text(spec, self.ids, past=[prompts], start=3)
        if torch.equal(seen, self._text(spec, self.ids, past=[self._prompts(spec, scale=0.5)], start=3)):
            raise _Cannot("keys and values given to it change nothing")
        short = self._text(spec, self.ids[:, :4], past=[prompts], start=3)
        mask = torch.ones_like(self.ids).repeat(2, 1)
        mask[1, :2] = 0  # `run_backbone` moves it to the right
        ids = torch.cat([self.ids, self.ids.roll(2, 1)])
        twice = self._prompts(spec, rows=2)
        both, _ = run_backbone(self.base, spec, ids, Columns.text(mask, start=3), past=[twice])
        if not (_close(both[:1], seen) and _close(both[1:, 2:], short)):
            raise _Cannot("a padded row of a batch gives other states than the row alone")

    def _hides_masked(self, spec: BackboneSpec, whole: Tensor) -> bool:
        """Whether columns of the cache that are masked out are as if they were not there."""
        if spec.equal_lengths:
            return False
        prompts = self._prompts(spec)
        prompts.columns.real = torch.zeros_like(prompts.columns.real)
        return _close(run_backbone(self.base, spec, self.ids, self._columns(6), past=[prompts])[0], whole)

    def _with_masks(self, spec: BackboneSpec, whole: Tensor) -> BackboneSpec:
        """Which form of the mask rule the backbone follows, and what it cannot do without one."""
        forms = [typed_masks(self.config), single_mask(self.config)]
        masks = next((form for form in forms if form and self._follows(replace(spec, masks=form), whole)), None)
        reach = [size for name in WINDOW_FIELDS if (size := getattr(self.config, name, None))]
        problem = "" if masks else "it does not follow a mask per query"
        windowless = tuple((key, None if isinstance(rule, Window) else rule) for key, rule in masks or ())
        if reach and not (masks and self._windows_hold(replace(spec, masks=masks))):
            # Beyond a window that is out of the mask's reach the soft prompts would be lost
            masks = windowless or None
            spec = replace(spec, max_positions=min([*reach, spec.max_positions or min(reach)]))
        if self.bidirectional or spec.after_text:
            problem = spec.after_text or "it reads text in both directions"
        elif any(layer.linear_states for layer in spec.layers):
            problem = "its linear layers run through every token"
        elif not spec.takes_positions:
            problem = "it takes no `position_ids`, so that readouts cannot stand at positions of their own"
        elif spec.equal_lengths:
            problem = problem or "padding in its cache is read"
        return replace(spec, masks=masks, every_position=problem)

    def _follows(self, spec: BackboneSpec, whole: Tensor) -> bool:
        """Soft prompts of another group must not be seen, those of the own group must."""
        try:
            states = {}
            for group, scale in ((1, 1.0), (1, 0.5), (0, 1.0), (0, 0.5)):
                prompts = self._prompts(spec, scale=scale, group=group)
                readers = self._columns(6, start=0 if spec.takes_positions else 3)
                readers.group[:, -1] = 2  # a group among the readers asks for the rule even if no prompt has one
                states[group, scale] = run_backbone(self.base, spec, self.ids, readers, past=[prompts])[0][:, :5]
        except Exception:  # the form is not one that this backbone takes
            return False
        unseen = torch.equal(states[1, 1.0], states[1, 0.5]) and _close(states[1, 1.0], whole[:, :5])
        return unseen and not torch.equal(states[0, 1.0], states[0, 0.5])

    def _windows_hold(self, spec: BackboneSpec) -> bool:
        """With its windows set to 4 for a moment, the bare backbone reads 6 tokens as the rule says."""
        names = [name for name in WINDOW_FIELDS if getattr(self.config, name, None)]
        before = {name: getattr(self.config, name) for name in names}
        rules = tuple((key, replace(r, size=4) if isinstance(r, Window) else r) for key, r in spec.masks)
        try:
            for name in names:
                setattr(self.config, name, 4)
            bare = self.base(input_ids=self.ids, attention_mask=torch.ones_like(self.ids)).last_hidden_state
            return _close(self._text(replace(spec, masks=rules), self.ids), bare)
        finally:
            for name, value in before.items():
                setattr(self.config, name, value)

    # parts -----------------------------------------------------------------------------------------------------------

    def _columns(self, length: int, start: int = 0) -> Columns:
        return Columns.text(torch.ones_like(self.ids[:, :length]), start=start, order_start=start)

    def _text(self, spec: BackboneSpec, ids: Tensor, past: Sequence[Segment] = (), start: int = 0) -> Tensor:
        return run_backbone(self.base, spec, ids, Columns.text(torch.ones_like(ids), start=start), past)[0]

    def _prompts(self, spec: BackboneSpec, rows: int = 1, scale: float = 1.0, group: int = 0) -> Segment:
        """Three soft prompts of a fixed pattern, as large as keys and values are."""
        layers, device = {}, self.ids.device
        for index, shape in spec.shapes.items():
            pair = []
            for number, width in enumerate((shape.key_dim, shape.value_dim)):
                size = shape.heads * 3 * width
                wave = torch.sin(torch.arange(size, device=device) * 1.7 + index + 3 * number)
                pair.append(scale * wave.view(1, shape.heads, 3, width).expand(rows, -1, -1, -1))
            layers[index] = tuple(pair)
        return Segment(Columns.soft_prompts(rows, 3, 0, device, group), layers)


def _position_offset(base: nn.Module) -> int:
    """RoBERTa types count positions from `padding_idx + 1`; an explicit count from 0 would be silently wrong."""
    for name, module in base.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return module.padding_idx + 1
    return 0


def _max_positions(config: Any, offset: int) -> int | None:
    longest = getattr(config, "max_position_embeddings", None)
    longest = longest - offset if isinstance(longest, int) and longest > 0 else None
    # A window kept inside the attention (gpt_neo) is out of a mask's reach, so no sequence may be longer than it
    inside = getattr(config, "window_size", None)
    return min(inside, longest or inside) if isinstance(inside, int) and inside > 0 else longest


def _close(a: Tensor, b: Tensor) -> bool:
    tolerance = 1e-3 if a.dtype == torch.float32 else 0.15
    return torch.allclose(a.float(), b.float(), atol=tolerance * max(1.0, b.float().abs().max().item()), rtol=0)


__all__ = ["BackboneRefused", "base_model_of", "measure_backbone"]
