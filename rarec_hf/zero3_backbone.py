"""A frozen backbone larger than one device: its weights spread over processes by DeepSpeed's ZeRO-3."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.integrations import HfDeepSpeedConfig
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from .backbone_source import BackboneSource, load_backbone, resolve_backbone
from .sharded_backbone import ShardingError, check_processes


def load_zero3_backbone(
    source: BackboneSource | str | os.PathLike,
    process: PartialState,
    dtype: torch.dtype | None = None,
    **kwargs: Any,
) -> PreTrainedModel:
    """
    Loads a backbone of which each process keeps its part alone, by Transformers' own integration of DeepSpeed; a
    module's weights are together while it computes. For all types that Transformers loads, with an eye to those that
    FSDP2 has no plan for. Every process must call this; one that is alone gets a backbone that is not sharded.

    States are those of a whole backbone to the bit, gradients to float tolerance.

    Args:
        source, kwargs: as [`load_backbone`].
        process (`PartialState`): whose processes share it.
        dtype (`torch.dtype`, *optional*): float32, bfloat16 or float16; the checkpoint's own otherwise.

    Returns:
        the backbone, frozen.

    Raises:
        ShardingError: DeepSpeed is not installed, or `process` does not know of the others.
    """
    check_processes(process)
    if process.num_processes == 1:
        return load_backbone(source, dtype=dtype, **kwargs).requires_grad_(False)
    if find_spec("deepspeed") is None:
        raise ShardingError("ZeRO-3 needs DeepSpeed, which is not installed. Mend: `pip install rarec_hf[deepspeed]`.")
    import deepspeed

    if not isinstance(source, BackboneSource):
        source = resolve_backbone(source)
    if dtype is None:
        dtype = AutoConfig.from_pretrained(source.path_or_repo, revision=source.revision).dtype or torch.float32
    config = _zero3(dtype)
    told = HfDeepSpeedConfig(config)  # noqa: F841  from_pretrained looks whether there is one
    try:
        backbone = load_backbone(source, dtype=dtype, **kwargs)
    finally:
        unset_hf_deepspeed_config()
    backbone.requires_grad_(False).eval()
    engine, *_ = deepspeed.initialize(model=backbone, config=config, dist_init_required=False)
    _give_back_after_each_backward(backbone, engine.optimizer)
    return backbone


def _zero3(dtype: torch.dtype) -> dict[str, Any]:
    """
    What a pass gathers must not depend on what its process did before, or processes would wait for each other for
    ever: nothing is fetched ahead of its turn, nothing stays for later.
    """
    return {
        "train_micro_batch_size_per_gpu": 1,  # asked for, and of no meaning without an optimizer
        "bf16": {"enabled": dtype == torch.bfloat16},
        "fp16": {"enabled": dtype == torch.float16},
        "zero_optimization": {
            "stage": 3,
            "stage3_prefetch_bucket_size": 0,
            "stage3_max_reuse_distance": 0,
            "stage3_max_live_parameters": 0,
            "stage3_param_persistence_threshold": 0,
        },
    }


def _give_back_after_each_backward(backbone: nn.Module, weights: Any) -> None:
    """DeepSpeed counts the backward passes of a module's last forward pass only: after two passes forward (a user's
    text, an item's) its weights would stay whole from the first backward pass on."""

    def give_back(module: nn.Module, *_: Any) -> None:
        weights.post_sub_module_backward_function(module)

    for module in backbone.modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_full_backward_hook(give_back)


__all__ = ["load_zero3_backbone"]
