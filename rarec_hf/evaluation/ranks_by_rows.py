"""Ranks over a catalogue whose rows are spread over processes: each counts among its own rows, and counts add up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from ..catalogue_rows import together
from ..processes import dealt, speaks
from .counting import counted
from .ranks import Ranks, refuse_unrankable

if TYPE_CHECKING:
    from accelerate import PartialState

    from ..row_scoring import Query, RowScorer


def rank_by_rows(
    scorer: RowScorer,
    histories: Sequence[np.ndarray],
    targets: np.ndarray,
    starts: np.ndarray,
    *,
    users: np.ndarray | None,
    batch_size: int,
    exclude_seen: bool,
    progress: bool,
    description: str,
    process: PartialState | None,
) -> Ranks:
    """
    `rank_targets` of rows that were checked. Batches of histories are dealt out and read as with whole scores; then
    every process scores each of them over its rows, once for the targets that it holds and once to count.

    Args:
        starts (`np.ndarray`): the first row of each distinct history.

    Raises:
        ValueError: as `ranks_from_scores` raises it, or there is no `process`.
    """
    if process is None:
        raise ValueError(
            "The scorer's catalogue is spread over processes: expected `process=PartialState()` in every one of them, "
            "got None."
        )
    n, ends = len(targets), np.append(starts[1:], len(targets))
    greater, ties, nan, infinite = (np.zeros(n, dtype=np.int64) for _ in range(4))
    candidates = np.zeros(n, dtype=np.int64)
    mine = dealt(range(0, len(starts), batch_size), process)
    n_mine = sum(int(ends[min(start + batch_size, len(ends)) - 1] - starts[start]) for start in mine)
    record = getattr(scorer, "record", None)  # of a recorder of first items

    def asked() -> Iterator[tuple[np.ndarray, Query]]:
        for start in mine:
            first = starts[start : start + batch_size]
            seen = [np.asarray(histories[row]) for row in first]
            for query in scorer.queries(seen, users[first] if users is not None and scorer.takes_users else None):
                yield start + query.places, query

    with tqdm(total=n_mine, desc=description, unit="target", disable=not (progress and speaks(process))) as bar:
        for of_all in scorer.rounds(asked()):
            jobs = [_Job(*one, starts, ends, targets) for one in of_all if one is not None]
            owned = together([_own_scores(scorer, job) for job in jobs], process)
            for number, job in enumerate(jobs):
                own = np.zeros(len(job.rows), dtype=np.float32)
                for of_process in owned:
                    held, scores = of_process[number]
                    own[held] = scores
                seen = [np.unique(np.asarray(histories[starts[k]])) for k in job.numbers]
                if record is not None:
                    record(job.numbers, job.query, seen)
                left_out = [seen[place] if exclude_seen else seen[place][:0] for place in job.places]
                above, level, broken = _counts(scorer, job, own, left_out)
                greater[job.rows], ties[job.rows], nan[job.rows] = above, level, broken
                infinite[job.rows] = ~np.isfinite(own)
                candidates[job.rows] = scorer.n_items - np.array([len(items) for items in left_out])
            if of_all[process.process_index] is not None:
                bar.update(sum(len(job.rows) for job in jobs if job.query is of_all[process.process_index][1]))
    greater, ties, nan = (sum(of_all) for of_all in zip(*together((greater, ties, nan), process), strict=True))
    refuse_unrankable(nan > 0, infinite > 0)
    return Ranks(greater, ties - 1, candidates, users)  # the target equals itself


class _Job:
    """One query with its targets: `numbers` of its histories among the distinct ones, `rows` of the targets, `places`
    of their histories in the query."""

    def __init__(self, numbers: np.ndarray, query: Query, starts: np.ndarray, ends: np.ndarray, targets: np.ndarray):
        self.numbers, self.query = numbers, query
        self.rows = np.concatenate([np.arange(starts[k], ends[k]) for k in numbers])
        self.places = np.repeat(np.arange(len(numbers)), ends[numbers] - starts[numbers])
        self.targets = targets[self.rows].astype(np.int64)


def _own_scores(scorer: RowScorer, job: _Job) -> tuple[np.ndarray, np.ndarray]:
    """Which targets this process holds, and their scores."""
    held, scores = np.zeros(len(job.rows), dtype=bool), np.zeros(len(job.rows), dtype=np.float32)
    for piece in scorer.pieces:
        inside = np.flatnonzero((job.targets >= piece.start) & (job.targets < piece.stop))
        if len(inside):
            found = scorer.score(job.query, piece)
            scores[inside] = found[job.places[inside], job.targets[inside] - piece.start].cpu().numpy()
            held[inside] = True
    return held, scores[held]


def _counts(scorer: RowScorer, job: _Job, own: np.ndarray, left_out: list[np.ndarray]) -> Any:
    """Scores above each target's, and equal to it, among the rows of this process without the items left out; and
    whether there is NaN among them."""
    import torch

    rows = np.repeat(np.arange(len(job.rows)), [len(items) for items in left_out])
    items = np.concatenate(left_out).astype(np.int64)
    total: Any = [np.zeros(len(job.rows), dtype=np.int64) for _ in range(3)]
    one_each = len(job.places) == len(job.query)
    for piece in scorer.pieces:
        scores = scorer.score(job.query, piece)
        inside = (items >= piece.start) & (items < piece.stop)
        threshold = torch.from_numpy(own).to(scores.device)
        places = None if one_each else job.places
        for sums, found in zip(
            total, counted(scores, places, threshold, rows[inside], items[inside] - piece.start), strict=True
        ):
            sums += found
    return total


__all__ = ["rank_by_rows"]
