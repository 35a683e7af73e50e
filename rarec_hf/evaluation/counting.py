"""How many scores are above a target's and how many equal it, without those of excluded items."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

CHUNK = 1 << 19  # scores compared at once: few enough to stay in a processor's cache between the passes over them


def counted(
    scores: torch.Tensor, places: np.ndarray | None, own: torch.Tensor, rows: np.ndarray, items: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Counts over a catalogue, or a part of it.

    Args:
        scores (`torch.Tensor` of shape `(n_scored, n_items)`): compared where they are.
        places (`np.ndarray` of shape `(n,)`, *optional*): the row of `scores` of each target; its own otherwise.
        own (`torch.Tensor` of shape `(n,)`): each target's own score.
        rows, items (`np.ndarray` of shape `(n_excluded,)`): targets and columns of the pairs left out, each once.

    Returns:
        for each target the scores above its own, those equal to it (its own too, where it is in `scores`), and whether
        a score is NaN.
    """
    import torch

    device, n = scores.device, len(own)
    place = None if places is None else torch.from_numpy(places.astype(np.int64)).to(device)
    row, item = (torch.from_numpy(a.astype(np.int64)).to(device) for a in (rows, items))
    taken = scores[row if place is None else place[row], item]  # scores of the excluded pairs
    above, level, broken = _count(scores, place, own)
    nan = np.zeros(n, dtype=bool)
    if broken:
        out = torch.zeros(n, scores.shape[1], dtype=torch.bool, device=device)  # True where not a candidate
        out[row, item] = True
        nan = ((scores if place is None else scores[place]).isnan() & ~out).any(dim=1).cpu().numpy()
    own_taken = own[row]
    taken_above, taken_level = (
        np.bincount(rows, weights=flags.cpu().numpy(), minlength=n).astype(np.int64)
        for flags in (taken > own_taken, taken == own_taken)
    )
    return above - taken_above, level - taken_level, nan


def as_tensor(scores: Any) -> torch.Tensor:
    """`(n, n_items)` numbers as a tensor, without a copy where there need not be one."""
    import torch

    if not isinstance(scores, torch.Tensor):
        scores = np.asarray(scores)
        if scores.ndim != 2 or scores.dtype.kind not in "fiu" or scores.dtype.itemsize > 8:
            raise ValueError(
                f"`scores` must be numbers of shape (n, n_items), got shape {scores.shape}, dtype {scores.dtype}."
            )
        if scores.dtype.kind == "u":
            scores = scores.astype(np.int64 if scores.dtype.itemsize < 8 else np.float64)
        scores = torch.from_numpy(np.require(scores, requirements=["C", "W"]))
    if scores.ndim != 2 or scores.dtype == torch.bool or scores.is_complex():
        raise ValueError(
            f"`scores` must be numbers of shape (n, n_items), got shape {tuple(scores.shape)}, dtype {scores.dtype}."
        )
    return scores.detach()


def _count(scores: Any, place: Any, own: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """For each target the scores above its own, those equal to it, and whether any score is NaN."""
    import torch

    on_cpu = scores.device.type == "cpu"
    if on_cpu and scores.dtype in (torch.bfloat16, torch.float16):
        scores, own = scores.float(), own.float()  # exact; NumPy knows no bfloat16 and is slow on float16
    if on_cpu:  # NumPy counts flags several times as fast as torch does, and waits for no other thread
        scores, own = scores.numpy(), own.numpy()
        place = None if place is None else place.numpy()
    above, level, broken = [], [], False
    step = max(1, CHUNK // max(1, scores.shape[1])) if on_cpu else max(1, len(own))
    for start in range(0, len(own), step):
        end = start + step
        block = scores[start:end] if place is None else scores[place[start:end]]
        threshold = own[start:end, None]
        if on_cpu:
            above += [np.count_nonzero(row) for row in block > threshold]
            level += [np.count_nonzero(row) for row in block == threshold]
        else:
            above += (block > threshold).sum(dim=1).tolist()
            level += (block == threshold).sum(dim=1).tolist()
        broken = broken or math.isnan(float(block.max()))  # the largest is NaN where any is
    return np.array(above, dtype=np.int64), np.array(level, dtype=np.int64), broken


__all__ = ["as_tensor", "counted"]
