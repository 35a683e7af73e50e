from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rarec_hf.data import leave_one_out, select_samples
from rarec_hf.data.selection import _buckets


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
    counted = ("samples_available", "samples_dropped_as_noise", "samples_drawn")
    assert [report.counts[name] for name in counted] == [4, 2, 2]
    kept, _ = select_samples(split, 0, denoise=True, max_history=1)
    assert pairs(kept) == [(1, 2)]  # c shares the shoes of b; the dress is out of sight


def test_placeholder_titles_share_no_word(make_interactions):
    split = align_all(make_interactions({"v": "yz", "u": "abcdyz"}))
    with pytest.raises(ValueError, match="Denoising dropped all 3 alignment samples"):
        select_samples(split, 0, denoise=True)


@pytest.mark.parametrize("n_samples", [0, 10**6])
def test_all_available_samples_once_each(skewed, n_samples):
    samples, report = select_samples(skewed, n_samples)
    everything = skewed.alignment_samples()
    assert sorted(pairs(samples)) == sorted(pairs(everything))
    assert report.counts["samples_available"] == report.counts["samples_drawn"] == len(everything)
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
        assert report.counts["popularity_buckets"] == 1 + item_diversity
    assert counts[True] == 20 and counts[False] < 10  # 30 of 600 samples have a target that one user knows


def test_cells_that_run_out_are_made_up_for_by_the_others(make_interactions):
    histories = {f"s{user}": "abcd" for user in range(3)} | {"l": [f"i{item}" for item in range(42)]}
    split = align_all(make_interactions({"encoder": "abcd", **histories}))
    samples, report = select_samples(split, 20, n_buckets=2, item_diversity=False)
    by_length = Counter((samples.ends <= 1).tolist())
    assert by_length == {True: 4, False: 16}  # only 4 samples have a history of one item
    assert report.counts["length_buckets"] == report.counts["cells_filled"] == report.counts["cells_drawn_from"] == 2
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
    assert len(samples) == 3 and report.counts["cells_filled"] == 1


@pytest.mark.parametrize(("budget", "expected"), [(0.1, 16), (0.999, 164), (0.001, 1), (7, 7), (7.0, 7), (0.0, 164)])
def test_budget_is_a_count_or_a_fraction(skewed, budget, expected):
    assert len(skewed.alignment_samples()) == 164
    assert len(select_samples(skewed, budget)[0]) == expected


@pytest.mark.parametrize("budget", [-1, 1.5, True, -0.1])
def test_other_budgets_are_refused(skewed, budget):
    with pytest.raises(ValueError, match="a fraction between 0 and 1 or 0 for all, got"):
        select_samples(skewed, budget)


def test_without_rules_the_draw_is_uniform(skewed):
    samples, report = select_samples(skewed, 80, user_diversity=False, item_diversity=False)
    assert report.counts["cells_filled"] == report.counts["length_buckets"] == 1
    assert not any(report.rules.values())
    # 36 of the 164 samples have a history of at most 3; 80 draws bring 17.6 of them, with a deviation of 2.6
    assert 10 <= sum(samples.ends <= 3) <= 25


def test_denoising_of_many_samples_is_that_of_each(make_interactions, monkeypatch):
    monkeypatch.setattr("rarec_hf.data.selection.PAIRS_AT_ONCE", 7)  # several parts, the last one short
    rng = np.random.default_rng(0)
    vocabulary = np.array("red blue green dress shoes ring hat glove".split())
    titles = {f"i{item}": " ".join(rng.choice(vocabulary, 2)) for item in range(40)}
    histories = {f"u{user}": [f"i{item}" for item in rng.permutation(40)[: 4 + user]] for user in range(12)}
    split = align_all(make_interactions(histories, titles))
    kept, _ = select_samples(split, denoise=True, max_history=3)
    expected, everything = [], split.alignment_samples()
    for row in range(len(everything)):
        recent = everything.history(split.interactions, row)[-3:]
        words = [set(split.interactions.items.titles[i].split()) for i in (*recent, everything.targets[row])]
        if any(words[-1] & before for before in words[:-1]):
            expected.append((everything.users[row], everything.ends[row]))
    assert sorted(pairs(kept)) == sorted(expected) and 0 < len(expected) < len(everything)


def test_report_says_what_was_kept(skewed, tmp_path):
    samples, report = select_samples(skewed, 40, n_buckets=2, seed=3)
    lengths = report.history_length
    assert lengths.available.sum() == 164 and lengths.drawn.sum() == 40
    assert lengths.labels == ["1–3", "4–67"] and lengths.available.tolist() == [36, 128]
    assert lengths.drawn.tolist() == [sum(samples.ends <= 3), sum(samples.ends > 3)]
    popularity = report.target_popularity
    assert popularity.drawn.sum() == 40 and popularity.labels[0] == "1"
    text = report.to_markdown()
    assert text.startswith("Alignment samples: 40 of 164 drawn, ")
    assert f"| 1–3 | 36 | 22.0% | {lengths.drawn[0]} | {lengths.drawn[0] / 40:.1%} |" in text
    assert "| denoise |  | not used |" in text
    assert "| user diversity | 40 | drawn evenly over 2 buckets of history length |" in text
    folder = report.save(tmp_path / "run")
    assert (folder / "selection.md").read_text("utf-8") == text
    assert (folder / "selection.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.iterdir()) == ["selection.md", "selection.png"]


def test_bad_arguments(skewed):
    for options in ({"max_history": 0}, {"n_buckets": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            select_samples(skewed, 5, **options)


def test_whole_users_come_with_all_their_samples(skewed):
    available, _ = select_samples(skewed)
    of_user = dict(zip(*np.unique(available.users, return_counts=True), strict=True))
    samples, report = select_samples(skewed, 40, whole_users=True, seed=1)
    assert len(samples) == report.counts["samples_drawn"] == 40
    users, first, counts = np.unique(samples.users, return_index=True, return_counts=True)
    order = np.argsort(first)
    *whole, last = users[order]
    assert all(counts[users == user] == of_user[user] for user in whole)
    assert counts[users == last] <= of_user[last]
    for user in users:  # side by side, in order of time
        rows = np.flatnonzero(samples.users == user)
        assert np.array_equal(rows, np.arange(rows[0], rows[-1] + 1))
        assert np.array_equal(samples.ends[rows], np.sort(samples.ends[rows]))
    again, other = (select_samples(skewed, 40, whole_users=True, seed=seed)[0] for seed in (1, 2))
    assert np.array_equal(again.users, samples.users) and not np.array_equal(other.users, samples.users)
    everything, _ = select_samples(skewed, whole_users=True)
    assert sorted(zip(everything.users, everything.ends, strict=True)) == sorted(
        zip(available.users, available.ends, strict=True)
    )


def test_whole_users_are_drawn_evenly_over_history_lengths(skewed):
    longest = skewed.train_ends[skewed.alignment_users] - 1
    is_long = dict(zip(skewed.alignment_users.tolist(), (longest > np.median(longest)).tolist(), strict=True))
    assert 0 < sum(is_long.values()) < len(is_long)
    for seed in range(5):
        samples, _ = select_samples(skewed, 12, whole_users=True, n_buckets=2, item_diversity=False, seed=seed)
        users = samples.users[np.sort(np.unique(samples.users, return_index=True)[1])].tolist()
        turns = [{is_long[user] for user in users[n : n + 2]} for n in range(0, len(users) - 1, 2)]
        assert all(turn == {True, False} for turn in turns[: min(sum(is_long.values()), len(turns))])
