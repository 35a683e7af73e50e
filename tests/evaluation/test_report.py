from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rarec_hf.evaluation import EvaluationReport, Ranks, Row, plot_learning_curve, summarize

PNG = b"\x89PNG\r\n\x1a\n"


def ranks(seed, n=50, n_items=200):
    rng = np.random.default_rng(seed)
    return Ranks(rng.integers(0, 150, n), rng.integers(0, 3, n), np.full(n, n_items))


@pytest.fixture
def report():
    report = EvaluationReport(
        "leave-one-out;\nseen items removed", reference="ID encoder", data={"name": "made up", "items": 200}
    )
    report.add("Popularity", ranks(0), 1.25, "a|b")
    report.add("ID encoder", ranks(1))
    report.add("text | $only$_x", ranks(2))
    return report


def test_table(report):
    lines = report.to_markdown().splitlines()
    assert lines[0] == (
        "| Method | HR@10 | HR@50 | HR@100 | NDCG@10 | NDCG@100 | MRR "
        "| Δ NDCG@10 [95 %] | Δ HR@10 [95 %] | Seconds | Note |"
    )
    bars = {line.replace("\\|", "").count("|") for line in lines[:5]}
    assert bars == {12}  # an escaped bar is no column
    assert lines[2].startswith("| Popularity |") and lines[2].endswith("| 1.2 | a\\|b |")
    assert lines[4].startswith("| text \\| $only$_x |")
    assert f"| {summarize(ranks(0))['hit_rate@10']:.4f} |" in lines[2]
    assert lines[3].count("| reference ") == 2
    assert "- Rule: leave-one-out; seen items removed" in lines
    assert "- Ranked: 50 users, one target each; candidates per user: 200." in lines
    assert "- Data: name made up, items 200" in lines


def test_several_targets_of_a_user_are_told(tmp_path):
    users = np.repeat(np.arange(20), 3)
    several = replace(ranks(0, n=60), users=users)
    report = EvaluationReport("r", [Row("a", several), Row("b", replace(ranks(1, n=60), users=users))], reference="a")
    text = report.to_markdown()
    assert text.startswith("| Method | Recall@20 | Recall@50 | HR@20 | HR@50 | NDCG@20 | NDCG@50 | MRR |")
    assert "| Δ Recall@50 [95 %] | Δ HR@50 [95 %] |" in text
    assert "- Ranked: 20 users, 60 targets; candidates per user: 200." in text
    report.save(tmp_path)
    content = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert content["methods"][0]["metrics"]["recall@20"] == summarize(several)["recall@20"]
    assert pd.read_parquet(tmp_path / "ranks.parquet").user.tolist() == [*users, *users]
    assert "\n| Recall@100 | " in (tmp_path / "metrics.md").read_text("utf-8")
    with pytest.raises(ValueError, match="not ranked over the users"):
        report.add("c", ranks(2, n=60))


def test_table_without_times_and_notes_and_with_other_cutoffs():
    text = EvaluationReport("r", [Row("a", ranks(0))], reference="a", ks=(1, 3)).to_markdown()
    assert text.splitlines()[0] == (
        "| Method | HR@1 | HR@3 | NDCG@1 | NDCG@3 | MRR | Δ NDCG@10 [95 %] | Δ HR@10 [95 %] |"
    )


def test_candidates_are_given_as_a_range():
    varied = Ranks(np.array([0, 1]), np.array([0, 0]), np.array([1000, 1201]))
    text = EvaluationReport("r", [Row("a", varied)], reference="a").to_markdown()
    assert "candidates per user: 1,000 to 1,201, mean 1,100.5." in text


def test_saved_files_hold_what_the_report_holds(report, tmp_path):
    folder = report.save(tmp_path / "run" / "evaluation")
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.json",
        "metrics.md",
        "metrics.png",
        "ranks.parquet",
    ]
    content = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert content == report.to_dict()
    first = content["methods"][0]
    assert first["metrics"] == summarize(ranks(0)) and len(first["metrics"]) == 14
    difference = first["difference"]["ndcg@10"]
    assert difference["mean"] == pytest.approx(summarize(ranks(0))["ndcg@10"] - summarize(ranks(1))["ndcg@10"])
    assert difference["low"] < difference["mean"] < difference["high"]
    assert content["methods"][1]["difference"] == {}
    page = (folder / "metrics.md").read_text("utf-8")
    assert page.startswith(report.to_markdown())
    for name in ("HR@1", "HR@5", "HR@20", "NDCG@1", "NDCG@50", "NDCG@100", "MRR", "mean rank"):
        assert f"\n| {name} | " in page[len(report.to_markdown()) :]
    assert (folder / "metrics.png").read_bytes().startswith(PNG)
    table = pd.read_parquet(folder / "ranks.parquet")
    assert list(table.columns) == ["user", "method", "greater", "ties", "candidates"]
    mine = table[table.method == "ID encoder"]
    assert mine.user.tolist() == list(range(50)) and mine.greater.tolist() == ranks(1).greater.tolist()


def test_undefined_share_is_null_in_json(tmp_path):
    last = Ranks(np.array([99, 99]), np.array([0, 0]), np.array([100, 100]))
    first = Ranks(np.array([0, 0]), np.array([0, 0]), np.array([100, 100]))
    report = EvaluationReport("r", [Row("a", first), Row("b", last)], reference="b")
    report.save(tmp_path)
    first_method = json.loads((tmp_path / "metrics.json").read_text())["methods"][0]
    assert first_method["difference"]["ndcg@10"]["relative"] is None


def test_failed_write_keeps_the_old_file_and_leaves_nothing_behind(report, tmp_path, monkeypatch):
    report.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        report.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_rows_that_do_not_belong_are_refused(report):
    with pytest.raises(ValueError, match="already has a row 'Popularity'"):
        report.add("Popularity", ranks(0))
    with pytest.raises(ValueError, match="at least 2"):
        report.add("other", ranks(0, n=1))
    with pytest.raises(ValueError, match="not ranked over the users"):
        report.add("other", ranks(0, n=49))
    with pytest.raises(ValueError, match="not ranked over the users"):
        EvaluationReport("r", [Row("a", ranks(0)), Row("b", ranks(0, n_items=300))])
    with pytest.raises(ValueError, match="No row is named 'ID encoder'.*rows: none"):
        EvaluationReport("r").to_markdown()


LOG = [
    {"eval_ndcg@10": 0.02, "step": 0},
    {"loss": 2.0, "ranking_loss": 1.5, "loss_user_alignment": 0.5, "learning_rate": 0.1, "step": 10},
    {"loss": 1.0, "ranking_loss": 0.8, "loss_user_alignment": 0.2, "step": 20},
    {"eval_ndcg@10": 0.05, "eval_loss": 9.0, "step": 20},
    {"train_loss": 1.5, "step": 20},
]


@pytest.mark.parametrize("log", [LOG, LOG[:1], LOG[1:2]])
def test_learning_curve_is_drawn_from_whatever_was_logged(log, tmp_path):
    path = plot_learning_curve(log, tmp_path / "curve.png")
    assert path.read_bytes().startswith(PNG)
    assert list(tmp_path.iterdir()) == [path]


def test_learning_curve_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Nothing to draw"):
        plot_learning_curve([{"train_loss": 1.0, "step": 3}], tmp_path / "curve.png")
    assert not list(tmp_path.iterdir())


def test_import_is_light_and_drawing_leaves_pyplot_alone(tmp_path):
    code = (
        "import sys, rarec_hf.evaluation.report, rarec_hf.evaluation as e\n"
        "heavy = {'matplotlib', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "e.plot_learning_curve([{'loss': 1.0, 'step': 1}], sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "curve.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
