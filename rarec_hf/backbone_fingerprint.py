"""Which weights a backbone has, whatever dtype and device they were loaded in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.utils import logging

from .weight_parts import gathered, is_part

logger = logging.get_logger(__name__)

# Of a config: how it was saved and loaded, and what generation and training alone look at
_NOT_COMPUTING = {
    "architectures", "dtype", "torch_dtype", "transformers_version", "quantization_config", "use_cache", "return_dict",
    "output_attentions", "output_hidden_states", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id",
    "id2label", "label2id", "problem_type", "initializer_range", "tie_word_embeddings", "chunk_size_feed_forward",
}  # fmt: skip
PLAIN_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def weights_fingerprint(model: nn.Module) -> str:
    """
    A short hash of which weights a model has: names, shapes and up to 256 values of every parameter, rounded to bf16.

    The same weights loaded in fp32 and in bf16 have the same fingerprint, on any device. In fp16 too, if the
    checkpoint is bf16 or fp16 (values below fp16's normal range count as zero); an fp32 checkpoint loaded in fp16 is
    rounded twice and gets another one. A quantised model has only the second half, that of the parameters which
    quantisation leaves alone (embeddings, norms, biases), and is compared by that. Of a backbone that is sharded over
    processes, all of them must call this.

    Returns:
        `str`: `v1:<weight matrices>:<embeddings, norms, biases>`, with `-` for the matrices of a quantised model.

    Raises:
        ValueError: a parameter is not in memory (meta device), as with weights that `device_map` offloaded.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices, others = hashlib.sha256(), hashlib.sha256()
    config = getattr(model, "config", None)  # any module may be asked about
    quantised = getattr(config, "quantization_config", None) is not None
    for name, parameter in sorted(model.named_parameters()):
        if parameter.is_meta:
            raise ValueError(
                f"Expected weights in memory to take a fingerprint of, got `{name}` on the meta device. Load the "
                "backbone with a `device_map` that offloads nothing to CPU or disk."
            )
        if parameter.dtype not in PLAIN_DTYPES:
            quantised = True
            continue
        values = gathered(parameter)  # one at a time: never the whole backbone
        digest = others if values.ndim <= 1 or id(parameter) in embeddings else matrices
        digest.update(f"{name}{tuple(values.shape)}".encode())
        digest.update(_sampled_values(values))
    return f"v1:{'-' if quantised else matrices.hexdigest()[:16]}:{others.hexdigest()[:16]}"


def _sampled_values(tensor: torch.Tensor) -> bytes:
    where = torch.arange(min(256, tensor.numel()))
    if tensor.numel() > 256:
        where = (
            where * 2654435761
        ) % tensor.numel()  # a large prime: scattered over rows and columns, always the same
    values = tensor.flatten()[where.to(tensor.device)].cpu().to(torch.bfloat16).float()
    values = values.clamp(-65504.0, 65504.0).where(values.abs() >= 2.0**-14, 0.0)  # what fp16 holds
    return values.to(torch.bfloat16).view(torch.int16).numpy().tobytes()


def backbone_identity(model: nn.Module, recorded: str | None = None) -> str:
    """
    What a backbone's states depend on, in words for a digest: its weights, how they are quantised and their dtype.

    Args:
        model (`nn.Module`): the backbone.
        recorded (`str`, *optional*): the fingerprint in the model's config, which stands in where weights are not in
            memory, or with other processes.
    """
    elsewhere = any(parameter.is_meta or is_part(parameter) for parameter in model.parameters())
    if recorded is not None and elsewhere:
        weights = recorded
    else:
        weights = weights_fingerprint(model)
    quantised = getattr(getattr(model, "config", None), "quantization_config", None)
    if hasattr(quantised, "to_dict"):
        quantised = quantised.to_dict()
    return f"{weights} {json.dumps(quantised, sort_keys=True, default=str)} {getattr(model, 'dtype', None)}"


@dataclass
class InParts:
    """
    A tensor that is not whole anywhere.

    Args:
        shape (`tuple[int, ...]`), dtype (`torch.dtype`): of the whole.
        parts (`Callable`): gives its rows in order, some at a time; may be asked again.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    parts: Callable[[], Iterator[torch.Tensor]]


def bytes_of(tensor: torch.Tensor) -> np.ndarray:
    """What a tensor holds, as `(n_bytes,)` uint8."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def weights_digest(weights: Mapping[str, torch.Tensor | InParts]) -> str:
    """A short hash of named tensors, every bit of them; tells which weights item representations were made by."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        for part in tensor.parts() if isinstance(tensor, InParts) else (tensor,):
            digest.update(bytes_of(part).tobytes())
    return digest.hexdigest()[:16]


def check_fingerprint(expected: str, model: nn.Module, address: str) -> None:
    """
    Refuses a backbone that is not the one an alignment was trained on.

    Args:
        expected (`str`): the fingerprint recorded with the alignment.
        model (`nn.Module`): the backbone just loaded.
        address (`str`): where it came from, for the message.

    Raises:
        ValueError: the weights are others.
    """
    actual = weights_fingerprint(model)
    if actual == expected:
        return
    wanted, got = expected.split(":"), actual.split(":")
    if len(wanted) == 3 and "-" in (wanted[1], got[1]) and (wanted[0], wanted[2]) == (got[0], got[2]):
        logger.warning(f"{address} is quantised: only its embeddings, norms and biases could be compared.")
        return
    raise ValueError(
        f"Expected the backbone with fingerprint {expected}, got {actual} from {address}: other weights than the "
        "alignment was trained on. Load the backbone from the address recorded with the alignment (in bf16 or fp32, "
        "not fp16), or train the alignment anew on this one."
    )


def check_config(expected: PreTrainedConfig, found: PreTrainedConfig, address: str) -> None:
    """
    Refuses a backbone whose config reads the same weights in another way (another RoPE, norm or window).

    Args:
        expected (`PreTrainedConfig`): recorded with the alignment, `text_config`.
        found (`PreTrainedConfig`): of the backbone just loaded.
        address (`str`): where it came from, for the message.

    Raises:
        ValueError: names the first field that differs.
    """
    wanted, got = _computing(expected.to_dict()), _computing(found.to_dict())
    for name in sorted({*wanted, *got}):
        if wanted.get(name) != got.get(name):
            raise ValueError(
                f"The config of the backbone from {address} is another than the alignment was trained on: `{name}` is "
                f"{got.get(name)!r:.100}, expected {wanted.get(name)!r:.100} (fingerprint of the config). Load the "
                "backbone from the address recorded with the alignment, or train the alignment anew on this one."
            )


def _computing(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a config that change what is computed, as JSON keeps them."""
    kept = {name: value for name, value in fields.items() if name[:1] != "_" and name not in _NOT_COMPUTING}
    kept = {name: _computing(value) if isinstance(value, dict) else value for name, value in kept.items()}
    return json.loads(json.dumps(kept, default=str))


__all__ = [
    "InParts",
    "backbone_identity",
    "bytes_of",
    "check_config",
    "check_fingerprint",
    "weights_digest",
    "weights_fingerprint",
]
