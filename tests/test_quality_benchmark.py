"""The command that makes the accuracy tables, end to end on a tiny data set with a tiny backbone."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from tests_support import save_tiny_backbone, walk_tables

from benchmarks.quality import world as world_module
from benchmarks.quality.__main__ import chosen, main
from benchmarks.quality.rows import _together
from benchmarks.quality.world import Settings, World

ROWS = ["popularity", "itemknn", "tfidf", "itemknn_tfidf", "tfidf_both", "ours_no_readout", "layer0"]
ROWS += ["rarec", "rarec_permuted"]
LONG = ["rarec_8192", "paper_8192"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality")
    interactions, items = walk_tables(n_users=80)
    (folder / "walks").mkdir()
    interactions.to_parquet(folder / "walks" / "interactions.parquet")
    items.to_parquet(folder / "walks" / "items.parquet")
    save_tiny_backbone(folder / "backbone")
    return folder


def run(folder, *more):
    words = ["--dataset", "walks", "--data", str(folder), "--backbone", str(folder / "backbone")]
    main([*words, "--results", str(folder / "results"), "--cache", str(folder / "cache"), *more])


def test_rows_are_measured_once_and_the_page_says_what_each_part_is_worth(folder, capsys):
    run(folder, "--rows", *ROWS)
    results = folder / "results"
    content = json.loads((results / "walks.json").read_text())
    assert sorted(record["row"] for record in content["records"]) == sorted(ROWS)
    metrics = {record["row"]: record["metrics"] for record in content["records"]}
    assert metrics["itemknn"]["ndcg@10"] > metrics["popularity"]["ndcg@10"] > 0  # everyone walks the same way
    ranks = pd.read_parquet(results / "walks.ranks.parquet")
    assert len(ranks) == len(ROWS) * content["users"] == len(ROWS) * 80
    run(folder, "--rows", "itemknn", "--fraction", "0.5")
    page = (results / "walks.md").read_text("utf-8")
    assert "What more data is worth" in page and "| ItemKNN | " in page.split("What more data is worth")[1]
    assert "RA-Rec, ID vectors permuted" in page.split("## The promises")[1].split("## Who gains")[0]
    for picture in ("walks.png", "walks.fractions.png"):
        assert (results / picture).read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    before = (results / "walks.json").read_bytes()
    run(folder, "--rows", *ROWS)  # all are there
    assert " 0 {" not in capsys.readouterr().out and (results / "walks.json").read_bytes() == before


def test_rows_of_many_samples_are_run_if_they_are_named_and_keep_the_best_epoch(folder, tmp_path):
    assert not set(LONG) & set(chosen(["all", "ours", "llm"])) and set(LONG) < set(chosen(["long"]))
    run(folder, "--rows", *LONG, "--results", str(tmp_path))
    records = json.loads((tmp_path / "walks.json").read_text())["records"]
    assert [record["row"] for record in records] == LONG
    for record in records:
        assert record["facts"]["samples_drawn"] == record["facts"]["samples_available"] > 0
        assert len(record["facts"]["validation_ndcg@10"]) == 5 and "CPU" in record["device"]


def test_a_page_of_a_single_row_with_text(folder, tmp_path):
    run(folder, "--rows", "tfidf", "--results", str(tmp_path))
    assert "| TF-IDF | no LLM |" in (tmp_path / "walks.md").read_text("utf-8")


def test_it_says_which_rows_there_are_and_refuses_other_settings(folder):
    with pytest.raises(SystemExit, match=r"Unknown rows \['sasrek'\]"):
        run(folder, "--rows", "sasrek")
    run(folder, "--rows", "popularity")
    with pytest.raises(SystemExit, match="move it away first"):
        run(folder, "--rows", "popularity", "--eval_users", "7")


def test_what_validation_chooses_has_not_seen_it_whichever_stage_asks(folder, tmp_path, monkeypatch):
    """The leak is planted: the first row to ask for an encoder asks for the one that is measured on test."""
    seen, train = [], world_module.train_id_encoder

    def watched(split, sequences, validation, *rest):
        seen.append((sum(map(len, sequences)), validation is not None))
        return train(split, sequences, validation, *rest)

    monkeypatch.setattr(world_module, "train_id_encoder", watched)
    world = World(Settings("walks", str(folder), str(tmp_path), backbone=str(folder / "backbone")))
    world.final = True
    recipe = {"encoder_hidden_size": 8, "encoder_epochs": 2}
    _, facts = world.encoder("sasrec", [recipe], 0)
    (chosen, validated), (last, validated_last) = seen
    split = world.split
    assert validated and chosen == len(split.baseline_sequences().flat())
    held_out = len(set(world.known.targets.users))
    assert not validated_last and last == chosen + len(split.validation) - held_out and held_out == 40
    assert world.final and facts["epochs"] in (1, 2)
    world.encoder("sasrec", [recipe], 0)
    assert len(seen) == 2  # both are kept


def test_a_blend_keeps_what_each_encoder_took():
    text, plain = {"recipe": {"a": 1}, "seconds": 2.25, "epochs": 3}, {"recipe": {"b": 1}, "seconds": 5.0, "epochs": 4}
    facts = _together([text, {"text_seconds": 7.0}, plain, {}])
    assert facts == text | {"text_seconds": 7.0, "beside": [plain], "seconds": 7.2}
    assert _together([text, {"text_seconds": 7.0}]) == text | {"text_seconds": 7.0}
    assert _together([{}, {}]) == {}
