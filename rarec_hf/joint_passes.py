"""
Passes of a backbone whose weights are spread over processes: each needs all of them, though each has work of its own.

A process announces every pass of a sharded backbone; one that has no more work goes along with the passes of the
others until nobody has any. Processes come to each other's aid wherever they meet (`rarec_hf.processes`), so that
whole batches may be dealt out, and texts be known to some of them, as without sharding.
"""

from __future__ import annotations

import gc
import weakref

import torch
import torch.distributed as dist
from torch import nn

from .weight_parts import is_part

_shared: weakref.ref[nn.Module] | None = None


class SecondShardedBackboneError(RuntimeError):
    """Two sharded backbones at a time: a process that helps out would not know with which one."""


def is_sharded(module: nn.Module) -> bool:
    """Whether weights of a module are spread over processes, each holding a part."""
    return any(is_part(parameter) for parameter in module.parameters())


def share_passes(base: nn.Module) -> None:
    """
    From now on passes of this backbone are announced. Every process must call it; nothing is done for a backbone that
    is not sharded.

    Raises:
        SecondShardedBackboneError: another sharded backbone is in use.
    """
    global _shared
    if not is_sharded(base):
        return
    if _other_than(base) is not None:
        gc.collect()  # models hold cycles
    if (other := _other_than(base)) is not None:
        raise SecondShardedBackboneError(
            f"A sharded {type(other).__name__} is in use already, expected no other beside it. Build all models "
            "around the same backbone, or delete the models of the first one before."
        )
    _shared = weakref.ref(base)


def _other_than(base: nn.Module) -> nn.Module | None:
    other = None if _shared is None else _shared()
    return None if other is base else other


def announce_pass(base: nn.Module) -> None:
    """Before each pass: the other processes take part, in a pass of their own or in one for nothing."""
    if _shared is not None and _shared() is base:
        _how_many(1)


def finish_passes() -> None:
    """
    Takes part in the passes of the others until no process has any. Every process must call it; needed before they
    exchange anything else, and after work of the main process alone. Nothing without a sharded backbone.
    """
    base = None if _shared is None else _shared()
    if base is None:
        return
    while _how_many(0):
        ids = torch.zeros(1, 1, dtype=torch.long, device=_device())
        with torch.no_grad():
            base(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)


def _how_many(mine: int) -> int:
    """How many processes are about to start a pass."""
    count = torch.tensor(mine, device=_device())
    dist.all_reduce(count)
    return int(count)


def _device() -> torch.device:
    from .processes import PartialState  # which takes part in passes itself

    return PartialState().device


__all__ = ["SecondShardedBackboneError", "announce_pass", "finish_passes", "is_sharded", "share_passes"]
