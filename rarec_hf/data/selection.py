"""Which samples are worth aligning on: denoising, user diversity and item diversity."""

from __future__ import annotations

import re

import numpy as np
from tqdm.auto import tqdm

from .catalogue import ItemTable, placeholder_title
from .splits import Split, Targets

__all__ = ["select_samples", "title_words"]

WORD = re.compile(r"[^\W_]+")
YEAR = re.compile(r"(1[89]|20)\d\d")
STOP_WORDS = frozenset(
    "a an and as at by for from in into is it its no not of on or the this to with s t de la le el vol volume".split()
)


def title_words(items: ItemTable) -> list[frozenset[str]]:
    """The lower-cased words of each title, without stop words and years; none for a placeholder title."""
    return [
        frozenset(word for word in WORD.findall(title.lower()) if word not in STOP_WORDS and not YEAR.fullmatch(word))
        if title != placeholder_title(item_id)
        else frozenset()
        for item_id, title in zip(items.item_ids, items.titles, strict=True)
    ]


def select_samples(
    split: Split,
    n_samples: int,
    *,
    seed: int = 0,
    denoise: bool = False,
    user_diversity: bool = True,
    item_diversity: bool = True,
    max_history: int = 20,
    n_buckets: int = 10,
) -> tuple[Targets, dict[str, int | str]]:
    """
    Draw alignment samples evenly over history lengths and target popularity (RA-Rec, "data construction").

    - `denoise` drops a sample whose target title shares no word with any of the last `max_history` titles before it.
    - `user_diversity` buckets samples by history length. The bucket edges are quantiles over the alignment *users*
      (their training lengths), so that an even draw has the lengths met in use, not those of a few long histories.
    - `item_diversity` buckets samples by the popularity of their target. The edges are quantiles over the distinct
      target *items*; quantiles over the samples would give every bucket the same share already and change nothing.
      Popularity counts the training part of all users; validation and test targets are not counted.
    - The draw goes round the filled cells of the grid, one random sample from each, without replacement: a cell that
      runs out gives all it has and the others make up for it.

    Args:
        split (`Split`): its alignment samples are drawn from.
        n_samples (`int`): how many; 0 or less, or more than there are, takes all.
        seed (`int`, *optional*, defaults to 0): the same seed gives the same samples in the same, shuffled, order.
        denoise, user_diversity, item_diversity (`bool`, *optional*): the three rules.
        max_history (`int`, *optional*, defaults to 20): how many titles of the history the hard prompt shows.
        n_buckets (`int`, *optional*, defaults to 10): the most buckets on each side; equal values never part.

    Returns:
        the samples as [`Targets`] and a report: available, dropped as noise, drawn, and the grid.

    Raises:
        ValueError: `max_history` or `n_buckets` below 1, or no sample left after denoising.
    """
    if max_history < 1 or n_buckets < 1:
        raise ValueError(f"`max_history` and `n_buckets` must be at least 1, got {max_history} and {n_buckets}.")
    samples = split.alignment_samples()
    available = len(samples)
    if denoise:
        samples = samples.take(_shares_a_word(split, samples, max_history))
        if len(samples) == 0:
            raise ValueError(
                f"Denoising dropped all {available} alignment samples: no target title shares a word with its "
                "history. Switch `denoise` off for these data."
            )

    rng = np.random.default_rng(seed)
    lengths = popularity = np.zeros(len(samples), dtype=np.int64)
    if user_diversity:
        longest = split.train_ends[split.alignment_users] - 1  # the longest history of each user's samples
        lengths = _buckets(samples.ends, longest, n_buckets)
    if item_diversity:
        counts = np.bincount(np.concatenate(split.baseline_sequences()), minlength=split.interactions.n_items)
        popularity = _buckets(counts[samples.targets], counts[np.unique(samples.targets)], n_buckets)
    cells = lengths * n_buckets + popularity
    n_drawn = len(samples) if n_samples <= 0 else min(n_samples, len(samples))
    drawn = rng.permutation(_round_robin(cells, rng)[:n_drawn])
    selected = samples.take(drawn)
    return selected, {
        "samples_available": available,
        "samples_dropped_as_noise": available - len(samples),
        "samples_drawn": len(selected),
        "length_buckets": len(np.unique(lengths)),
        "popularity_buckets": len(np.unique(popularity)),
        "cells_filled": len(np.unique(cells)),
        "cells_drawn_from": len(np.unique(cells[drawn])),
        "users_drawn": len(np.unique(selected.users)),
        "target_items_drawn": len(np.unique(selected.targets)),
        "seed": seed,
    }


def _shares_a_word(split: Split, samples: Targets, max_history: int) -> np.ndarray:
    words = title_words(split.interactions.items)
    keep = np.zeros(len(samples), dtype=bool)
    for row in tqdm(range(len(samples)), desc="Denoising samples", delay=3, leave=False):
        target = words[samples.targets[row]]
        recent = samples.history(split.interactions, row)[-max_history:]
        keep[row] = any(not target.isdisjoint(words[item]) for item in recent)
    return keep


def _buckets(values: np.ndarray, reference: np.ndarray, n_buckets: int) -> np.ndarray:
    """The bucket of each value, between the quantiles of `reference`; edges that coincide are one edge."""
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, n_buckets + 1)[1:-1]))
    return np.searchsorted(edges, values, side="left")


def _round_robin(cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All rows, ordered so that any first `n` of them are spread over the cells as evenly as they allow."""
    rows = rng.permutation(len(cells))
    rows = rows[np.argsort(cells[rows], kind="stable")]  # cell after cell, random inside a cell
    starts = np.searchsorted(cells[rows], cells[rows])
    turn = np.arange(len(rows)) - starts
    return rows[np.lexsort((rng.random(len(rows)), turn))]
