"""
Work shared among the processes of `accelerate launch`: what is whose, and how it comes together.

What is dealt out are whole batches, the same whatever the number of processes, so that each is computed as one process
alone would. A `process` of None, or one that is alone, does everything itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from .joint_passes import finish_passes

try:
    from accelerate import PartialState
    from accelerate.utils import gather, gather_object, pad_across_processes, reduce
except ImportError:  # the code in a model's folder, on a machine without it: one process, which needs none of these
    PartialState = None

T = TypeVar("T")


def several(process: PartialState | None) -> bool:
    """Whether there is anybody to share with."""
    return process is not None and process.num_processes > 1


def speaks(process: PartialState | None) -> bool:
    """Whether this is the process that shows bars and writes files."""
    return process is None or process.is_main_process


def wait(process: PartialState | None) -> None:
    """Until every process is here."""
    if process is not None:
        finish_passes()
        process.wait_for_everyone()


def dealt(items: Sequence[T], process: PartialState | None) -> Sequence[T]:
    """This process's share: every n-th, as cards are dealt."""
    return items[process.process_index :: process.num_processes] if several(process) else items


def collected(parts: list[T], process: PartialState | None) -> list[T]:
    """What all processes made of what was [`dealt`], in its order. Every process must call it, and gets all."""
    if not several(process):
        return parts
    finish_passes()
    hands = gather_object([parts])
    return [hands[n % len(hands)][n // len(hands)] for n in range(sum(map(len, hands)))]


def filled(rows: Tensor, process: PartialState | None) -> Tensor:
    """
    A float32 tensor of which every process has filled some rows, and left all others at zero; exact to the bit. Every
    process must call it, and gets the whole.
    """
    if not several(process):
        return rows
    if rows.dtype != torch.float32:
        raise TypeError(f"Rows of float32 can be put together, got {rows.dtype}.")
    finish_passes()
    bits = rows.contiguous().to(process.device).view(torch.int32)  # NCCL knows of no tensors on the CPU
    return reduce(bits, "sum").view(torch.float32).to(rows.device)  # a sum of bits: -0.0 stays


def chunk(n: int, process: PartialState | None) -> range:
    """This process's part of `range(n)`, in one piece; parts differ by one at most and may be empty."""
    if not several(process):
        return range(n)
    index, of = process.process_index, process.num_processes
    return range(index * n // of, (index + 1) * n // of)


def gathered_rows(rows: Tensor, n_mine: int, process: PartialState | None) -> Tensor:
    """
    The first `n_mine` rows of every process, one process after the other. Gradients flow into this process's own:
    summed over the processes they are those of one process with all rows.
    """
    if not several(process):
        return rows[:n_mine]
    finish_passes()
    sizes = gather(torch.tensor([n_mine], device=rows.device)).tolist()
    others = gather(pad_across_processes(rows.detach()[:n_mine].contiguous())).split(max(sizes))
    parts = [part[:size] for part, size in zip(others, sizes, strict=True)]
    parts[process.process_index] = rows[:n_mine]
    # A process without a row of its own must still take part in the backward pass
    return torch.cat(parts) + 0.0 * rows[n_mine:].sum() if n_mine < len(rows) else torch.cat(parts)


__all__ = ["PartialState", "chunk", "collected", "dealt", "filled", "gathered_rows", "several", "speaks", "wait"]
