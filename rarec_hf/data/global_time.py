"""Global time: what came before a moment trains, what came after it measures."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from .interactions import Interactions, to_timestamp
from .splits import Split, draw_alignment_users, finish, order_rule, targets_at
from .timestamps import format_time

__all__ = ["global_time"]


def global_time(
    interactions: Interactions,
    *,
    validation_from: str | float | datetime.date | None = None,
    test_from: str | float | datetime.date | None = None,
    validation_share: float = 0.1,
    test_share: float = 0.1,
    alignment_fraction: float = 0.1,
    seed: int = 0,
) -> Split:
    """
    Two moments cut all users alike: interactions before the first train, a user's first interaction between them is
    the validation target, the first at or after the second the test target.

    Unlike leave-one-out, nothing that is trained on happened after anything that is measured. A target's history is
    everything the user did before the cut that opens its period: a test history holds interactions of the validation
    period, which no model was trained on. Users without any interaction before a cut are not measured there. Equal
    timestamps always fall on the same side.

    Args:
        interactions (`Interactions`): all of them.
        validation_from, test_from (`str`, `datetime.date` or number, *optional*): the cut points: dates, or numbers in
            the unit of the timestamps. An interaction at the moment itself falls after the cut.
        validation_share, test_share (`float`, *optional*, defaults to 0.1): the shares of all interactions in the two
            periods, which place a cut that is not given; each as near as equal timestamps allow.
        alignment_fraction (`float`, *optional*, defaults to 0.1): share of the users with at least 2 interactions in
            the training period that the ID encoder never sees; the alignment learns from them.
        seed (`int`, *optional*, defaults to 0): draws the alignment users.

    Raises:
        ValueError: a cut that is no moment, shares out of range, cuts that do not follow one another inside the data,
            or too few users for a side.
    """
    times, offsets = interactions.timestamps, interactions.offsets
    first_cut, second_cut = _cuts(interactions, validation_from, test_from, validation_share, test_share)
    lengths = np.diff(offsets)
    before_first, before_second = (_count_before(times, offsets, cut) for cut in (first_cut, second_cut))
    has_validation = (before_first >= 1) & (before_second > before_first)
    has_test = (before_second >= 1) & (lengths > before_second)
    active = (before_second > before_first, lengths > before_second)
    alignment_users = draw_alignment_users(
        np.flatnonzero(before_first >= 2), alignment_fraction, seed, "2 or more interactions before the first cut"
    )
    late = _first_seen_late(interactions, first_cut)
    validation_users, test_users = np.flatnonzero(has_validation), np.flatnonzero(has_test)
    skipped = [int((acts & ~has).sum()) for acts, has in zip(active, (has_validation, has_test), strict=True)]
    names = [format_time(cut, interactions.timestamp_unit) for cut in (first_cut, second_cut)]
    if interactions.timestamp_unit != "unknown":
        names = [f"{name} UTC (timestamp {cut})" for name, cut in zip(names, (first_cut, second_cut), strict=True)]
    sizes = [int(counts.sum()) for counts in (before_first, before_second - before_first, lengths - before_second)]
    rule = (
        f"Global time: cut at {names[0]} and at {names[1]}, an interaction at the moment itself falls after the cut; "
        f"{sizes[0]} interactions before the first cut train, {sizes[1]} lie between, {sizes[2]} after the second. "
        f"A user's interactions are {order_rule(interactions)}. Validation target: the first between the cuts "
        f"({len(validation_users)} users, history: all before the first cut). Test target: the first after the second "
        f"cut ({len(test_users)} users, history: all before the second cut, although models were trained on what came "
        f"before the first only). {skipped[0]} and {skipped[1]} users have no history there and are not measured; "
        f"{late} items that first appear after the first cut stay in the catalogue. {len(alignment_users)} users "
        f"({100 * alignment_fraction:g} % of those with at least 2 interactions before the first cut, seed {seed}) "
        "are held out from the ID encoder and train the alignment."
    )
    split = Split(
        "global_time",
        rule,
        interactions,
        encoder_users=np.setdiff1d(np.flatnonzero(before_first), alignment_users),
        alignment_users=alignment_users,
        train_ends=before_first,
        validation=targets_at(interactions, validation_users, before_first[validation_users]),
        test=targets_at(interactions, test_users, before_second[test_users]),
        report={
            "validation_from": names[0],
            "test_from": names[1],
            "users_without_history_in_validation": skipped[0],
            "users_without_history_in_test": skipped[1],
            "items_first_seen_after_training": late,
            "seed": seed,
        },
    )
    return finish(split)


def _cuts(
    interactions: Interactions, validation_from: Any, test_from: Any, validation_share: float, test_share: float
) -> tuple[float, float]:
    shares = {"validation_share": validation_share, "test_share": test_share}
    if min(shares.values()) <= 0 or sum(shares.values()) >= 1:
        raise ValueError(f"`validation_share` and `test_share` must be above 0 and sum to less than 1, got {shares}.")
    times, n = interactions.timestamps, len(interactions.timestamps)
    places = [min(n - 1, int((1 - share) * n)) for share in (validation_share + test_share, test_share)]
    if validation_from is None or test_from is None:
        by_share = np.partition(times, places)[places]
    given = [None if cut is None else to_timestamp(interactions, cut) for cut in (validation_from, test_from)]
    first, second = (by_share[i].item() if cut is None else cut for i, cut in enumerate(given))
    low, high = times.min().item(), times.max().item()
    if not low < first < second <= high:
        told = [f"{format_time(time, interactions.timestamp_unit)} ({time})" for time in (first, second, low, high)]
        raise ValueError(
            f"The cuts must follow one another inside the data: got {told[0]} and {told[1]}, the interactions reach "
            f"from {told[2]} to {told[3]}. Give other moments by `validation_from` and `test_from`, or other shares."
        )
    return first, second


def _count_before(times: np.ndarray, offsets: np.ndarray, cut: float) -> np.ndarray:
    """How many interactions of each user came before the cut; `(n_users,)`."""
    before = np.concatenate([[0], np.cumsum(times < cut)])
    return np.diff(before[offsets])


def _first_seen_late(interactions: Interactions, cut: float) -> int:
    early = np.zeros(interactions.n_items, dtype=bool)
    early[interactions.item_index[interactions.timestamps < cut]] = True
    return int((~early).sum())
