"""Global time and by users, and what holds in every split: nothing leaks, options are checked, nobody is forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rarec_hf.data import SPLITS, build_interactions, by_users, check_no_leak, global_time, split_interactions
from rarec_hf.data.sequences import Sequences, covered

DAY = 86_400
# user: [(item, day)]
EVENTS = {
    "u": [("a", 1), ("b", 2), ("c", 5), ("d", 6), ("e", 8), ("f", 9)],
    "v": [("b", 1), ("a", 3), ("c", 3), ("d", 4)],
    "w": [("a", 5), ("b", 7)],
    "x": [("c", 8), ("a", 9)],
    "y": [("d", 2), ("c", 2), ("g", 7)],
}


@pytest.fixture
def interactions():
    rows = [(user, item, day) for user, events in EVENTS.items() for item, day in events]
    return build_interactions(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))


def rows(split, targets):
    ids = split.interactions.items.item_ids
    found = {}
    for row, user in enumerate(targets.users):
        history = "".join(ids[item] for item in targets.history(split.interactions, row))
        found.setdefault(split.interactions.user_ids[user], (history, ""))
        found[split.interactions.user_ids[user]] = (
            history,
            found[split.interactions.user_ids[user]][1] + ids[targets.targets[row]],
        )
    return found


@pytest.fixture
def timed(interactions):
    return global_time(interactions, validation_from=5, test_from=7, alignment_fraction=0.4)


def test_global_time_by_hand(timed):
    # before day 5: u ab, v bacd, y dc. An interaction on day 5 or day 7 itself falls after the cut.
    assert timed.train_ends.tolist() == [2, 4, 0, 0, 2]
    assert rows(timed, timed.validation) == {"u": ("ab", "c")}
    assert rows(timed, timed.test) == {"u": ("abcd", "e"), "w": ("a", "b"), "y": ("dc", "g")}
    report = timed.report
    assert report["users_without_history_in_validation"] == 1  # w
    assert report["users_without_history_in_test"] == 1  # x
    assert report["items_first_seen_after_training"] == 3  # e, f and g
    assert timed.interactions.n_items == 7
    assert (report["validation_users"], report["test_users"], report["test_targets"]) == (1, 3, 3)


def test_global_time_trains_nobody_on_anything_later(timed):
    for user in [*timed.encoder_users, *timed.alignment_users]:
        start = timed.interactions.offsets[user]
        assert (timed.interactions.timestamps[start : start + timed.train_ends[user]] < 5).all()
    assert len(timed.alignment_users) == 1  # 0.4 of u, v and y
    assert sorted([*timed.encoder_users, *timed.alignment_users]) == [0, 1, 4]  # w and x have nothing to train on


def test_global_time_cuts_by_shares_and_keeps_equal_times_together(interactions):
    # 17 interactions, sorted days 1 1 2 2 2 3 3 4 5 5 6 7 7 8 8 9 9: the last 3/17 would begin within day 8
    split = global_time(interactions, validation_share=5 / 17, test_share=3 / 17, alignment_fraction=0.4)
    assert split.report["validation_from"] == "5" and split.report["test_from"] == "8"
    assert "8 interactions before the first cut train, 5 lie between, 4 after the second" in split.rule


def test_global_time_takes_dates_where_the_unit_is_known():
    rows = [(user, item, day * DAY + 1_400_000_000) for user, events in EVENTS.items() for item, day in events]
    interactions = build_interactions(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))
    # 1,400,000,000 is 2014-05-13 16:53:20; day 5 lies on the 18th, day 7 on the 20th
    split = global_time(interactions, validation_from="2014-05-18", test_from="2014-05-20", alignment_fraction=0.4)
    assert split.train_ends.tolist() == [2, 4, 0, 0, 2]
    assert "cut at 2014-05-18 00:00 UTC (timestamp 1400371200)" in split.rule


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_from": 7, "test_from": 5}, r"follow one another inside the data: got 7 \(7\) and 5 \(5\)"),
        ({"validation_from": 5, "test_from": 5}, "follow one another"),
        ({"validation_from": 1, "test_from": 5}, "reach from 1"),
        ({"validation_from": 5, "test_from": 10}, "follow one another"),
        ({"validation_from": "yesterday"}, "Expected a date"),
        ({"test_share": 0}, "above 0 and sum to less than 1"),
        ({"validation_share": 0.6, "test_share": 0.4}, "above 0 and sum to less than 1"),
        ({"validation_from": 5, "test_from": 7, "alignment_fraction": 1}, "between 0 and 1, both excluded"),
        ({"validation_from": 2, "test_from": 7}, "No user has 2 or more interactions before the first cut"),
    ],
)
def test_global_time_refuses(interactions, options, message):
    with pytest.raises(ValueError, match=message):
        global_time(interactions, **options)


@pytest.fixture
def many(make_interactions):
    rng = np.random.default_rng(0)
    items = [f"i{item}" for item in range(30)]
    return make_interactions({f"u{user}": list(rng.permutation(items)[: 5 + user % 7]) for user in range(50)})


def test_by_users_measures_users_that_nothing_was_trained_on(many):
    split = by_users(many, validation_share=0.2, test_share=0.1, seed=3)
    validation, test = np.unique(split.validation.users), np.unique(split.test.users)
    assert (len(validation), len(test)) == (10, 5)
    groups = [*split.encoder_users, *split.alignment_users, *validation, *test]
    assert sorted(groups) == list(range(50)) and len(split.alignment_users) == 4  # round(0.1 * 35)
    assert not split.train_ends[[*validation, *test]].any()
    assert (split.train_ends[split.encoder_users] == np.diff(many.offsets)[split.encoder_users]).all()
    assert [len(s) == 0 for s in split.baseline_sequences()] == [user in {*validation, *test} for user in range(50)]


def test_by_users_takes_the_last_fifth_as_targets(many):
    split = by_users(many)
    for targets in (split.validation, split.test):
        for user in np.unique(targets.users):
            history = many.history(user)
            end = int(0.8 * len(history))
            mine = np.flatnonzero(targets.users == user)
            assert targets.targets[mine].tolist() == history[end:].tolist()
            assert targets.positions[mine].tolist() == list(range(end, len(history)))
            assert targets.history(many, mine[-1]).tolist() == history[:end].tolist()
            assert (np.diff(mine) == 1).all()  # next to each other: their history is scored once


def test_by_users_short_users_keep_one_item_of_history_or_are_counted(make_interactions):
    split = by_users(make_interactions({f"u{n}": "abcd"[: 1 + n % 3] for n in range(40)}), history_share=0.3, seed=1)
    assert (split.test.ends == 1).all()  # int(0.3 n) would be 0
    single = set(range(0, 40, 3)) - set(split.encoder_users) - set(split.alignment_users)
    assert split.report["users_too_short_to_measure"] == len(single) > 0
    assert single.isdisjoint({*split.test.users, *split.validation.users})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_share": 0}, "above 0"),
        ({"validation_share": 0.5, "test_share": 0.5}, "less than 1"),
        ({"history_share": 1}, "`history_share` must lie between"),
    ],
)
def test_by_users_refuses(many, options, message):
    with pytest.raises(ValueError, match=message):
        by_users(many, **options)


def test_nobody_left_to_measure_is_told(make_interactions):
    with pytest.raises(ValueError, match="leaves no validation target.*Its rule: By users"):
        by_users(make_interactions({f"u{n}": "ab" if n == 5 else "a" for n in range(9)} | {"z": "abc"}), seed=1)


@pytest.mark.parametrize("name", list(SPLITS))
def test_every_split_keeps_its_promises(many, name):
    split = split_interactions(many, name, seed=5, alignment_fraction=0.3)
    assert split.name == name
    check_no_leak(split)
    assert not np.intersect1d(split.encoder_users, split.alignment_users).size
    assert len(split.validation_of(split.encoder_users)) > 0
    assert len(split.alignment_samples()) > 0
    for words in ("sorted stably by time (equal times by order of the rows", "seed 5", "held out from the ID encoder"):
        assert words in split.rule
    for key in ("validation_users", "test_users", "test_targets", "encoder_users", "alignment_users", "seed"):
        assert key in split.report
    again = split_interactions(many, name, seed=5, alignment_fraction=0.3)
    assert again.seen_by_encoder_digest() == split.seen_by_encoder_digest()
    other = split_interactions(many, name, seed=6, alignment_fraction=0.3)
    assert other.alignment_users.tolist() != split.alignment_users.tolist()
    trained_on = np.union1d(split.encoder_users, split.alignment_users)
    leaky = replace(split, train_ends=np.where(np.isin(np.arange(50), trained_on), np.diff(many.offsets), 99))
    with pytest.raises(ValueError, match="leaks"):
        check_no_leak(leaky)


def test_planted_leaks_of_several_targets_are_found(many):
    split = by_users(many)
    test = split.test
    with pytest.raises(ValueError, match="test positions outside a history"):
        check_no_leak(replace(split, test=replace(test, positions=test.ends - 1)))
    with pytest.raises(ValueError, match="validation holds too"):
        check_no_leak(replace(split, test=split.validation))
    with pytest.raises(ValueError, match="one entry per row"):
        replace(test, positions=test.positions[1:])


def test_validation_of_users_who_are_not_validated_is_everybodys(many):
    users = by_users(many)
    assert len(users.validation_of(users.alignment_users)) == len(users.validation)
    left = split_interactions(many)
    assert left.validation_of(np.array([3, 4])).users.tolist() == [3, 4]


def test_options_of_another_split_are_refused(many):
    with pytest.raises(ValueError, match=r"`leave_one_out` takes no `test_share`.*of global_time and by_users"):
        split_interactions(many, "leave_one_out", test_share=0.1)
    with pytest.raises(ValueError, match="takes no `share`; its options are"):
        split_interactions(many, "by_users", share=0.1)
    with pytest.raises(ValueError, match="Unknown split 'random'"):
        split_interactions(many, "random")
    assert len(split_interactions(many, "leave_one_out", test_share=None).test) == 50


def test_sequences_are_views_and_flatten():
    flat = np.arange(10)
    pieces = Sequences(flat, np.array([7, 2, 4]), np.array([9, 2, 7]))
    assert [piece.tolist() for piece in pieces] == [[7, 8], [], [4, 5, 6]]
    assert pieces.flat().tolist() == np.concatenate(pieces).tolist() == [7, 8, 4, 5, 6]
    assert pieces.lengths().tolist() == [2, 0, 3] and len(pieces[1:]) == 2
    assert np.shares_memory(pieces[0], flat)
    with pytest.raises(IndexError):
        pieces[3]
    with pytest.raises(ValueError, match="got 1 and 2"):
        Sequences(flat, np.zeros(1, int), np.zeros(2, int))


def test_covered_places_of_overlapping_and_empty_runs():
    places = covered(np.array([0, 1, 6, 4, 7]), np.array([3, 1, 1, 0, 0]), 7)
    assert places.tolist() == [True, True, True, False, False, False, True]
