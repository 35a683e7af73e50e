"""What a checkpoint's files must be before anything is made of them, with errors that name the file and the field."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import load_file
from torch import Tensor

from .ids import shown
from .whole_files import reading

# Fields of configs that are a dimension of some weight
_DIMENSIONS = (
    "n_items", "n_users", "hidden_size", "intermediate_size", "attention_size", "interests", "num_attention_heads",
    "context_length", "score_dim",
)  # fmt: skip
_MOST_HISTORY = 2**16  # of encoders whose weights do not say how long a history may be


def check_address(path: str) -> None:
    """Raises `FileNotFoundError` for what is no folder and cannot be a Hub repository either."""
    if os.path.isdir(path):
        return
    try:
        validate_repo_id(path)
    except HFValidationError as error:
        what = "is a file" if os.path.exists(path) else "is not there"
        raise FileNotFoundError(
            f"{path} {what}: expected a folder that `save_pretrained` wrote, or a Hub repository, `owner/name`."
        ) from error


def read_table(file: str | Path, known: tuple[str, ...] | None = None) -> dict[str, Any]:
    """
    A JSON file of named values.

    Args:
        known (`tuple[str, ...]`, *optional*): the names there may be.

    Raises:
        DamagedFileError: no JSON.
        ValueError: no named values, or an unknown name.
    """
    with reading(file):
        content = json.loads(Path(file).read_text("utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected named values, got {shown(content)}.")
    if unknown := [name for name in content if known is not None and name not in known]:
        raise ValueError(f"{file}: unknown field {shown(unknown[0])}, expected {list(known)}.")
    return content


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """
    The tensors of a safetensors file.

    Raises:
        DamagedFileError: it is none, or was cut.
    """
    with reading(file):
        return load_file(file)


def check_shard_names(index: str | Path) -> None:
    """
    Refuses an index of shards that names anything but safetensors files beside it.

    Raises:
        ValueError: no index, or a name with a folder, an absolute one, or one of another ending.
    """
    names = read_table(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index}: expected a `weight_map` of tensors to files, got {shown(names)}.")
    for name in names.values():
        plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0:")
        if not plain or PurePosixPath(name).suffix != ".safetensors":
            raise ValueError(
                f"{index} names {shown(name)} as a file of weights: only `.safetensors` files of the same folder are "
                "read. Do not load this checkpoint unless you know why it points elsewhere."
            )


def check_sizes(config: Any, weights: dict[str, Tensor], path: str) -> None:
    """
    Refuses a config whose sizes the weights cannot have, before memory is taken for them.

    Raises:
        ValueError: names the field.
    """
    largest = max((length for tensor in weights.values() for length in tensor.shape), default=1)
    bounds = dict.fromkeys(_DIMENSIONS, 4 * largest) | {"num_hidden_layers": len(weights)}
    bounds["max_history"] = max(4 * largest, _MOST_HISTORY)
    for part in (config, config.id_encoder_config):
        for name, most in bounds.items():
            value = getattr(part, name, None)
            if isinstance(value, int) and value > most:
                raise ValueError(
                    f"{path}: `{name}` is {value} in config.json, far more than its weights have (at most {largest} "
                    "in any dimension). The files belong to different runs, or the folder is damaged."
                )


__all__ = ["check_address", "check_shard_names", "check_sizes", "read_table", "read_weights"]
