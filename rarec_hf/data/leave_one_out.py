"""Leave-one-out: every user's last interaction is the test target."""

from __future__ import annotations

import numpy as np

from .interactions import Interactions
from .splits import Split, draw_alignment_users, finish, order_rule, targets_at

__all__ = ["leave_one_out"]


def leave_one_out(interactions: Interactions, *, alignment_fraction: float = 0.1, seed: int = 0) -> Split:
    """
    Each user's last interaction is the test target and the one before it the validation target.

    Users with fewer than 3 interactions are only trained on. A random `alignment_fraction` of the users with at least
    4 (never less than one user) are the alignment users, whose training part the ID encoder never sees; all other
    users train the encoder. That costs the encoder less than holding out a position of every short history.

    Args:
        interactions (`Interactions`): all of them.
        alignment_fraction (`float`, *optional*, defaults to 0.1): between 0 and 1, both excluded.
        seed (`int`, *optional*, defaults to 0): draws the alignment users.

    Raises:
        ValueError: `alignment_fraction` out of range, or too few users for both sides.
    """
    lengths = np.diff(interactions.offsets)
    alignment_users = draw_alignment_users(
        np.flatnonzero(lengths >= 4), alignment_fraction, seed, "4 or more interactions"
    )
    measured = np.flatnonzero(lengths >= 3)
    n_short = interactions.n_users - len(measured)
    rule = (
        f"Leave-one-out: each user's interactions {order_rule(interactions)}, the last is the test target and the one "
        f"before it the validation target; {n_short} users with fewer than 3 interactions are only trained on; "
        f"{len(alignment_users)} users ({100 * alignment_fraction:g} % of those with at least 4 interactions, seed "
        f"{seed}) are held out from the ID encoder and train the alignment."
    )
    split = Split(
        "leave_one_out",
        rule,
        interactions,
        encoder_users=np.setdiff1d(np.arange(interactions.n_users), alignment_users),
        alignment_users=alignment_users,
        train_ends=np.where(lengths >= 3, lengths - 2, lengths),
        validation=targets_at(interactions, measured, lengths[measured] - 2),
        test=targets_at(interactions, measured, lengths[measured] - 1),
        report={"users_measured": len(measured), "users_too_short_to_measure": n_short, "seed": seed},
    )
    return finish(split)
