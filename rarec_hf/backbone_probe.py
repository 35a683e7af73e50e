"""What a backbone can carry: measured once, at construction, on the backbone itself; never looked up by its name."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from .attention_layout import BackboneSpec, Columns, LayerShape, Segment, Window, run_backbone


def base_model_of(language_model: PreTrainedModel) -> nn.Module:
    """The backbone without its language-modelling head, which a recommender never needs."""
    base = language_model.base_model
    if base is language_model:
        base = language_model.get_decoder()
    return getattr(language_model, "model", base) if base is language_model else base


@torch.no_grad()
def measure_backbone(language_model: PreTrainedModel) -> BackboneSpec:
    """
    Measures cache shapes with one short forward, then proves on the backbone itself that the layouts of this module
    are computed right.

    Raises:
        ValueError: the backbone cannot carry a soft prompt through `past_key_values`; says which type, why, and what
            to use instead.
    """
    base, name = base_model_of(language_model), language_model.config.model_type

    def refuse(reason: str):
        return ValueError(
            f"Backbone type `{name}` ({type(language_model).__name__}) cannot carry soft prompts: {reason}. Use a "
            "decoder-only causal LM whose attention layers keep keys and values in a `DynamicCache` and that takes "
            "`position_ids`, such as Llama, Qwen or Gemma types."
        )

    if "position_ids" not in inspect.signature(base.forward).parameters:
        raise refuse("its forward takes no `position_ids`, so padded batches would be computed at wrong positions")
    device, was_training = next(base.parameters()).device, base.training
    if device.type == "meta":
        raise ValueError(f"Backbone type `{name}` is on the meta device. Load its weights before it is wrapped.")
    ids = torch.tensor([[3, 5, 4, 6, 7, 3]], device=device) % base.get_input_embeddings().num_embeddings
    base.eval()
    try:
        cache = DynamicCache(config=base.config)
        plain = base(input_ids=ids[:, :3], past_key_values=cache, use_cache=True).last_hidden_state
        shapes = []
        for index, layer in enumerate(cache.layers):
            if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
                raise refuse(f"cache layer {index} is a {type(layer).__name__}, not attention keys and values")
            keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
            if keys is None or keys.dim() != 4 or keys.shape[2] != 3:
                got = None if keys is None else tuple(keys.shape)
                raise refuse(
                    f"cache layer {index} holds keys of shape {got} after 3 tokens, expected (1, heads, 3, width)"
                )
            shapes.append(LayerShape(keys.shape[1], keys.shape[3], values.shape[3]))
        if not shapes:
            raise refuse("its forward leaves a given `DynamicCache` empty")
        spec = BackboneSpec(tuple(shapes), _windows_of(base, refuse), _position_offset(base), _max_positions(base))
        _check_layouts(base, spec, ids, plain, refuse)
    except (AttributeError, TypeError, NotImplementedError, IndexError, RuntimeError, ValueError) as error:
        if str(error).startswith("Backbone type"):  # refused above
            raise
        raise refuse(f"its forward with a cache failed ({type(error).__name__}: {error})") from error
    finally:
        base.train(was_training)
    return spec


def _windows_of(base: nn.Module, refuse) -> tuple[tuple[str | None, Window | None], ...]:
    config = base.config.get_text_config(decoder=True)
    sliding, chunk = getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)
    known = {
        "full_attention": None,
        "sliding_attention": Window("sliding", sliding) if sliding else None,
        "chunked_attention": Window("chunked", chunk) if chunk else None,
    }
    types = getattr(config, "layer_types", None)
    if types:
        if unknown := sorted(set(types) - set(known)):
            raise refuse(f"layer types {unknown} have no mask rule here (known: {sorted(known)})")
        return tuple((t, known[t]) for t in dict.fromkeys(types))
    return ((None, known["sliding_attention"] or known["chunked_attention"]),)


def _position_offset(base: nn.Module) -> int:
    """RoBERTa types count positions from `padding_idx + 1`; an explicit count from 0 would be silently wrong."""
    for name, module in base.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return module.padding_idx + 1
    return 0


def _max_positions(base: nn.Module) -> int | None:
    config = base.config.get_text_config(decoder=True)
    longest = getattr(config, "max_position_embeddings", None)
    longest = longest - _position_offset(base) if isinstance(longest, int) and longest > 0 else None
    # A window kept inside the attention (gpt_neo) is out of a mask's reach, so no sequence may be longer than it
    inside = getattr(config, "window_size", None)
    return min(inside, longest or inside) if isinstance(inside, int) and inside > 0 else longest


def _check_layouts(base: nn.Module, spec: BackboneSpec, ids: Tensor, plain: Tensor, refuse) -> None:
    """The oracle: a kept text equals the same text in one pass; another group's columns are not seen; rule masks equal
    plain ones."""

    def close(a: Tensor, b: Tensor) -> bool:
        tolerance = 1e-3 if a.dtype == torch.float32 else 0.15
        return torch.allclose(a.float(), b.float(), atol=tolerance * max(1.0, b.float().abs().max().item()), rtol=0)

    ones = torch.ones_like(ids)
    whole, _ = run_backbone(base, spec, ids, Columns.text(ones))
    if not close(whole[:, :3], plain):
        raise refuse("a later token changes the states of an earlier one, or explicit positions differ from its own")
    head, kept = run_backbone(base, spec, ids[:, :3], Columns.text(ones[:, :3]), keep=True)
    tail, _ = run_backbone(base, spec, ids[:, 3:], Columns.text(ones[:, 3:], start=3, order_start=3), past=[kept])
    if not close(torch.cat([head, tail], 1), whole):
        raise refuse("text continued from a kept cache differs from the same text in one pass")
    foreign = Columns.soft_prompts(1, 3, 0, ids.device, group=1)
    other = Segment(foreign, {i: (-2 * k, 3 * v) for i, (k, v) in kept.layers.items()})
    columns = Columns.text(ones[:, 3:], start=3, order_start=3)
    hidden, _ = run_backbone(base, spec, ids[:, 3:], columns, past=[kept, other])
    if not close(hidden, tail):
        raise refuse("it does not honour a 4D attention mask")
    other.columns = Columns.soft_prompts(1, 3, 0, ids.device)
    seen, _ = run_backbone(base, spec, ids[:, 3:], columns, past=[kept, other])
    if torch.equal(seen, tail):
        raise refuse("keys and values given to it change nothing")


__all__ = ["base_model_of", "measure_backbone"]
