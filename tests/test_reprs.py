"""What a notebook shows: one short line for each object, tables for recommendations, titles escaped."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from tests_support import walk_tables

from rarec_hf import Recommendation, recommendations_to_frame
from rarec_hf.data import DataReport, IdMaps, VectorFile, build_interactions, leave_one_out, select_samples
from rarec_hf.evaluation import EvaluationReport, Ranks, groupings_of
from rarec_hf.packed_texts import KeptTexts
from rarec_hf.spread_catalogue import Catalogue
from rarec_hf.training.ranking_trainer import RankingDataset
from rarec_hf.training.samples import AlignmentDataset
from rarec_hf.training.stored_texts import StoragePlan, StoredTexts

LONGEST = 260  # characters: more does not stand in a cell's output at a glance


@pytest.fixture(scope="module")
def split():
    return leave_one_out(build_interactions(*walk_tables(n_users=400, n_items=300)), alignment_fraction=0.2, seed=0)


def objects(split) -> dict[str, object]:
    interactions = split.interactions
    ranks = Ranks(np.arange(500), np.zeros(500, dtype=int), np.full(500, 999), np.arange(500) // 2)
    report = EvaluationReport("a rule", reference="B")
    report.add("A", ranks)
    return {
        "Interactions(n_users=400, n_items=300, n_interactions=": interactions,
        "ItemTable(n_items=300, attributes=[])": interactions.items,
        "Split(leave_one_out, Interactions(n_users=400, ": split,
        "Targets(400 targets of 400 users)": split.test,
        "Sequences(400 rows, ": split.baseline_sequences(),
        "DataReport(n_users=400, n_items=300, n_interactions=": DataReport.of(interactions),
        "IdMaps(n_users=400, n_items=300)": IdMaps(["u"] * 400, ["i"] * 300, ["t"] * 300),
        "VectorFile(item_vectors=(300, 8))": VectorFile(range(300), np.zeros((300, 8))),
        "SelectionReport(50 of ": select_samples(split, 50)[1],
        "Grouping('": groupings_of(split, split.test)[0],
        "Ranks(500 targets of 250 users among 999 candidates, median rank 250.5)": ranks,
        "Ranks(2 targets of 2 users among 5 to 6 candidates, median rank 2)": Ranks(
            np.array([0, 2]), np.array([0, 0]), np.array([5, 6])
        ),
        "Ranks(0 targets)": ranks.take(np.arange(0)),
        "EvaluationReport(['A'], reference='B')": report,
        "Catalogue(texts=(300, 16), items=None, keys=None)": Catalogue(torch.zeros(300, 16)),
        "KeptTexts(0 texts, 0.00 of 1.00 GiB)": KeptTexts(2**30),
        "StoragePlan(9 texts, 4 stored, 5 to store)": StoragePlan(9, 900, 1, 4, [[1] * 100] * 5, 0, 1, "float32"),
        "RankingDataset(Targets(400 targets of 400 users), n_items=300)": RankingDataset(interactions, split.test),
        "AlignmentDataset(400 samples)": AlignmentDataset(interactions, split.test),
    }


def test_each_object_is_one_short_line(split):
    for beginning, thing in objects(split).items():
        shown = repr(thing)
        assert shown.startswith(beginning)
        assert len(shown) < LONGEST and "\n" not in shown and "array(" not in shown and " at 0x" not in shown


def test_the_models_objects_too(trained, make_processor, tmp_path):
    model = trained()
    processor = make_processor()
    shared = processor.shared_texts([[1, 2], [1, 2, 3], [5]])
    assert repr(shared).startswith("SharedTexts(2 texts, ") and repr(shared).endswith(" tokens, 3 histories)")
    assert repr(processor).startswith("RARecProcessor(12 items, ") and repr(processor).endswith(", last 10 titles)")
    stored = StoredTexts(tmp_path, model, progress=False)
    assert repr(stored) == f"StoredTexts('{stored.folder}', 0 texts, 0.00 GiB)"
    assert repr(model._catalogue).startswith("Catalogue(texts=(12, 16), items=(12, ")


# recommendations -----------------------------------------------------------------------------------------------------

NASTY = '<img src=x onerror="alert(1)"> & <b>Bold</b>'


@pytest.fixture
def answer():
    titles = ["First", NASTY, "Third", "Fourth"]
    return Recommendation(["a", "<i>", "c", "d"], titles, [2.0, 1.5, 0.25, -1.0])


def test_the_line_of_a_recommendation_holds_the_best(answer):
    assert repr(answer) == (f"Recommendation(4 items: 'First' (2.00), {NASTY!r} (1.50), 'Third' (0.25), ...)")
    assert repr(Recommendation([], [], [])) == "Recommendation(0 items)"
    assert len(repr(Recommendation(["a"] * 9, ["x" * 1000] * 9, [1.0] * 9))) < LONGEST


class Read(HTMLParser):
    """Tags, and the text of each cell."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        assert not attributes
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        self.cells[-1] += data


def test_a_notebook_shows_a_table_and_titles_are_only_text(answer):
    read = Read(answer._repr_html_())
    assert read.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert read.cells[:4] == ["", "title", "item id", "score"]
    assert read.cells[4:12] == ["1", "First", "a", "2.000", "2", NASTY, "<i>", "1.500"]
    assert len(read.cells) == 4 * 5
    assert Read(Recommendation([], [], [])._repr_html_()).cells == ["", "title", "item id", "score"]


def test_one_becomes_a_frame(answer):
    frame = answer.to_frame()
    assert list(frame.columns) == ["rank", "item_id", "title", "score"]
    assert frame["rank"].tolist() == [1, 2, 3, 4]
    assert list(frame[["item_id", "title", "score"]].itertuples(index=False, name=None)) == list(answer)
    assert list(Recommendation([], [], []).to_frame().columns) == list(frame.columns)


def test_many_become_one_frame(trained):
    model = trained()
    histories = [["i1", "i2"], ["i4"], [f"i{n}" for n in range(12)]]  # the last has nothing left
    answers = model.recommend(histories, k=3)
    frame = recommendations_to_frame(answers)
    assert list(frame.columns) == ["row", "rank", "item_id", "title", "score"]
    assert frame["row"].tolist() == [0, 0, 0, 1, 1, 1]
    assert frame["item_id"].tolist() == answers[0].item_ids + answers[1].item_ids
    named = recommendations_to_frame(answers, user_ids=["x", "y", "z"])
    assert named["user_id"].tolist() == ["x"] * 3 + ["y"] * 3
    pd.testing.assert_frame_equal(named.drop(columns="user_id"), frame.drop(columns="row"))
    one = model.recommend(histories[0], k=3)
    pd.testing.assert_frame_equal(one.to_frame(), frame[:3].drop(columns="row"), atol=1e-5)


def test_wrong_frames_are_refused(answer):
    with pytest.raises(ValueError, match="a list of recommendations, got one"):
        recommendations_to_frame(answer)
    with pytest.raises(ValueError, match="each of 2 recommendations, got 1"):
        recommendations_to_frame([answer, answer], user_ids=["x"])
