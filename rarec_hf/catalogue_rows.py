"""
A catalogue's rows, spread over processes: who holds which, and how some of them, or all in turn, come to everybody.

A catalogue is scored in pieces whose cuts depend on its size alone. A product of matrices may give other last bits in
another shape, so what is one piece in one process is one in every number of them, and a process holds whole pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .joint_passes import finish_passes
from .processes import PartialState, chunk, filled, several

try:
    from accelerate.utils import broadcast, gather_object
except ImportError:  # the code in a model's folder, on a machine without it: one process, which needs none of these
    pass

T = TypeVar("T")

SMALLEST_PIECE = 256  # rows; below, a product costs little more than its call
MOST_PIECES = 64  # and most processes that hold rows
_ALIGNED = 16  # rows: every piece of float32 begins at a multiple of 64 bytes


class RowsElsewhereError(ValueError):
    """A catalogue is spread over processes by rows, and what was called needs it whole."""


def piece_size(n_items: int) -> int:
    """Rows of every piece of a catalogue but the last, which may have fewer."""
    of_most = -(-n_items // MOST_PIECES)
    return max(SMALLEST_PIECE, -(-of_most // _ALIGNED) * _ALIGNED)


def pieces(n_items: int, rows: range | None = None) -> list[slice]:
    """The pieces that a catalogue is scored in, or those within the rows that a process holds."""
    rows = range(n_items) if rows is None else rows
    return [slice(start, min(start + piece_size(n_items), rows.stop)) for start in rows[:: piece_size(n_items)]]


def rows_held(n_items: int, process: PartialState | None) -> range:
    """The rows that this process holds: whole pieces, one after the other; none where there are fewer pieces than
    processes."""
    mine, size = chunk(-(-n_items // piece_size(n_items)), process), piece_size(n_items)
    return range(min(mine.start * size, n_items), min(mine.stop * size, n_items))


def together(mine: T, process: PartialState | None) -> list[T]:
    """What every process has, in their order. Every process must call it."""
    if not several(process):
        return [mine]
    finish_passes()
    return gather_object([mine])


def rows_of_all(held: Tensor, rows: range, wanted: Tensor, process: PartialState | None) -> Tensor:
    """
    Rows that this process wants, from whoever holds them; exact to the bit. Every process must call it, one that wants
    nothing too.

    Args:
        held (`torch.FloatTensor` of shape `(len(rows), width)`): the rows of this process.
        rows (`range`): which they are.
        wanted (`torch.LongTensor` of shape `(n,)`): indices, repeats allowed.

    Returns:
        `(n, width)` on the CPU.
    """
    of_all = np.unique(np.concatenate(together(wanted.cpu().numpy(), process)))
    mine = np.flatnonzero((of_all >= rows.start) & (of_all < rows.stop))
    found = torch.zeros(len(of_all), held.shape[1])
    found[torch.from_numpy(mine)] = held[torch.from_numpy(of_all[mine] - rows.start).to(held.device)].float().cpu()
    if process is not None and len(of_all):
        found = filled(found, process)
    return found[torch.from_numpy(np.searchsorted(of_all, wanted.cpu().numpy()))].to(held.dtype)


def in_turn(held: Tensor, rows: range, n_items: int, process: PartialState | None) -> Iterator[Tensor]:
    """All pieces of a tensor of which each process holds its rows, first to last, on the CPU: one at a time is whole
    anywhere. Every process must go through all of them."""
    finish_passes()
    holders = _holders(n_items, process)
    for piece, holder in zip(pieces(n_items), holders, strict=True):
        if piece.start in rows:
            part = held[piece.start - rows.start : piece.stop - rows.start].contiguous()
        else:
            part = held.new_empty(piece.stop - piece.start, *held.shape[1:])
        if process is not None and process.num_processes > 1:
            part = broadcast(part.to(process.device), holder)
        yield part.cpu()


def _holders(n_items: int, process: PartialState | None) -> list[int]:
    """The process that holds each piece."""
    n_pieces, of = len(pieces(n_items)), process.num_processes if process is not None else 1
    return [index for index in range(of) for _ in range(index * n_pieces // of, (index + 1) * n_pieces // of)]


__all__ = ["RowsElsewhereError", "in_turn", "piece_size", "pieces", "rows_held", "rows_of_all", "together"]
