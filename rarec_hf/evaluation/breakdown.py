"""Who gains: metrics by groups of targets, such as those of short histories or of items nobody bought before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .metrics import metric_label, metric_per_user
from .ranks import Ranks

if TYPE_CHECKING:
    from ..data.splits import Split, Targets  # needs pandas, which a reader of ranks does not

DAY = {"seconds": 86_400, "milliseconds": 86_400_000, "microseconds": 86_400_000_000, "nanoseconds": 86_400 * 10**9}


@dataclass(frozen=True)
class Grouping:
    """
    One way to divide targets.

    Args:
        title (`str`): what they are divided by.
        labels (`tuple[str, ...]`): the groups' names, in order.
        group (`np.ndarray` of shape `(n,)`): each target's group, an index into `labels`.
    """

    title: str
    labels: tuple[str, ...]
    group: np.ndarray

    def __repr__(self) -> str:
        counts = np.bincount(self.group, minlength=len(self.labels)).tolist()
        return f"Grouping({self.title!r}, {dict(zip(self.labels, counts, strict=True))})"


def popularity_groups(counts: np.ndarray) -> np.ndarray:
    """
    Items by how often they occur in training, `(n_items,)`: 0 never; 1 tail, 2 mid and 3 head, each of which holds
    about a third of the interactions.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    third = np.minimum(2, 3 * before // max(1, int(counts.sum())))
    groups = np.empty(len(counts), dtype=np.int64)
    groups[order] = 3 - third
    groups[counts == 0] = 0
    return groups


def groupings_of(split: Split, targets: Targets) -> list[Grouping]:
    """
    Targets by history length (thirds of the users), by popularity in the training of all users (head, mid and tail
    hold a third of the interactions each; unseen) and, where timestamps have a unit, by whether the target came within
    a day of the item before it.
    """
    interactions = split.interactions
    lengths = targets.ends
    cuts = sorted({int(cut) for cut in np.quantile(lengths, [1 / 3, 2 / 3], method="inverted_cdf")})
    bounds = [int(lengths.min()), *(cut + 1 for cut in cuts if cut < lengths.max())]
    labels = [
        f"{low} to {high - 1}" if high - 1 > low else str(low) for low, high in zip(bounds, bounds[1:], strict=False)
    ]
    labels.append(f"{bounds[-1]} and more")
    by_length = np.searchsorted(bounds, lengths, side="right") - 1
    counts = np.bincount(split.baseline_sequences().flat(), minlength=interactions.n_items)
    found = [
        Grouping("items in the history", tuple(labels), by_length),
        Grouping(
            "popularity of the target", ("unseen", "tail", "mid", "head"), popularity_groups(counts)[targets.targets]
        ),
    ]
    if day := DAY.get(interactions.timestamp_unit):
        starts = interactions.offsets[targets.users]
        times = interactions.timestamps
        gap = times[starts + targets.positions] - times[starts + targets.ends - 1]
        found.append(Grouping("time since the item before", ("within a day", "a day or more"), (gap >= day) * 1))
    return found


def break_down(
    rows: Sequence[tuple[str, Ranks | Sequence[Ranks]]], groupings: Sequence[Grouping], metric: str = "ndcg@10"
) -> str:
    """
    A markdown table of each row's `metric` in each group of targets that is not empty.

    Args:
        rows (`list[tuple[str, Ranks]]`): methods and the ranks of the same targets; of several seeds a list of ranks,
            whose mean is shown.

    Raises:
        ValueError: a grouping is of another number of targets.
    """
    header = [f"{metric_label(metric)} by", "group", "targets", *(name.replace("|", "\\|") for name, _ in rows)]
    lines = [header, [":---", ":---", *["---:"] * (1 + len(rows))]]
    for grouping in groupings:
        for name, ranks in [(name, one) for name, seeds in rows for one in _seeds(seeds)]:
            if len(ranks) != len(grouping.group):
                raise ValueError(
                    f"Grouping by {grouping.title} has {len(grouping.group)} targets, row {name!r} {len(ranks)}."
                )
        title = grouping.title
        for number, label in enumerate(grouping.labels):
            members = grouping.group == number
            if not members.any():
                continue
            taken = [[one.take(members) for one in _seeds(ranks)] for _, ranks in rows]
            values = (f"{metric_per_user(seeds, metric).mean():.4f}" for seeds in taken)
            lines.append([title, label, f"{members.sum():,}", *values])
            title = ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _seeds(ranks: Ranks | Sequence[Ranks]) -> Sequence[Ranks]:
    return [ranks] if isinstance(ranks, Ranks) else ranks


__all__ = ["Grouping", "break_down", "groupings_of", "popularity_groups"]
