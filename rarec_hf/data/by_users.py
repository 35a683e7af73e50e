"""By users: some are trained on, others only measured, with several targets each; the protocol of ComiRec."""

from __future__ import annotations

import numpy as np

from .interactions import Interactions
from .splits import Split, Targets, draw_alignment_users, finish, order_rule, targets_at

__all__ = ["by_users"]


def by_users(
    interactions: Interactions,
    *,
    validation_share: float = 0.1,
    test_share: float = 0.1,
    history_share: float = 0.8,
    alignment_fraction: float = 0.1,
    seed: int = 0,
) -> Split:
    """
    A seeded draw of the users is only measured, in validation or in test; all others are only trained on. The first
    `history_share` of a measured user's interactions is the history and every later one a target.

    With its defaults this is the protocol of ComiRec's code (Cen et al. 2020): users 80 / 10 / 10, and the first
    `int(0.8 * n)` interactions of a measured user as the history. It measures models on users they have never seen.
    ComiRec ranks seen items too: rank with `exclude_seen=False` for a comparison with it.

    Args:
        interactions (`Interactions`): all of them.
        validation_share, test_share (`float`, *optional*, defaults to 0.1): shares of the users that are measured.
        history_share (`float`, *optional*, defaults to 0.8): share of a measured user's interactions that is the
            history; at least one interaction is.
        alignment_fraction (`float`, *optional*, defaults to 0.1): share of the trained users with at least 2
            interactions that the ID encoder never sees; the alignment learns from them.
        seed (`int`, *optional*, defaults to 0): draws the users.

    Raises:
        ValueError: a share out of range, or too few users for a side.
    """
    if min(validation_share, test_share) <= 0 or validation_share + test_share >= 1 or not 0 < history_share < 1:
        raise ValueError(
            "`validation_share` and `test_share` must be above 0 and sum to less than 1, `history_share` must lie "
            f"between 0 and 1, got {validation_share}, {test_share} and {history_share}."
        )
    n_users, lengths = interactions.n_users, np.diff(interactions.offsets)
    order = np.random.default_rng(seed).permutation(n_users)
    n_validation, n_test = (max(1, round(share * n_users)) for share in (validation_share, test_share))
    held_out = [np.sort(order[:n_validation]), np.sort(order[n_validation : n_validation + n_test])]
    trained = np.sort(order[n_validation + n_test :])
    alignment_users = draw_alignment_users(
        trained[lengths[trained] >= 2], alignment_fraction, seed, "2 or more interactions among those trained on"
    )
    train_ends = np.zeros(n_users, dtype=lengths.dtype)
    train_ends[trained] = lengths[trained]
    validation, test = (_later_part(interactions, users, lengths[users], history_share) for users in held_out)
    n_short = sum(int((lengths[users] < 2).sum()) for users in held_out)
    rule = (
        f"By users: {len(trained)} users, drawn with seed {seed}, are trained on; {n_validation} "
        f"({100 * validation_share:g} %) are measured in validation and {n_test} ({100 * test_share:g} %) in test and "
        f"never trained on. Of a measured user's n interactions, {order_rule(interactions)}, the first "
        f"int({history_share:g} n), at least one, are the history and all later ones are targets "
        f"({len(validation)} in validation, {len(test)} in test); {n_short} users with a single interaction cannot be "
        f"measured. {len(alignment_users)} users ({100 * alignment_fraction:g} % of the trained ones with at least 2 "
        f"interactions, seed {seed}) are held out from the ID encoder and train the alignment."
    )
    split = Split(
        "by_users",
        rule,
        interactions,
        encoder_users=np.setdiff1d(trained, alignment_users),
        alignment_users=alignment_users,
        train_ends=train_ends,
        validation=validation,
        test=test,
        report={"users_trained_on": len(trained), "users_too_short_to_measure": n_short, "seed": seed},
    )
    return finish(split)


def _later_part(interactions: Interactions, users: np.ndarray, lengths: np.ndarray, history_share: float) -> Targets:
    """Every interaction after the first `history_share` of these users, as targets of one history a user."""
    ends = np.maximum(1, (history_share * lengths).astype(np.int64))
    counts = np.maximum(lengths - ends, 0)
    rows = np.repeat(np.arange(len(users)), counts)
    positions = ends[rows] + np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
    return targets_at(interactions, users[rows], ends[rows], positions)
