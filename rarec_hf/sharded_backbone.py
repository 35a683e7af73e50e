"""A frozen backbone larger than one device: its weights spread over the processes of `accelerate launch` (FSDP2)."""

from __future__ import annotations

import os
from typing import Any, cast

import torch
from accelerate import PartialState
from torch.distributed.fsdp import FSDPModule
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.distributed import DistributedConfig

from .backbone_source import BackboneSource, load_backbone, resolve_backbone


class ShardingError(ValueError):
    """A backbone cannot be sharded as asked; says what can be done."""


def load_sharded_backbone(
    source: BackboneSource | str | os.PathLike,
    process: PartialState,
    dtype: torch.dtype | str | None = None,
    offload: bool = False,
    **kwargs: Any,
) -> PreTrainedModel:
    """
    Loads a backbone of which each process keeps its part alone, by Transformers' own `DistributedConfig`: no process
    ever holds the whole, neither on its device nor in memory. A layer's weights are together while it computes.
    Every process must call this; one that is alone gets a backbone that is not sharded.

    Args:
        source, dtype, kwargs: as [`load_backbone`].
        process (`PartialState`): whose processes share it.
        offload (`bool`): parts stay in main memory and come to the device when they are needed.

    Returns:
        the backbone, frozen.

    Raises:
        ShardingError: `process` does not know of the others, the processes compute elsewhere than Transformers would
            put the parts, or Transformers has no plan for this type.
    """
    check_processes(process)
    if process.num_processes == 1:
        return load_backbone(source, dtype=dtype, **kwargs).requires_grad_(False)
    found = "cpu" if (device := torch.accelerator.current_accelerator()) is None else device.type
    if process.device.type != found:
        raise ShardingError(
            f"Expected processes that compute on {found}, where Transformers puts the parts of a sharded backbone, "
            f"got {process.device.type}. Leave out `use_cpu`, or hide the devices (CUDA_VISIBLE_DEVICES=)."
        )
    if not isinstance(source, BackboneSource):
        source = resolve_backbone(source)
    spread = DistributedConfig(
        fsdp_size=process.num_processes, fsdp_plan=_each_alone(source), fsdp_cpu_offload=offload
    )
    backbone = load_backbone(source, dtype=dtype, distributed_config=spread, **kwargs)
    backbone.requires_grad_(False)  # before the first pass, which decides what gathered weights need
    _same_everywhere(backbone)
    # FSDP2 takes for its root what runs first; only the base model will be called from here on
    ids = torch.zeros(1, 1, dtype=torch.long, device=process.device)
    with torch.no_grad():
        backbone(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    cast(FSDPModule, backbone).reshard()
    backbone.tie_weights()  # which the pass undid
    return backbone


def check_processes(process: PartialState) -> None:
    """Raises `ShardingError` where `process` does not know of the others that were started."""
    if (started := int(os.environ.get("WORLD_SIZE", 1))) != process.num_processes:
        raise ShardingError(
            f"Expected a `PartialState` of all {started} processes that were started, got one of "
            f"{process.num_processes}. On CPUs make it by `PartialState(cpu=True)`."
        )


def _each_alone(source: BackboneSource) -> dict[str, str]:
    """
    Transformers' plan would gather the last norm together with the language-modelling head. The head is never
    computed here, so that the two would never be given back.
    """
    config = AutoConfig.from_pretrained(source.path_or_repo, revision=source.revision)
    with torch.device("meta"):
        plan = AutoModelForCausalLM.from_config(config).fsdp_plan
    if not plan:
        raise ShardingError(
            f"Transformers has no plan of what to shard in backbone type `{config.model_type}` ({source.address}), "
            "expected one with a `base_model_fsdp_plan`, such as Llama, Qwen or Gemma types. Take one of these, or do "
            "not shard."
        )
    return {name: "free_full_weight" for name in plan if name.rpartition(".")[2] == "norm"}


def _same_everywhere(backbone: PreTrainedModel) -> None:
    """
    What a pass gathers must not depend on what its process did before, or processes would wait for each other for
    ever. So no part stays whole after a pass (Transformers' plan keeps the last one, until weights are saved), and in
    a backward pass each fetches the one before it (FSDP2 by itself: whatever ran before, perhaps a pass without
    gradient that one process alone made).
    """
    previous = None
    for module in backbone.modules():
        if isinstance(module, FSDPModule) and module is not backbone:
            module.set_reshard_after_forward(True, recurse=False)
            module.set_modules_to_backward_prefetch([module if previous is None else previous])
            previous = module


__all__ = ["ShardingError", "check_processes", "load_sharded_backbone"]
