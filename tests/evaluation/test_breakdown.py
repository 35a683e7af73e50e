"""Groups of targets, and metrics of each."""

import numpy as np
import pytest
from tests_support import walk_tables

from rarec_hf.data import build_interactions, leave_one_out
from rarec_hf.evaluation import Ranks, TopItemsRecorder, break_down, coverage, groupings_of, popularity_bias
from rarec_hf.evaluation.breakdown import Grouping, popularity_groups


def test_head_mid_and_tail_hold_a_third_each():
    counts = np.array([0, 30, 10, 10, 10, *[1] * 30, 0])
    groups = popularity_groups(counts)
    assert groups[[0, -1]].tolist() == [0, 0] and groups[1] == 3 and set(groups[2:5]) == {2}
    assert set(groups[5:-1]) == {1}
    assert popularity_groups(np.zeros(3, dtype=int)).tolist() == [0, 0, 0]


def test_groups_of_a_split():
    interactions, items = walk_tables(n_users=60)
    day = 86_400
    interactions["timestamp"] = 1_600_000_000 + interactions["timestamp"] * (day // 20)  # half a day a step
    late = interactions["user_id"].isin([f"u{n}" for n in range(0, 60, 2)])
    interactions.loc[late, "timestamp"] = 1_600_000_000 + (interactions.loc[late, "timestamp"] - 1_600_000_000) * 3
    split = leave_one_out(build_interactions(interactions, items), alignment_fraction=0.2, seed=0)
    length, popularity, gap = groupings_of(split, split.test)
    ends = split.test.ends
    for number, label in enumerate(length.labels):
        mine = ends[length.group == number]
        low = int(label.split()[0])
        assert mine.min() == low and mine.max() <= (ends.max() if "more" in label else int(label.split()[-1]))
    assert len(np.unique(length.group)) == len(length.labels) == 3
    counts = np.bincount(split.baseline_sequences().flat(), minlength=30)
    assert ((popularity.group == 0) == (counts[split.test.targets] == 0)).all()
    user_ids = np.array([int(str(split.interactions.user_ids[user])[1:]) for user in split.test.users])
    assert (gap.group == (user_ids % 2 == 0)).all()  # half a day against a day and a half


def test_no_time_without_a_unit():
    split = leave_one_out(build_interactions(*walk_tables()), alignment_fraction=0.2, seed=0)
    assert split.interactions.timestamp_unit == "unknown"
    assert [g.title for g in groupings_of(split, split.test)] == ["items in the history", "popularity of the target"]


def test_the_table_has_each_groups_metric():
    good = Ranks(np.zeros(4, int), np.zeros(4, int), np.full(4, 50))
    bad = Ranks(np.array([0, 20, 1, 30]), np.zeros(4, int), np.full(4, 50))
    grouping = Grouping("side", ("left", "right", "nowhere"), np.array([0, 0, 1, 1]))
    table = break_down([("good", good), ("bad", bad)], [grouping], "hit_rate@10")
    assert table.splitlines()[2:] == [
        "| side | left | 2 | 1.0000 | 0.5000 |",
        "|  | right | 2 | 1.0000 | 0.5000 |",
    ]
    with pytest.raises(ValueError, match="has 3 targets, row 'good' 4"):
        break_down([("good", good)], [Grouping("side", ("a",), np.zeros(3, int))])


def test_of_several_seeds_the_mean_is_shown():
    found, lost = (Ranks(np.full(4, place), np.zeros(4, int), np.full(4, 100)) for place in (0, 50))
    grouping = Grouping("kind", ("a", "b"), np.array([0, 0, 1, 1]))
    table = break_down([("one", found), ("two", [found, lost])], [grouping], "hit_rate@10")
    assert table.splitlines()[2] == "| kind | a | 2 | 1.0000 | 0.5000 |"
    with pytest.raises(ValueError, match="row 'two' 3"):
        break_down([("two", [found, found.take(np.arange(3))])], [grouping])


def test_top_items_leave_out_what_was_seen():
    scores = np.array([[5, 4, 3, 2, 1.0], [1, 2, 3, 4, 5.0]])
    top = TopItemsRecorder(lambda histories: scores[: len(histories)], k=2)
    np.testing.assert_array_equal(top([np.array([0]), np.array([], dtype=int)]), scores)  # passed on as they are
    top([np.array([1, 2])])
    assert top.items.tolist() == [[1, 2], [4, 3], [0, 3]]
    assert coverage(top.items, 5) == 1.0 and coverage(top.items[:1], 5) == 0.4
    with pytest.raises(ValueError, match="Nothing was scored"):
        _ = TopItemsRecorder(None).items


def test_popularity_bias_is_zero_where_lists_are_like_the_targets():
    counts = np.array([0, 1, 2, 3])
    assert popularity_bias(np.array([[0, 1, 2, 3]]), np.array([0, 1, 2, 3]), counts) == 0
    assert popularity_bias(np.array([[3], [3]]), np.array([0, 3]), counts) == pytest.approx(0.375)
    assert popularity_bias(np.array([[0]]), np.array([1]), np.ones(4)) == 0  # all alike
