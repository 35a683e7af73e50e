"""Which samples are worth aligning on: denoising, user diversity and item diversity."""

from __future__ import annotations

import numpy as np

from .catalogue import placeholder_title
from .ordering import distinct
from .selection_report import Distribution, SelectionReport
from .sequences import covered
from .splits import Split, Targets
from .words import word_incidence

__all__ = ["count_of", "select_samples"]

PAIRS_AT_ONCE = 1 << 20  # pairs of a sample and a title of its history whose words are compared together


def select_samples(
    split: Split,
    budget: int | float = 0,
    *,
    seed: int = 0,
    denoise: bool = False,
    user_diversity: bool = True,
    item_diversity: bool = True,
    whole_users: bool = False,
    max_history: int = 20,
    n_buckets: int = 10,
) -> tuple[Targets, SelectionReport]:
    """
    Draw alignment samples evenly over history lengths and target popularity (RA-Rec, "data construction").

    - `denoise` drops a sample whose target title shares no word with any of the last `max_history` titles before it;
      see [`title_words`] for what a word is. A placeholder title has none.
    - `user_diversity` buckets samples by history length. The bucket edges are quantiles over the alignment *users*
      (their training lengths), so that an even draw has the lengths met in use, not those of a few long histories.
    - `item_diversity` buckets samples by the popularity of their target. The edges are quantiles over the distinct
      target *items*; quantiles over the samples would give every bucket the same share already and change nothing.
      Popularity counts the training part of all users; validation and test targets are not counted.
    - The draw goes round the filled cells of the grid, one random sample from each, without replacement: a cell that
      runs out gives all it has and the others make up for it.

    Each rule can be used alone; without any, the draw is uniform.

    - `whole_users` draws users instead, each with all samples (the last with as many as the budget leaves, its
      earliest): one text of a user then serves several samples. The two diversities go by a user's longest history and
      by the median popularity of its targets.

    Args:
        split (`Split`): its alignment samples are drawn from.
        budget (`int` or `float`, *optional*, defaults to 0): how many: a count (more than there are takes all), a
            fraction of all alignment samples between 0 and 1, or 0 for all.
        seed (`int`, *optional*, defaults to 0): the same seed gives the same samples in the same, shuffled, order.
        denoise, user_diversity, item_diversity (`bool`, *optional*): the three rules.
        whole_users (`bool`, *optional*): draw users with all their samples.
        max_history (`int`, *optional*, defaults to 20): how many titles of the history the hard prompt shows.
        n_buckets (`int`, *optional*, defaults to 10): the most buckets on each side; equal values never part.

    Returns:
        the samples as [`Targets`] and a [`SelectionReport`].

    Raises:
        ValueError: a budget that is neither, `max_history` or `n_buckets` below 1, or no sample left after denoising.
    """
    if max_history < 1 or n_buckets < 1:
        raise ValueError(f"`max_history` and `n_buckets` must be at least 1, got {max_history} and {n_buckets}.")
    samples = split.alignment_samples()
    n_samples = count_of(budget, len(samples))
    kept = np.arange(len(samples))
    if denoise:
        kept = np.flatnonzero(_shares_a_word(split, samples, max_history))
        if len(kept) == 0:
            raise ValueError(
                f"Denoising dropped all {len(samples)} alignment samples: no target title shares a word with its "
                "history. Switch `denoise` off for these data."
            )

    longest = split.train_ends[split.alignment_users] - 1  # the longest history of each user's samples
    lengths = _buckets(samples.ends, longest, n_buckets)
    counts = np.bincount(split.baseline_sequences().flat(), minlength=split.interactions.n_items)
    popularity = _buckets(counts[samples.targets], counts[distinct(samples.targets[kept])], n_buckets)

    rng = np.random.default_rng(seed)
    if whole_users:
        users = _Users(samples.users[kept])
        median = users.median(popularity[kept])
        cells = users.spread(user_diversity * lengths[kept][users.last] * n_buckets + item_diversity * median)
        order = users.draw(cells, n_samples, rng)
    else:
        cells = (user_diversity * lengths * n_buckets + item_diversity * popularity)[kept]
        order = rng.permutation(_round_robin(cells, n_samples, rng))
    drawn = kept[order]
    selected = samples.take(drawn)
    return selected, SelectionReport(
        counts={
            "samples_available": len(samples),
            "samples_dropped_as_noise": len(samples) - len(kept),
            "samples_drawn": len(selected),
            "length_buckets": len(distinct(lengths[kept])) if user_diversity else 1,
            "popularity_buckets": len(distinct(popularity[kept])) if item_diversity else 1,
            "cells_filled": len(distinct(cells)),
            "cells_drawn_from": len(distinct(cells[order])),
            "users_drawn": len(distinct(selected.users)),
            "target_items_drawn": len(distinct(selected.targets)),
            "seed": seed,
        },
        rules={"denoise": denoise, "user_diversity": user_diversity, "item_diversity": item_diversity},
        history_length=Distribution.of(samples.ends, lengths, drawn),
        target_popularity=Distribution.of(counts[samples.targets], popularity, drawn),
    )


def count_of(budget: int | float, available: int) -> int:
    if budget < 0 or isinstance(budget, bool) or (budget >= 1 and budget != int(budget)):
        raise ValueError(
            f"`budget` must be a whole number of samples, a fraction between 0 and 1 or 0 for all, got {budget!r} "
            "(`--alignment_samples`)."
        )
    if budget == 0:
        return available
    return min(int(budget), available) if budget >= 1 else max(1, round(budget * available))


def _shares_a_word(split: Split, samples: Targets, max_history: int) -> np.ndarray:
    """Whether each sample's target title has a word in common with the last titles of its history; `(n,)` bool."""
    from scipy import sparse

    interactions, items = split.interactions, split.interactions.items
    windows = np.minimum(samples.ends, max_history)
    firsts = interactions.offsets[samples.users] + samples.ends - windows  # where each window begins
    used = np.zeros(interactions.n_items, dtype=bool)
    used[samples.targets] = True
    used[interactions.item_index[covered(firsts, windows, len(interactions.item_index))]] = True
    titles = [
        title if is_used and title != placeholder_title(item_id) else ""
        for item_id, title, is_used in zip(items.item_ids, items.titles, used.tolist(), strict=True)
    ]
    words = word_incidence(titles)  # (n_items, n_words)

    keep = np.zeros(len(samples), dtype=bool)
    step = max(1, PAIRS_AT_ONCE // max_history)
    for start in range(0, len(samples), step):
        part = slice(start, start + step)
        ends = windows[part].cumsum()
        places = np.arange(ends[-1]) + np.repeat(firsts[part] - (ends - windows[part]), windows[part])
        pointers = np.concatenate([[0], ends])
        recent = sparse.csr_matrix(
            (np.ones(len(places), dtype=np.int32), interactions.item_index[places], pointers),
            shape=(len(ends), interactions.n_items),
        )
        common = (recent @ words).multiply(words[samples.targets[part]])  # (samples, n_words)
        keep[part] = np.asarray(common.sum(axis=1)).ravel() > 0
    return keep


def _buckets(values: np.ndarray, reference: np.ndarray, n_buckets: int) -> np.ndarray:
    """The bucket of each value, between the quantiles of `reference`; edges that coincide are one edge."""
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, n_buckets + 1)[1:-1]))
    return np.searchsorted(edges, values, side="left")


class _Users:
    """Samples that stand side by side for each user, in order of time."""

    def __init__(self, user_of_sample: np.ndarray) -> None:
        self.users = user_of_sample
        self.first = np.flatnonzero(np.diff(user_of_sample, prepend=-1))
        self.sizes = np.diff(self.first, append=len(user_of_sample))
        self.last = self.first + self.sizes - 1

    def median(self, values: np.ndarray) -> np.ndarray:
        """Of each user's samples, the higher of two."""
        return values[np.lexsort((values, self.users))[self.first + self.sizes // 2]]

    def spread(self, of_user: np.ndarray) -> np.ndarray:
        return np.repeat(of_user, self.sizes)

    def draw(self, cells: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """`n` samples of users that are drawn evenly over their cells, user after user."""
        turn = _round_robin(cells[self.first], len(self.first), rng)
        ends = self.sizes[turn].cumsum()
        places = np.arange(ends[-1]) - np.repeat(ends - self.sizes[turn], self.sizes[turn])
        return (np.repeat(self.first[turn], self.sizes[turn]) + places)[:n]


def _round_robin(cells: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` rows, spread over the cells as evenly as they allow."""
    rows = rng.permutation(len(cells))
    cell_of_row = cells[rows]
    if cell_of_row.max(initial=0) < 2**15:
        cell_of_row = cell_of_row.astype(np.int16)  # which numpy sorts by radix
    rows = rows[np.argsort(cell_of_row, kind="stable")]  # cell after cell, random inside a cell
    sizes = np.bincount(cells)
    turn = np.arange(len(rows)) - np.repeat(sizes.cumsum() - sizes, sizes)
    chance = rng.random(len(rows))
    # only the turns that the first n rows come from are put into order
    enough = np.searchsorted(np.bincount(turn).cumsum(), n)
    near = np.flatnonzero(turn <= enough)
    return rows[near[np.lexsort((chance[near], turn[near]))]][:n]
