"""Global batches: the order they come in, and the part of each that one process takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from accelerate import PartialState
from torch.utils.data import Sampler

from ..processes import chunk


class SeededOrders(Sampler[int]):
    """
    An order of samples for each epoch, all from one stream of random numbers: that of any epoch can be had again, for
    a run that goes on in its midst.

    Args:
        n_samples (`int`): how many.
        draw: `draw(generator)` gives the order of the next epoch.
        seed (`int`): of the stream.
    """

    def __init__(self, n_samples: int, draw: Callable[[torch.Generator], Sequence[int]], seed: int):
        self.n_samples, self.draw = n_samples, draw
        self.generator = torch.Generator().manual_seed(seed)
        self._epoch, self._starts = 0, {0: self.generator.get_state()}

    def __len__(self) -> int:
        return self.n_samples

    def __iter__(self) -> Iterator[int]:
        order = self.draw(self.generator)
        self._epoch += 1
        self._starts.setdefault(self._epoch, self.generator.get_state())
        return iter(order)

    def set_epoch(self, epoch: int) -> None:
        """The next order will be that of `epoch`, counted from 0."""
        self._epoch = max(known for known in self._starts if known <= epoch)
        self.generator.set_state(self._starts[self._epoch])
        while self._epoch < epoch:
            iter(self)


class ShareOfBatch:
    """
    A collator for this process's part of a global batch. What the model makes of it weighs `share`, so that the mean
    over the processes is that of the whole batch: its weight by `weigh(sample)` times the number of processes. A
    process without a sample of its own gets one that weighs nothing, as all must take part in a step.
    """

    def __init__(self, collator: Callable, weigh: Callable[[object], int], process: PartialState):
        self.collator, self.weigh, self.process = collator, weigh, process

    def __call__(self, samples: Sequence) -> dict:
        mine = [samples[row] for row in chunk(len(samples), self.process)]
        weight, total = sum(map(self.weigh, mine)), sum(map(self.weigh, samples))
        return self.collator(mine or samples[:1]) | {"share": weight * self.process.num_processes / total}


__all__ = ["SeededOrders", "ShareOfBatch"]
