"""Which interactions train the ID encoder, which the alignment, and which only measure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from .interactions import Interactions
from .ordering import distinct
from .sequences import Sequences, covered

__all__ = ["Split", "Targets", "check_no_leak", "draw_alignment_users", "finish", "order_rule", "targets_at"]


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

    def __repr__(self) -> str:
        return f"Targets({len(self)} targets of {len(np.unique(self.users))} users)"

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
        name (`str`): key in [`SPLITS`].
        rule (`str`): the rule in one sentence, printed beside every result.
        interactions (`Interactions`): all of them.
        encoder_users, alignment_users (`np.ndarray`): disjoint user indices, ascending.
        train_ends (`np.ndarray` of shape `(n_users,)`): how many of each user's first interactions may be trained on;
            0 for users who are only measured.
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

    def __repr__(self) -> str:
        return (
            f"Split({self.name}, {self.interactions!r}, encoder_users={len(self.encoder_users)}, "
            f"alignment_users={len(self.alignment_users)}, validation={len(self.validation)}, test={len(self.test)})"
        )

    def encoder_sequences(self) -> Sequences:
        """The training part of the encoder users: all that the ID encoder under the alignment sees."""
        return self.train_sequences(self.encoder_users)

    def baseline_sequences(self) -> Sequences:
        """The training part of all users, in user order: what every opponent in the table may see."""
        return self.train_sequences(np.arange(self.interactions.n_users))

    def refit_sequences(self, users: np.ndarray | None = None, held_out: np.ndarray | None = None) -> Sequences:
        """
        The training part and the validation targets of `users` (all by default, in user order): for a last training,
        of which validation has chosen everything, the number of epochs too.

        Args:
            held_out (`np.ndarray`, *optional*): users whose validation targets stay out, for weights to be fitted on.
        """
        ends = self.train_ends.copy()
        rows = np.ones(len(self.validation), dtype=bool)
        if held_out is not None:
            rows = ~_is_one_of(held_out, self.interactions.n_users)[self.validation.users]
        np.maximum.at(ends, self.validation.users[rows], self.validation.positions[rows] + 1)
        return self._sequences(np.arange(self.interactions.n_users) if users is None else users, ends)

    def train_sequences(self, users: np.ndarray) -> Sequences:
        """The training part of these users."""
        return self._sequences(users, self.train_ends)

    def _sequences(self, users: np.ndarray, ends: np.ndarray) -> Sequences:
        starts = self.interactions.offsets[users]
        return Sequences(self.interactions.item_index, starts, starts + ends[users])

    def alignment_samples(self, min_history: int = 1) -> Targets:
        """Every training position of the alignment users that has at least `min_history` (1 or more) items before."""
        if min_history < 1:
            raise ValueError(f"`min_history` must be at least 1, got {min_history}.")
        counts = np.maximum(self.train_ends[self.alignment_users] - min_history, 0)
        users = np.repeat(self.alignment_users, counts)
        ends = min_history + np.arange(len(users)) - np.repeat(counts.cumsum() - counts, counts)
        return Targets(users, self.interactions.item_index[self.interactions.offsets[users] + ends], ends)

    def validation_of(self, users: np.ndarray) -> Targets:
        """
        The validation rows that may choose among models trained on `users`: their own, or all where nobody who is
        measured in validation is trained on.
        """
        if not self.train_ends[self.validation.users].any():
            return self.validation
        return self.validation.take(_is_one_of(users, self.interactions.n_users)[self.validation.users])

    def seen_by_encoder_digest(self, sequences: Sequences | None = None) -> str:
        """sha256 over the users, items and order that the ID encoder trains on, `encoder_sequences()` unless others of
        the encoder users are given; stored with it as its provenance."""
        digest = hashlib.sha256()
        user_ids = list(self.interactions.user_ids)
        for texts in (list(self.interactions.items.item_ids), [user_ids[user] for user in self.encoder_users]):
            digest.update(json.dumps(texts).encode())
        sequences = self.encoder_sequences() if sequences is None else sequences
        digest.update(sequences.lengths().astype("<i8").tobytes())
        digest.update(sequences.flat().astype("<i8").tobytes())
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
    n_interactions = len(interactions.item_index)
    in_train, seen_by_encoder = (
        covered(interactions.offsets[users], split.train_ends[users], n_interactions)
        for users in (np.arange(interactions.n_users), split.encoder_users)
    )
    measured = np.zeros(n_interactions, dtype=bool)
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


def _is_one_of(members: np.ndarray, n: int) -> np.ndarray:
    flags = np.zeros(n, dtype=bool)
    flags[members] = True
    return flags


def targets_at(
    interactions: Interactions, users: np.ndarray, ends: np.ndarray, positions: np.ndarray | None = None
) -> Targets:
    """[`Targets`] of these users, histories' ends and, *optionally*, positions; the items are looked up."""
    at = ends if positions is None else positions
    return Targets(users, interactions.item_index[interactions.offsets[users] + at], ends, positions)


def draw_alignment_users(eligible: np.ndarray, fraction: float, seed: int, need: str) -> np.ndarray:
    """
    A seeded `fraction` of the eligible users (at least one), ascending: the ones that train the alignment.

    Args:
        need (`str`): what makes a user eligible, for the text of the error.

    Raises:
        ValueError: `fraction` is not between 0 and 1, or nobody is eligible.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"`alignment_fraction` must lie between 0 and 1, both excluded, got {fraction}: the ID encoder "
            "and the alignment must learn from different users."
        )
    if len(eligible) == 0:
        raise ValueError(f"No user has {need}: the alignment has nothing to learn from.")
    n_alignment = max(1, round(fraction * len(eligible)))
    return np.sort(np.random.default_rng(seed).permutation(eligible)[:n_alignment])


def order_rule(interactions: Interactions) -> str:
    """How a user's interactions are ordered and how many of them only the tie rule orders."""
    tie_order = interactions.report.get("tie_order", "order of the rows")
    ties = interactions.report.get("tied_consecutive_interactions", "an unknown share")
    return f"sorted stably by time (equal times by {tie_order}; {ties} of consecutive interactions have equal times)"


def finish(split: Split) -> Split:
    """
    Checks a new split and writes its sizes into its report.

    Raises:
        ValueError: it leaks, or nobody is left to train the ID encoder or to be measured.
    """
    interactions, n_alignment = split.interactions, len(split.alignment_users)
    if not (split.train_ends[split.encoder_users] >= 2).any():
        raise ValueError(
            f"{n_alignment} of {interactions.n_users} users are held out for the alignment, and none of the others "
            "has 2 interactions to train the ID encoder on. Lower `alignment_fraction` or bring more users."
        )
    for name, rows in (("validation", split.validation), ("test", split.test)):
        if len(rows) == 0:
            raise ValueError(
                f"The split `{split.name}` leaves no {name} target. Bring more users and interactions, or choose "
                f"other cut points or shares. Its rule: {split.rule}"
            )
    sequences = split.encoder_sequences()
    seen = np.zeros(interactions.n_items, dtype=bool)
    seen[sequences.flat()] = True
    parts = {"validation": split.validation, "test": split.test}
    split.report.update(
        {"users": interactions.n_users}
        | {f"{name}_users": len(distinct(rows.users)) for name, rows in parts.items()}
        | {f"{name}_targets": len(rows) for name, rows in parts.items()}
        | {
            "encoder_users": len(split.encoder_users),
            "encoder_interactions": int(sequences.lengths().sum()),
            "items_never_seen_by_encoder": int((~seen).sum()),
            "alignment_users": n_alignment,
            "alignment_samples": len(split.alignment_samples()),
        }
    )
    check_no_leak(split)
    return split
