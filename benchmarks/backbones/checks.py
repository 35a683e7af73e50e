"""The checks of one backbone type, all through `RARecForSequentialRecommendation` and what it is built on.

An exact reference exists without any of our code: text [P; T] in one pass of the bare backbone equals the keys and
values of P given as soft prompts, then T. Backbones with linear layers have no such reference, since their states of P
are not given; there the attention function itself is replaced by one that puts the soft prompts in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from transformers import AttentionInterface, AutoModelForCausalLM, DynamicCache
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.modeling_utils import PreTrainedModel

from rarec_hf import RARecForSequentialRecommendation, SASRecConfig, SASRecModel
from rarec_hf.attention_layout import Columns
from rarec_hf.backbone_pass import run_backbone
from rarec_hf.backbone_probe import BackboneRefused
from rarec_hf.segments import Segment

from .tiny import VOCABULARY, WINDOW, tiny_model

P, T = 4, 7
YES, NOT = "yes", "-"


class Wrong(Exception):
    """A check that came out wrong, with what was seen."""


@dataclass
class Result:
    """
    One line of the table.

    Args:
        status (`str`): `"accepted"`, `"refused"`, `"wrong"` (accepted, but a check failed) or `"cannot be built"`.
        reason (`str`): for all but the accepted.
        checks (`dict[str, str]`): `"yes"`, `"-"` (does not apply) or what it cannot do.
    """

    model_type: str
    status: str
    reason: str = ""
    checks: dict[str, str] = field(default_factory=dict)


def check_type(model_type: str, only: tuple[str, ...] | None = None) -> Result:
    """All checks (or those named) of one type."""
    try:
        lm = tiny_model(model_type)
    except Exception as error:
        return Result(model_type, "cannot be built", _line(error))
    try:
        model = wrapped(lm)
    except BackboneRefused as refused:
        reason = str(refused).split("cannot carry soft prompts: ")[-1].split(" Use a causal LM")[0]
        return Result(model_type, "refused", reason.rstrip("."))
    result = Result(model_type, "accepted")
    for name, check in CHECKS.items():
        if only is not None and name not in only:
            continue
        try:
            result.checks[name] = check(model, model_type)
        except Exception as error:
            text = str(error) if isinstance(error, Wrong) else _line(error)
            result.checks[name] = f"WRONG: {text}"
            result.status, result.reason = "wrong", f"{result.reason}{name}: {text}; "
    return result


def wrapped(lm: PreTrainedModel, **config) -> RARecForSequentialRecommendation:
    """RA-Rec around a tiny backbone, the paper's layout if not said otherwise."""
    torch.manual_seed(0)
    encoder = SASRecModel(SASRecConfig(n_items=12, hidden_size=16, max_history=8))
    fields = {"soft_prompt_position": "before_text", "context_length": 2, "score": "dot_product", **config}
    model = RARecForSequentialRecommendation.from_backbone(lm, encoder, **fields)
    for parameter in model.soft_prompts.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


# the checks ----------------------------------------------------------------------------------------------------------


def layers(model, model_type) -> str:
    """Cache layers with keys and values, and what they hold."""
    shapes = model.spec.shapes
    names = (f"{s.heads}x{s.key_dim}" + f"/{s.value_dim}" * (s.value_dim != s.key_dim) for s in shapes.values())
    kinds = dict.fromkeys(names)
    return f"{len(shapes)}/{len(model.spec.layers)} {', '.join(kinds)}"


@torch.no_grad()
def exact(model, model_type) -> str:
    """Soft prompts are read as keys and values of text would be; without them the states differ."""
    base, spec, ids = model.backbone, model.spec, some_ids(P + T)
    prompts = prompts_of_text(base, spec, ids[:, :P])
    ours = text_pass(model, ids[:, P:], prompts)
    without = text_pass(model, ids[:, P:], None, start=P)
    kind = YES
    if any(layer.linear_states for layer in spec.layers):
        reference, kind = attention_oracle(model_type, ids[:, P:], prompts), "attention function"
        if reference is None:
            return "no reference for its attention"
    else:
        reference = bare_states(base, ids, spec)[:, P:]
    must_equal(ours, reference, "soft prompts against the reference")
    if spec.takes_positions or kind != YES:
        must_differ(without, reference, "a dropped soft prompt")
    return kind


def gradients(model, model_type) -> str:
    """Keys and values of every layer get a finite gradient that is not zero, through the generator."""
    model.zero_grad()
    # Attention without a scale (gpt_neo) is all on one place in some rows of random weights, with a gradient of zero
    ids = some_ids(T, rows=16)
    state = model.read("user", ids, torch.ones_like(ids), some_ids(2)[0], torch.randn(16, 1, 16)).state
    (state * torch.randn_like(state)).sum().backward()
    return gradient_gaps(model) or YES


def gradient_gaps(model) -> str:
    generator, missing = model.soft_prompts["user"], []
    parts = generator.projector.weight.grad.split(generator.widths)
    for (index, shape), part in zip(generator.shapes.items(), parts, strict=True):
        if not bool(torch.isfinite(part).all()):
            raise Wrong(f"gradient of layer {index} is not finite")
        keys, values = part.unflatten(0, (shape.heads, -1)).split([shape.key_dim, shape.value_dim], 1)
        missing += [f"{name}{index}" for name, g in (("K", keys), ("V", values)) if g.abs().max() < 1e-12]
    if len(missing) == 2 * len(parts):
        raise Wrong("no layer gets a gradient")
    if missing and not model.language_model.training:
        fixed = {name[1:] for name in missing}
        if len(missing) != 2 * len(fixed):
            raise Wrong(f"no gradient reaches {', '.join(missing)}")
        return f"layers {', '.join(sorted(fixed, key=int))} run without gradient"
    return ""


@torch.no_grad()
def padding(model, model_type) -> str:
    """Rows padded on the left or on the right give the states of the rows alone."""
    rows, readout, vectors = (some_ids(T), some_ids(T, seed=7)[:, : T - 3]), some_ids(2)[0], torch.randn(2, 1, 16)
    alone = [read(model, row, readout, vectors[n : n + 1]) for n, row in enumerate(rows)]
    for side in ("right", "left"):
        ids, mask = torch.zeros(2, T, dtype=torch.long), torch.zeros(2, T, dtype=torch.long)
        for n, row in enumerate(rows):
            length = row.shape[1]
            where = slice(0, length) if side == "right" else slice(T - length, T)
            ids[n, where], mask[n, where] = row[0], 1
        must_equal(read(model, ids, readout, vectors, mask), torch.cat(alone), f"{side} padding")
    return YES


@torch.no_grad()
def after_text(model, model_type) -> str:
    """Soft prompts between the text and the readout, as text there would be; rows of unequal length as rows alone."""
    if model.spec.after_text:
        return f"no: {model.spec.after_text}"
    spec, base = model.spec, model.backbone
    if not any(layer.linear_states for layer in spec.layers):
        ids, ones = some_ids(T + P + 2), torch.ones(1, T + P + 2, dtype=torch.long)
        _, kept = run_backbone(base, spec, ids[:, :T], Columns.text(ones[:, :T]), keep=True)
        between = Columns.text(ones[:, :P], start=T, order_start=T)
        _, prompts = run_backbone(base, spec, ids[:, T : T + P], between, past=[kept], keep=True)
        prompts.columns = Columns.soft_prompts(1, P, T, ids.device)
        readouts = Columns.readouts(ones[:, :2], T + P, T)
        ours, _ = run_backbone(base, spec, ids[:, T + P :], readouts, past=[kept, prompts])
        must_equal(ours, bare_states(base, ids, spec)[:, T + P :], "soft prompts after the text")
    other = wrapped(model.language_model, soft_prompt_position="after_text")
    other.soft_prompts.load_state_dict(model.soft_prompts.state_dict())
    padding(other, model_type)
    readout, vectors = some_ids(2)[0], torch.randn(1, 1, 16)
    states = [read(other, some_ids(T), readout, scale * vectors) for scale in (1.0, -1.0)]
    must_differ(*states, "another soft prompt after the text")
    with torch.enable_grad():
        return gradients(other, model_type)


@torch.no_grad()
def every_position(model, model_type) -> str:
    """Readouts of several groups in one pass give what each gives alone."""
    if model.spec.every_position:
        return f"no: {model.spec.every_position}"
    spec, base, ids, readout = model.spec, model.backbone, some_ids(T), some_ids(2)
    _, kept = run_backbone(base, spec, ids, Columns.text(torch.ones_like(ids)), keep=True)
    ends = {1: 3, 2: T}

    def run(groups):
        prompts = []
        for group in groups:
            segment = random_prompts(spec, seed=group)
            segment.columns = Columns.soft_prompts(1, P, ends[group], ids.device, group)
            prompts.append(segment)
        ones = torch.ones_like(readout)
        columns = Columns.cat([Columns.readouts(ones, ends[g] + P, ends[g], g) for g in groups])
        return run_backbone(base, spec, readout.repeat(1, len(groups)), columns, past=[kept, *prompts])[0]

    must_equal(run([1, 2]), torch.cat([run([1]), run([2])], 1), "two groups in one pass")
    return YES


def windows(model, model_type) -> str:
    """
    In every layer the last of 48 text tokens reads the soft prompts although its window is 32, and text as before.
    """
    spec, base, length = model.spec, model.backbone, 48
    if not spec.windows:
        limit = spec.max_positions
        return f"inside the attention: at most {limit} positions" if limit and limit <= WINDOW else NOT
    ids = some_ids(length)
    with torch.no_grad():
        must_equal(text_pass(model, ids, None), bare_states(base, ids, spec), "windows over text")
    leaves = {
        i: tuple(part.detach().requires_grad_() for part in pair) for i, pair in random_prompts(spec).layers.items()
    }
    prompts = Segment(Columns.soft_prompts(1, P, 0, ids.device), leaves)
    recorder = Recorder(base)
    states, _ = run_backbone(recorder, spec, ids, Columns.text(torch.ones_like(ids), start=P), [prompts])
    hidden, blind = [*recorder.hidden[:-1], states], []
    for index, (_, values) in leaves.items():
        after = hidden[index + 1]
        after = after.reshape(-1, *after.shape[-2:])[:1]
        (slope,) = torch.autograd.grad(
            (after[:, -1] * torch.linspace(-1, 1, after.shape[-1]) ** 3).sum(), values, retain_graph=True
        )
        if slope.abs().max() < 1e-12:
            blind.append(index)
    if blind:
        raise Wrong(f"the last token does not see the soft prompts in layers {blind}")
    return YES


def checkpointing(model, model_type) -> str:
    """Recomputing blocks gives the same states and gradients, or an error that says why not."""
    ids, readout, vectors = some_ids(T, rows=2), some_ids(2)[0], torch.randn(2, 1, 16)
    weight, found = torch.randn(2, model.config.text_config.get_text_config(decoder=True).hidden_size), []
    try:
        for enabled in (False, True):
            if enabled:
                try:
                    model.gradient_checkpointing_enable()
                except ValueError as error:
                    return f"refused: {str(error).split('. ')[0][:60]}"
                model.train()
            model.zero_grad()
            state = model.read("user", ids, torch.ones_like(ids), readout, vectors).state
            (state * weight[:, : state.shape[1]]).sum().backward()
            found.append((state.detach(), model.soft_prompts["user"].projector.weight.grad.clone()))
    finally:
        model.gradient_checkpointing_disable()
        model.eval()
    must_equal(found[1][0], found[0][0], "states with checkpointing")
    must_equal(found[1][1], found[0][1], "gradients with checkpointing", floor=1e-4)
    return YES


@torch.no_grad()
def eager_sdpa(model, model_type) -> str:
    """Both attention functions give the same states, padding included."""
    if not type(model.language_model)._supports_sdpa:
        return NOT
    ids, mask = some_ids(T, rows=2), torch.ones(2, T, dtype=torch.long)
    mask[1, :3] = 0
    readout, vectors, states = some_ids(2)[0], torch.randn(2, 1, 16), []
    for attention in ("eager", "sdpa"):
        lm = tiny_model(model_type, attention)
        lm.load_state_dict(model.language_model.state_dict())
        other = wrapped(lm)
        other.soft_prompts.load_state_dict(model.soft_prompts.state_dict())
        states.append(read(other, ids, readout, vectors, mask))
    must_equal(*states, "eager against sdpa")
    return YES


@torch.no_grad()
def save_and_load(model, model_type) -> str:
    """A slim folder, and the backbone it names, give the same states again."""
    ids, readout, vectors = some_ids(T), some_ids(2)[0], torch.randn(1, 1, 16)
    with tempfile.TemporaryDirectory() as folder:
        model.language_model.save_pretrained(f"{folder}/backbone_itself")
        model.config.backbone_address = f"path:{folder}/backbone_itself"
        model.config.backbone_fingerprint = None
        model.save_pretrained(f"{folder}/slim")
        result, backbone = YES, None
        try:
            AutoModelForCausalLM.from_pretrained(f"{folder}/backbone_itself")
        except Exception:  # not ours to mend; the alignment is loaded onto the backbone at hand then
            result, backbone = "Transformers cannot load what it saved of this type", model.language_model
        again = RARecForSequentialRecommendation.from_pretrained(f"{folder}/slim", language_model=backbone)
    must_equal(read(again, ids, readout, vectors), read(model, ids, readout, vectors), "a loaded model")
    return result


CHECKS: dict[str, Callable] = {
    check.__name__: check
    for check in (
        layers, exact, gradients, padding, windows, after_text, every_position, checkpointing, eager_sdpa,
        save_and_load,
    )
}  # fmt: skip


# references and parts ------------------------------------------------------------------------------------------------


def some_ids(length: int, rows: int = 1, seed: int = 1) -> Tensor:
    return torch.randint(5, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def read(model, ids: Tensor, readout: Tensor, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
    return model.read("user", ids, torch.ones_like(ids) if mask is None else mask, readout, vectors).state


def text_pass(model, ids: Tensor, prompts: Segment | None, start: int | None = None) -> Tensor:
    start = (P if prompts is not None else 0) if start is None else start
    columns = Columns.text(torch.ones_like(ids), start=start)
    return run_backbone(model.backbone, model.spec, ids, columns, [] if prompts is None else [prompts])[0]


def bare_states(base, ids: Tensor, spec) -> Tensor:
    """The bare backbone's own pass, with the positions that it would take itself."""
    offset = spec.position_offset
    positions = {"position_ids": torch.arange(ids.shape[1])[None] + offset} if spec.takes_positions else {}
    return base(input_ids=ids, attention_mask=torch.ones_like(ids), **positions).last_hidden_state


def prompts_of_text(base, spec, ids: Tensor) -> Segment:
    """Keys and values that the bare backbone itself leaves of some text."""
    cache, offset = DynamicCache(config=base.config), spec.position_offset
    positions = {"position_ids": torch.arange(ids.shape[1])[None] + offset} if spec.takes_positions else {}
    base(input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache, use_cache=True, **positions)
    layers = {i: (cache.layers[i].keys.clone(), cache.layers[i].values.clone()) for i in spec.shapes}
    keys = ((i, getattr(layer, "indexer_keys", None)) for i, layer in enumerate(cache.layers))
    index = {i: key.clone() for i, key in keys if key is not None}
    return Segment(Columns.soft_prompts(1, ids.shape[1], 0, ids.device), layers, indexer=index)


def random_prompts(spec, seed: int = 3) -> Segment:
    generator = torch.Generator().manual_seed(seed)
    layers = {
        i: tuple(torch.randn(1, s.heads, P, width, generator=generator) for width in (s.key_dim, s.value_dim))
        for i, s in spec.shapes.items()
    }
    return Segment(Columns.soft_prompts(1, P, 0, torch.device("cpu")), layers)


class Recorder:
    """A backbone that remembers the states after each block of its last pass."""

    def __init__(self, base):
        self.base, self.config, self.dtype, self.hidden = base, base.config, base.dtype, ()

    def __call__(self, **arguments):
        output = self.base(output_hidden_states=True, **arguments)
        self.hidden = output.hidden_states
        return output


def attention_oracle(model_type: str, ids: Tensor, prompts: Segment) -> Tensor | None:
    """States of the text with the soft prompts put in by the attention function, no cache; None if it is not used."""
    order = sorted(prompts.layers)
    calls: list[int] = []

    def attention(by_call, module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
        if kwargs.get("position_bias") is not None:
            raise RuntimeError("a bias of its own for keys that this reference does not know")
        index = order[len(calls) % len(order)] if by_call else module.layer_idx
        calls.append(index)
        if index in prompts.layers:
            before = prompts.layers[index]
            key, value = torch.cat([before[0], key], -2), torch.cat([before[1], value], -2)
        key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], 1) for part in (key, value))
        weights = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        queries, keys = weights.shape[-2:]
        seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        weights = weights.masked_fill(~seen, float("-inf")).softmax(-1)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    model = tiny_model(model_type)
    base = wrapped(model).backbone
    states = []
    for by_call in (False, True):  # some number their cache layers otherwise than their modules
        AttentionInterface.register("rarec_oracle", partial(attention, by_call))
        AttentionMaskInterface.register("rarec_oracle", eager_mask)
        model.set_attn_implementation("rarec_oracle")
        calls.clear()
        positions = {"position_ids": torch.arange(P, P + ids.shape[1])[None]}
        try:
            hidden = base(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **positions)
        except RuntimeError:  # its keys and values are not those of its cache (latent attention), or it adds a bias
            return None
        if len(calls) != len(order):
            return None  # its attention has parts of its own
        if set(calls) == set(order):
            states.append(hidden.last_hidden_state)
            break
    return states[0] if states else None


def must_equal(ours: Tensor, reference: Tensor, what: str, floor: float = 1.0) -> None:
    scale = max(floor, reference.abs().max().item())
    difference = (ours - reference).abs().max().item()
    if not difference <= 1e-4 * scale:
        raise Wrong(f"{what}: differ by {difference:.2g} (largest value {scale:.2g})")


def must_differ(ours: Tensor, reference: Tensor, what: str) -> None:
    difference = (ours - reference).abs().max().item()
    if not difference > 1e-2 * max(1.0, reference.abs().max().item()):
        raise Wrong(f"{what} changes nothing ({difference:.2g})")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


__all__ = ["CHECKS", "Result", "Wrong", "check_type", "wrapped"]
