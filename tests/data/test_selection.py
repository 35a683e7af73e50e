from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rarec_hf.data import leave_one_out, select_samples
from rarec_hf.data.selection import _buckets, title_words


def align_all(interactions, n_encoder=1):
    """A split in which all users but the first `n_encoder` are alignment users."""
    users = np.arange(interactions.n_users)
    split = leave_one_out(interactions)
    return replace(split, encoder_users=users[:n_encoder], alignment_users=users[n_encoder:])


def pairs(samples):
    return list(zip(samples.users.tolist(), samples.ends.tolist(), strict=True))


@pytest.fixture
def skewed(make_interactions):
    """Ten users with short histories, two with long ones; ten items that all know, many that one user knows."""
    popular = [f"p{item}" for item in range(10)]
    histories = {f"s{user}": popular[user % 5 : user % 5 + 6] for user in range(10)}
    histories |= {f"l{user}": [*popular, *(f"r{user}-{item}" for item in range(60))] for user in range(2)}
    return align_all(make_interactions({"encoder": popular, **histories}))


def test_title_words(make_interactions):
    titles = {"a": "The Lord of the Rings: Part_2 (2001)", "b": "rock'n'roll 1984", "c": "", "d": "Amélie 7"}
    words = title_words(make_interactions({"u": "abcd"}, titles).items)
    assert words == [{"lord", "rings", "part", "2"}, {"rock", "n", "roll"}, set(), {"amélie", "7"}]


def test_denoising_keeps_targets_that_share_a_word_with_the_recent_history(make_interactions):
    titles = {
        "a": "Red Dress",
        "b": "Blue Shoes",
        "c": "RED shoes of 2001",
        "d": "The Ring (2001)",
        "e": "dress",
        "y": "y",
        "z": "z",
    }
    split = align_all(make_interactions({"v": "yz", "u": "abcdeyz"}, titles))
    kept, report = select_samples(split, 0, denoise=True)
    assert sorted(pairs(kept)) == [(1, 2), (1, 4)]  # c follows a and b; e finds the dress of a, four titles before
    assert (report["samples_available"], report["samples_dropped_as_noise"], report["samples_drawn"]) == (4, 2, 2)
    kept, _ = select_samples(split, 0, denoise=True, max_history=1)
    assert pairs(kept) == [(1, 2)]  # c shares the shoes of b; the dress is out of sight


def test_placeholder_titles_share_no_word(make_interactions):
    split = align_all(make_interactions({"v": "yz", "u": "abcdyz"}))
    with pytest.raises(ValueError, match="Denoising dropped all 3 alignment samples"):
        select_samples(split, 0, denoise=True)


@pytest.mark.parametrize("n_samples", [0, -1, 10**6])
def test_all_available_samples_once_each(skewed, n_samples):
    samples, report = select_samples(skewed, n_samples)
    everything = skewed.alignment_samples()
    assert sorted(pairs(samples)) == sorted(pairs(everything))
    assert report["samples_available"] == report["samples_drawn"] == len(everything)
    assert pairs(samples) != pairs(everything)  # shuffled


def test_seed_decides_samples_and_order(skewed):
    first, again, other = (pairs(select_samples(skewed, 40, seed=seed)[0]) for seed in (1, 1, 2))
    assert first == again and set(first) != set(other)
    assert len(set(first)) == 40
    targets = select_samples(skewed, 40, seed=1)[0]
    assert all(
        skewed.interactions.history(user)[end] == target
        for user, end, target in zip(targets.users, targets.ends, targets.targets, strict=True)
    )


def test_user_diversity_brings_short_histories(skewed):
    def short(**options):
        samples, _ = select_samples(skewed, 40, n_buckets=2, item_diversity=False, **options)
        return sum(samples.ends <= 3)  # the longest training history of ten of the twelve users

    # 36 of the 164 samples have a history of at most 3, so a plain draw of 40 brings about 9 of them
    assert short(user_diversity=False) < 16
    assert short() == 20


def test_item_diversity_brings_both_kinds_of_items(make_interactions):
    popular = [f"p{item}" for item in range(20)]
    histories = {f"u{user}": [*popular, f"r{user}", "y", "z"] for user in range(30)}
    split = align_all(make_interactions({"encoder": popular, **histories}))
    counts = {}
    for item_diversity in (False, True):
        samples, report = select_samples(split, 40, n_buckets=2, user_diversity=False, item_diversity=item_diversity)
        rare = [split.interactions.items.item_ids[item].startswith("r") for item in samples.targets]
        counts[item_diversity] = sum(rare)
        assert report["popularity_buckets"] == 1 + item_diversity
    assert counts[True] == 20 and counts[False] < 10  # 30 of 600 samples have a target that one user knows


def test_cells_that_run_out_are_made_up_for_by_the_others(make_interactions):
    histories = {f"s{user}": "abcd" for user in range(3)} | {"l": [f"i{item}" for item in range(42)]}
    split = align_all(make_interactions({"encoder": "abcd", **histories}))
    samples, report = select_samples(split, 20, n_buckets=2, item_diversity=False)
    by_length = Counter((samples.ends <= 1).tolist())
    assert by_length == {True: 4, False: 16}  # only 4 samples have a history of one item
    assert report["length_buckets"] == report["cells_filled"] == report["cells_drawn_from"] == 2
    # shuffled at the end: in the order of the draw all four would lie among the first eight
    assert np.flatnonzero(samples.ends <= 1).max() >= 8


@pytest.mark.parametrize(
    ("reference", "values", "expected"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], [0, 0, 1, 1]),
        ([1, 1, 1, 1], [1, 1, 5], [0, 0, 1]),
        ([1, 1, 1, 9], [1, 9], [0, 1]),
        ([2], [1, 2, 3], [0, 0, 1]),
    ],
)
def test_buckets_never_part_equal_values(reference, values, expected):
    assert _buckets(np.array(values), np.array(reference), 2).tolist() == expected


def test_many_ties_leave_fewer_buckets(make_interactions):
    split = align_all(make_interactions({"encoder": "abcd", **{f"u{user}": "abcd" for user in range(5)}}))
    samples, report = select_samples(split, 3, n_buckets=10)
    assert len(samples) == 3 and report["cells_filled"] == 1


def test_bad_arguments(skewed):
    for options in ({"max_history": 0}, {"n_buckets": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            select_samples(skewed, 5, **options)
