"""Weights of which this process holds its part alone, by FSDP2 or by DeepSpeed's ZeRO-3, and whole ones, alike."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor, nn


def is_part(parameter: nn.Parameter) -> bool:
    """Whether the rest of a weight is in other processes."""
    return hasattr(parameter, "device_mesh") or hasattr(parameter, "ds_tensor")


def part_here(parameter: nn.Parameter) -> Tensor:
    """What this process holds of a weight; of one that is not spread, all."""
    if hasattr(parameter, "ds_tensor"):
        return parameter.ds_tensor
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


@torch.no_grad()
def gathered(parameter: nn.Parameter) -> Tensor:
    """A weight with its parts together, for this moment. Of one that is spread, every process must call it."""
    if hasattr(parameter, "ds_tensor"):
        # No import statement: Transformers would ask for it wherever this code comes from a repository
        with import_module("deepspeed").zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    return (parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter).detach()


__all__ = ["gathered", "is_part", "part_here"]
