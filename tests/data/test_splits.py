from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rarec_hf.data import SPLITS, Targets, check_no_leak, leave_one_out

HISTORIES = {"u": "abcde", "v": "ab", "w": "fec", "x": "bcda", "y": "a", "z": "edcbaf"}


@pytest.fixture
def interactions(make_interactions):
    return make_interactions(HISTORIES)


def ids(interactions, items):
    return "".join(interactions.items.item_ids[item] for item in items)


def rows(interactions, targets):
    return {
        interactions.user_ids[user]: (
            ids(interactions, targets.history(interactions, row)),
            ids(interactions, [targets.targets[row]]),
        )
        for row, user in enumerate(targets.users)
    }


def test_last_is_test_second_last_is_validation(interactions):
    split = leave_one_out(interactions, alignment_fraction=0.4)
    assert rows(interactions, split.test) == {
        "u": ("abcd", "e"),
        "w": ("fe", "c"),
        "x": ("bcd", "a"),
        "z": ("edcba", "f"),
    }
    assert rows(interactions, split.validation) == {
        "u": ("abc", "d"),
        "w": ("f", "e"),
        "x": ("bc", "d"),
        "z": ("edcb", "a"),
    }
    assert split.train_ends.tolist() == [3, 2, 1, 2, 1, 4]
    assert split.report["users_too_short_to_measure"] == 2 and split.report["users_measured"] == 4
    assert [ids(interactions, sequence) for sequence in split.baseline_sequences()] == [
        "abc",
        "ab",
        "f",
        "bc",
        "a",
        "edcb",
    ]


def test_encoder_and_alignment_users_are_apart(interactions):
    split = leave_one_out(interactions, alignment_fraction=0.7)
    assert len(split.alignment_users) == 2  # 0.7 of the users u, x and z
    assert {interactions.user_ids[user] for user in split.alignment_users} <= set("uxz")
    assert sorted([*split.encoder_users, *split.alignment_users]) == list(range(6))
    assert split.report["encoder_interactions"] == sum(map(len, split.encoder_sequences()))
    unseen = set(range(6)) - set(np.concatenate(split.encoder_sequences()).tolist())
    assert split.report["items_never_seen_by_encoder"] == len(unseen)


def test_alignment_samples_are_every_training_position_with_a_history(interactions):
    split = replace(
        leave_one_out(interactions), encoder_users=np.array([0, 1, 2, 3, 4]), alignment_users=np.array([0, 3, 5])
    )
    samples = split.alignment_samples()
    assert samples.users.tolist() == [0, 0, 3, 5, 5, 5]
    assert samples.ends.tolist() == [1, 2, 1, 1, 2, 3]
    assert ids(interactions, samples.targets) == "bccdcb"
    longer = split.alignment_samples(min_history=2)
    assert longer.users.tolist() == [0, 5, 5] and longer.ends.tolist() == [2, 2, 3]
    assert len(split.alignment_samples(min_history=9)) == 0
    with pytest.raises(ValueError, match="at least 1, got 0"):
        split.alignment_samples(min_history=0)


def test_targets_take_and_validation_of(interactions):
    split = leave_one_out(interactions)
    taken = split.test.take(np.array([2, 0]))
    assert isinstance(taken, Targets) and len(taken) == 2
    assert taken.users.tolist() == [3, 0] and taken.ends.tolist() == [3, 4]
    assert split.validation_of(np.array([0, 1, 5])).users.tolist() == [0, 5]
    with pytest.raises(ValueError, match="same length, got 1, 1 and 2"):
        Targets(np.zeros(1), np.zeros(1), np.zeros(2))


def test_seed_decides_and_rule_says_everything(make_interactions):
    interactions = make_interactions({f"u{user}": "abcde" for user in range(40)})
    first, again, other = (leave_one_out(interactions, alignment_fraction=0.25, seed=seed) for seed in (3, 3, 4))
    assert first.alignment_users.tolist() == again.alignment_users.tolist() != other.alignment_users.tolist()
    assert len(first.alignment_users) == 10
    assert first.seen_by_encoder_digest() == again.seen_by_encoder_digest() != other.seen_by_encoder_digest()
    assert len(first.seen_by_encoder_digest()) == 64
    for words in ("Leave-one-out", "order of the rows; 0.0 %", "0 users with fewer", "10 users (25 %", "seed 3"):
        assert words in first.rule
    assert SPLITS["leave_one_out"] is leave_one_out and first.name == "leave_one_out"


def test_digest_follows_what_the_encoder_sees_only(make_interactions):
    titles = {item: item.upper() for item in "abcde"}  # the table fixes the catalogue's order

    def digest(encoder_history, alignment_history):
        split = leave_one_out(make_interactions({"u": encoder_history, "v": alignment_history}, titles))
        users = {"encoder_users": np.array([0]), "alignment_users": np.array([1])}
        return replace(split, **users).seen_by_encoder_digest()

    first = digest("abcde", "abcde")
    assert digest("abced", "abcde") == first  # its validation and test targets
    assert digest("abcde", "edcba") == first  # another user's history
    assert digest("acbde", "abcde") != first


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_fraction_out_of_range(interactions, fraction):
    with pytest.raises(ValueError, match=f"between 0 and 1, both excluded, got {fraction}"):
        leave_one_out(interactions, alignment_fraction=fraction)


def test_too_few_users_for_either_side(make_interactions):
    with pytest.raises(ValueError, match="No user has 4 or more"):
        leave_one_out(make_interactions({"u": "abc", "v": "ab"}))
    with pytest.raises(ValueError, match="1 of 1 users are held out"):
        leave_one_out(make_interactions({"u": "abcde"}))
    with pytest.raises(ValueError, match="none of the others has 2 interactions"):
        leave_one_out(make_interactions({"u": "abcde", "v": "a", "w": "abc"}))


def leaks(split):
    users, test, validation = np.arange(6), split.test, split.validation
    aligned = split.alignment_users[0]
    return {
        "alignment targets that the ID encoder was trained on": replace(split, encoder_users=users),
        "validation targets inside the training part": replace(split, train_ends=split.train_ends + (users == 2)),
        "test targets inside the training part": replace(
            split, train_ends=split.train_ends + 2 * (users == 2), validation=validation.take(np.array([0, 2, 3]))
        ),
        "longer than the history": replace(split, train_ends=split.train_ends + 9),
        "test targets that validation holds too": replace(split, test=validation),
        "test targets that are not at their place": replace(split, test=replace(test, targets=test.targets[::-1])),
        "test positions outside a history": replace(split, test=replace(test, ends=test.ends + 1)),
        "users of both": replace(
            split,
            encoder_users=np.append(split.encoder_users, aligned),
            train_ends=np.where(users == aligned, 1, split.train_ends),  # too short for an alignment sample
        ),
    }


@pytest.mark.parametrize(
    "what",
    [
        "alignment targets that the ID encoder was trained on",
        "validation targets inside the training part",
        "test targets inside the training part",
        "longer than the history",
        "test targets that validation holds too",
        "test targets that are not at their place",
        "test positions outside a history",
        "users of both",
    ],
)
def test_planted_leaks_are_found(interactions, what):
    split = leave_one_out(interactions)
    check_no_leak(split)
    with pytest.raises(ValueError, match=f"`leave_one_out` leaks: .*{what}"):
        check_no_leak(leaks(split)[what])


def test_a_leak_names_the_user(interactions):
    split = leave_one_out(interactions)
    with pytest.raises(ValueError, match="1 cases, the first of user 'w'"):
        check_no_leak(leaks(split)["validation targets inside the training part"])


def test_the_last_training_may_see_validation_but_never_test(interactions):
    split = leave_one_out(interactions, alignment_fraction=0.4)
    assert [ids(interactions, s) for s in split.refit_sequences()] == ["abcd", "ab", "fe", "bcd", "a", "edcba"]
    held_out = split.validation.users[:1]
    some = split.refit_sequences(split.encoder_users, held_out)
    whole, trained = split.refit_sequences(), split.baseline_sequences()
    for user, sequence in zip(split.encoder_users, some, strict=True):
        assert list(sequence) == list((trained if user in held_out else whole)[user])
    assert any(len(whole[user]) > len(trained[user]) for user in held_out)
    for name in SPLITS:
        split = SPLITS[name](interactions, alignment_fraction=0.4)
        for user, sequence in enumerate(split.refit_sequences()):
            tested = split.test.positions[split.test.users == user]
            assert len(tested) == 0 or len(sequence) <= tested.min()
