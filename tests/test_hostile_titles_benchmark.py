"""The benchmark of hostile titles on a tiny model: places in lists, and who counts."""

import sys

import numpy as np
import pytest
from tests_support import ROOT

sys.path.insert(0, str(ROOT))

from benchmarks.hostile_titles import Lists, hostile_titles, interval  # noqa: E402
from rarec_hf.data import build_interactions  # noqa: E402

HISTORIES = [np.array([1, 2, 9]), np.array([7]), np.array([3, 4])]


@pytest.fixture
def lists(trained):
    return Lists(trained(), [1, 5], HISTORIES)


def test_places_are_those_of_a_full_sort(lists):
    own = lists.effects([lambda title: title])["RA-Rec"]
    scores = lists.model.score_histories(HISTORIES)
    for row, item in enumerate(lists.attacked):
        for user, history in enumerate(HISTORIES):
            if item in history:
                assert np.isnan(own.percentile[row, user]) and np.isnan(own.in_top[row, user])
                continue
            others = [other for other in range(12) if other != item and other not in history]
            above = sum(scores[user, other] > scores[user, item] for other in others)
            assert own.percentile[row, user] == pytest.approx(100 * (1 - above / len(others)))
            assert own.in_top[row, user] == (above < 10)


def test_another_title_moves_text_and_readout_but_not_the_id_encoder(lists):
    model, before = lists.model, lists.model.catalogue_items().clone()
    own, other = (lists.effects([title]) for title in (lambda title: title, lambda title: "zzzz " + title[:1]))
    assert np.nanmax(np.abs(other["text alone"].percentile - own["text alone"].percentile)) > 0
    np.testing.assert_array_equal(other["ID encoder alone"].percentile, own["ID encoder alone"].percentile)
    assert (model.catalogue_items() == before).all() and model.processor.titles == lists.processor.titles


def test_an_interval_holds_its_mean_and_leaves_out_what_is_nan():
    values = np.random.default_rng(0).normal(3.0, 1.0, size=(30, 40))
    values[0, :5] = np.nan
    mean, low, high = interval(values)
    assert low < mean < high and mean == pytest.approx(np.nanmean(values)) and low > 2.5 and high < 3.5
    assert interval(np.zeros((4, 5)))[1:] == (0.0, 0.0)


def test_every_kind_has_titles_of_these_data():
    import pandas as pd

    rows = [
        ("u", "a", 1, "Golden Film (1999)"),
        ("u", "b", 2, "Silver Film (1999)"),
        ("v", "a", 3, "Golden Film (1999)"),
    ]
    built = build_interactions(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "title"]))
    kinds = hostile_titles(built)
    assert all(title("own").strip() for titles in kinds.values() for title in titles)
    words = kinds["popular words, repeated"][1]("own").split()
    assert set(words) == {"film"} and len(words) == 40
    assert kinds["title of a most popular item"][0]("own") == "Golden Film (1999)"
