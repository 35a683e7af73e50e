"""Which number format a frozen backbone runs in."""

from __future__ import annotations

import time

import torch


def choose_dtype(asked: str, width: int = 576) -> tuple[torch.dtype, str]:
    """
    The backbone's dtype and the reason, in words.

    CPUs that have bfloat16 instructions range from three times faster to half as fast with them as in float32, so
    `auto` tries a product of a backbone's size in both, for some tenths of a second, instead of trusting the
    instruction set.

    Args:
        asked (`str`): `"auto"`, `"bfloat16"` or `"float32"`.
        width (`int`): of the trial.
    """
    if asked != "auto":
        return getattr(torch, asked), "as asked"
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported():
            return torch.bfloat16, "the GPU has it"
        return torch.float32, "the GPU has no bfloat16"
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.float32, "the CPU has no bfloat16 instructions"
    seconds = {dtype: _trial(dtype, width) for dtype in (torch.bfloat16, torch.float32)}
    ratio = seconds[torch.float32] / seconds[torch.bfloat16]
    if ratio > 1.1:
        return torch.bfloat16, f"{ratio:.1f} times as fast as float32 in a trial on this CPU"
    return torch.float32, f"bfloat16 was {ratio:.1f} times as fast in a trial on this CPU"


def _trial(dtype: torch.dtype, width: int) -> float:
    states, weight = torch.ones(1024, width, dtype=dtype), torch.ones(3 * width, width, dtype=dtype)
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        torch.nn.functional.linear(states, weight)
        best = min(best, time.perf_counter() - start)
    return best


__all__ = ["choose_dtype"]
