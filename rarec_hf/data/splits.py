"""Which interactions train the ID encoder, which the alignment, and which only measure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .interactions import Interactions

__all__ = ["SPLITS", "Split", "Targets", "check_no_leak", "leave_one_out"]


@dataclass(frozen=True, eq=False)
class Targets:
    """
    Pairs of a history and an item that came after it; row `r` is the history
    `interactions.history(users[r])[:ends[r]]` and the target `targets[r]`. Several rows of one user that share a
    history are several targets of it.

    Attributes:
        users (`np.ndarray` of shape `(n,)`): user indices.
        targets (`np.ndarray` of shape `(n,)`): item indices.
        ends (`np.ndarray` of shape `(n,)`): history lengths.
        positions (`np.ndarray` of shape `(n,)`, *optional*): where the targets stand in their users' interactions, at
            or after the end of the history; without them, right after it.
    """

    users: np.ndarray
    targets: np.ndarray
    ends: np.ndarray
    positions: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.users) == len(self.targets) == len(self.ends):
            raise ValueError(
                "`users`, `targets` and `ends` must have the same length, got "
                f"{len(self.users)}, {len(self.targets)} and {len(self.ends)}."
            )
        if self.positions is None:
            object.__setattr__(self, "positions", self.ends)
        elif len(self.positions) != len(self.ends):
            raise ValueError(
                f"`positions` must have one entry per row, expected {len(self.ends)}, got {len(self.positions)}."
            )

    def __len__(self) -> int:
        return len(self.users)

    def history(self, interactions: Interactions, row: int) -> np.ndarray:
        """The item indices that row `row` may know, oldest first."""
        return interactions.history(self.users[row])[: self.ends[row]]

    def take(self, rows: np.ndarray) -> Targets:
        """The rows `rows` (indices or a mask), in that order."""
        return Targets(self.users[rows], self.targets[rows], self.ends[rows], self.positions[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """
    Interactions divided into what the ID encoder trains on, what the alignment trains on, validation and test.

    The ID encoder under the alignment is trained on `encoder_users` only and the alignment on `alignment_users` only:
    an encoder that had seen the alignment's targets would be far better in training than in use, and the alignment
    would learn to copy it.

    Attributes:
        name (`str`): key in `SPLITS`.
        rule (`str`): the rule in one sentence, printed beside every result.
        interactions (`Interactions`): all of them.
        encoder_users, alignment_users (`np.ndarray`): disjoint user indices, ascending.
        train_ends (`np.ndarray` of shape `(n_users,)`): how many of each user's first interactions may be trained on.
        validation, test (`Targets`): what is measured; a test history includes the validation target.
        report (`dict[str, int | str]`): counts.
    """

    name: str
    rule: str
    interactions: Interactions
    encoder_users: np.ndarray
    alignment_users: np.ndarray
    train_ends: np.ndarray
    validation: Targets
    test: Targets
    report: dict[str, int | str] = field(default_factory=dict)

    def encoder_sequences(self) -> list[np.ndarray]:
        """The training part of the encoder users: all that the ID encoder under the alignment sees."""
        return self._train_sequences(self.encoder_users)

    def baseline_sequences(self) -> list[np.ndarray]:
        """The training part of all users, in user order: what every opponent in the table may see."""
        return self._train_sequences(np.arange(self.interactions.n_users))

    def _train_sequences(self, users: np.ndarray) -> list[np.ndarray]:
        return [self.interactions.history(user)[: self.train_ends[user]] for user in users]

    def alignment_samples(self, min_history: int = 1) -> Targets:
        """Every training position of the alignment users that has at least `min_history` (1 or more) items before."""
        if min_history < 1:
            raise ValueError(f"`min_history` must be at least 1, got {min_history}.")
        counts = np.maximum(self.train_ends[self.alignment_users] - min_history, 0)
        users = np.repeat(self.alignment_users, counts)
        ends = min_history + np.arange(len(users)) - np.repeat(counts.cumsum() - counts, counts)
        return Targets(users, self.interactions.item_index[self.interactions.offsets[users] + ends], ends)

    def validation_of(self, users: np.ndarray) -> Targets:
        """The validation rows of these users."""
        return self.validation.take(np.isin(self.validation.users, users))

    def seen_by_encoder_digest(self) -> str:
        """sha256 over the users, items and order that the ID encoder trains on; stored with it as its provenance."""
        digest = hashlib.sha256()
        for texts in (self.interactions.items.item_ids, [self.interactions.user_ids[u] for u in self.encoder_users]):
            digest.update(json.dumps(texts).encode())
        sequences = self.encoder_sequences()
        digest.update(np.array([len(sequence) for sequence in sequences], dtype="<i8").tobytes())
        digest.update(np.concatenate(sequences).astype("<i8").tobytes())
        return digest.hexdigest()


def check_no_leak(split: Split) -> None:
    """
    Check that no position serves two of: ID encoder training, alignment targets, validation, test.

    Raises:
        ValueError: naming the first user for whom it is not so.
    """
    interactions = split.interactions
    lengths = np.diff(interactions.offsets)

    def refuse(users: np.ndarray, what: str) -> None:
        if len(users):
            raise ValueError(
                f"The split `{split.name}` leaks: {what} ({len(users)} cases, the first of user "
                f"{interactions.user_ids[users[0]]!r})."
            )

    refuse(np.flatnonzero(split.train_ends > lengths), "the training part is longer than the history")
    owner = np.repeat(np.arange(interactions.n_users), lengths)
    in_train = np.arange(len(owner)) - interactions.offsets[owner] < split.train_ends[owner]
    seen_by_encoder = in_train & np.isin(owner, split.encoder_users)
    measured = np.zeros(len(owner), dtype=bool)
    named = {"alignment": split.alignment_samples(), "validation": split.validation, "test": split.test}
    for name, rows in named.items():
        outside = (rows.ends < 1) | (rows.positions < rows.ends) | (rows.positions >= lengths[rows.users])
        refuse(rows.users[outside], f"{name} positions outside a history")
        flat = interactions.offsets[rows.users] + rows.positions
        misplaced = interactions.item_index[flat] != rows.targets
        refuse(rows.users[misplaced], f"{name} targets that are not at their place")
        if name == "alignment":
            refuse(rows.users[seen_by_encoder[flat]], "alignment targets that the ID encoder was trained on")
            continue
        refuse(rows.users[in_train[flat]], f"{name} targets inside the training part")
        refuse(rows.users[measured[flat]], f"{name} targets that validation holds too")
        measured[flat] = True
    both = np.intersect1d(split.encoder_users, split.alignment_users)
    refuse(both, "users of both the ID encoder and the alignment")


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
    if not 0 < alignment_fraction < 1:
        raise ValueError(
            f"`alignment_fraction` must lie between 0 and 1, both excluded, got {alignment_fraction}: the ID encoder "
            "and the alignment must learn from different users."
        )
    lengths = np.diff(interactions.offsets)
    eligible = np.flatnonzero(lengths >= 4)
    if len(eligible) == 0:
        raise ValueError("No user has 4 or more interactions: the alignment has nothing to learn from.")
    n_alignment = max(1, round(alignment_fraction * len(eligible)))
    alignment_users = np.sort(np.random.default_rng(seed).permutation(eligible)[:n_alignment])
    encoder_users = np.setdiff1d(np.arange(interactions.n_users), alignment_users)
    train_ends = np.where(lengths >= 3, lengths - 2, lengths)
    if not (train_ends[encoder_users] >= 2).any():
        raise ValueError(
            f"{n_alignment} of {interactions.n_users} users are held out for the alignment, and none of the others "
            "has 2 interactions to train the ID encoder on. Lower `alignment_fraction` or bring more users."
        )

    measured = np.flatnonzero(lengths >= 3)
    validation, test = (
        Targets(measured, interactions.item_index[interactions.offsets[measured] + ends], ends)
        for ends in (lengths[measured] - 2, lengths[measured] - 1)
    )
    n_short = interactions.n_users - len(measured)
    tie_order = interactions.report.get("tie_order", "order of the rows")
    ties = interactions.report.get("tied_consecutive_interactions", "an unknown share")
    rule = (
        f"Leave-one-out: each user's interactions sorted stably by time (equal times by {tie_order}; {ties} of "
        "consecutive interactions have equal times), the last is the test target and the one before it the validation "
        f"target; {n_short} users with fewer than 3 interactions are only trained on; {n_alignment} users "
        f"({100 * alignment_fraction:g} % of those with at least 4 interactions, seed {seed}) are held out from the "
        "ID encoder and train the alignment."
    )
    seen = np.zeros(interactions.n_items, dtype=bool)
    split = Split(
        "leave_one_out", rule, interactions, encoder_users, alignment_users, train_ends, validation, test, report={}
    )
    sequences = split.encoder_sequences()
    seen[np.concatenate(sequences)] = True
    split.report.update(
        {
            "users": interactions.n_users,
            "users_measured": len(measured),
            "users_too_short_to_measure": n_short,
            "encoder_users": len(encoder_users),
            "encoder_interactions": sum(map(len, sequences)),
            "items_never_seen_by_encoder": int((~seen).sum()),
            "alignment_users": n_alignment,
            "alignment_samples": len(split.alignment_samples()),
            "seed": seed,
        }
    )
    check_no_leak(split)
    return split


SPLITS: dict[str, Callable[..., Split]] = {"leave_one_out": leave_one_out}
