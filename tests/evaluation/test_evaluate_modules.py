"""The `evaluate` modules: the package's own numbers, by name and by path, equal to ranx, and in a built wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch

from rarec_hf.evaluation import load_metric, metric_per_user, ranks_from_scores
from rarec_hf.evaluation.modules import MODULES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "rarec_hf" / "evaluation" / "modules"


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory):
    """Neither the network nor the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.socket.connect", lambda *a: pytest.fail("a metric asked the network"))
        patch.setattr("evaluate.config.HF_METRICS_CACHE", str(folder / "metrics"))
        patch.setattr("evaluate.config.HF_MODULES_CACHE", str(folder / "modules"))
        patch.setattr(sys, "path", [*sys.path, str(folder / "modules")])
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "evaluate_modules"]:
        del sys.modules[name]


def metrics(config_name=None):
    return evaluate.combine([load_metric(name, config_name) for name in MODULES])


def random_lists(seed, n=30, n_items=40, length=15):
    """Ranked ids of each user and one to four targets, some of which are in no list."""
    rng = np.random.default_rng(seed)
    lists = [[f"i{item}" for item in rng.permutation(n_items)[:length]] for _ in range(n)]
    targets = [[f"i{item}" for item in rng.permutation(n_items)[: rng.integers(1, 5)]] for _ in range(n)]
    return lists, targets


def test_lists_by_hand():
    found = metrics().compute(predictions=[["a", "b", "c"], ["d", "e", "f"]], references=["b", ["x", "d"]], k=[1, 3])
    assert found == pytest.approx(
        {
            "hit_rate@1": 1 / 2,
            "hit_rate@3": 1,
            "recall@1": (0 + 1 / 2) / 2,
            "recall@3": (1 + 1 / 2) / 2,
            "ndcg@1": 1 / 2,
            "ndcg@3": (1 / np.log2(3) + 1 / (1 + 1 / np.log2(3))) / 2,
            "mrr@1": 1 / 2,
            "mrr@3": (1 / 2 + 1) / 2,
        }
    )
    assert all(type(value) is float for value in found.values())


def test_k_is_ten_unless_given_and_mrr_counts_the_whole_list():
    lists = [[f"i{n}" for n in range(20)]]
    assert metrics().compute(predictions=lists, references=["i11"]) == {
        "hit_rate@10": 0,
        "recall@10": 0,
        "ndcg@10": 0,
        "mrr": pytest.approx(1 / 12),
    }


def test_what_is_in_no_list_is_not_found_at_any_k():
    for lists in ([[]], [["a", "b"]]):
        for targets in (["x"], [["x", "y", "z"]]):
            assert set(metrics().compute(predictions=lists, references=targets, k=[1, 2, 3, 50]).values()) == {0.0}
            assert load_metric("mrr").compute(predictions=lists, references=targets) == {"mrr": 0.0}


@pytest.mark.slow  # ranx compiles itself first
@pytest.mark.parametrize("seed", range(3))
def test_lists_agree_with_ranx(seed):
    ranx = pytest.importorskip("ranx")
    lists, targets = random_lists(seed)
    qrels = ranx.Qrels({f"u{row}": dict.fromkeys(some, 1) for row, some in enumerate(targets)})
    run = ranx.Run({f"u{n}": {item: float(-place) for place, item in enumerate(ids)} for n, ids in enumerate(lists)})
    names = [f"{name}@{k}" for name in MODULES for k in (1, 5, 12, 15)]
    ours = metrics().compute(predictions=lists, references=targets, k=[1, 5, 12, 15])
    assert ours == pytest.approx(ranx.evaluate(qrels, run, names), abs=1e-9)
    assert load_metric("mrr").compute(predictions=lists, references=targets) == pytest.approx(
        {"mrr": ranx.evaluate(qrels, run, "mrr")}, abs=1e-9
    )


@pytest.mark.parametrize("given", [list, np.asarray, torch.tensor])
def test_scores_are_ranked_by_the_packages_rule_for_ties(given):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (12, 30)).astype(float)  # most items tie
    targets = [rng.permutation(30)[: rng.integers(1, 4)].tolist() for _ in range(12)]
    found = metrics("scores").compute(predictions=given(scores.tolist()), references=targets, k=[1, 7])
    rows = np.repeat(np.arange(12), list(map(len, targets)))
    ranks = ranks_from_scores(scores, np.concatenate(targets), [()] * len(rows), score_rows=rows, users=rows)
    assert found == pytest.approx({name: metric_per_user(ranks, name).mean() for name in found}, abs=1e-12)
    constant = load_metric("hit_rate", "scores").compute(predictions=np.zeros((3, 50)), references=[4, 5, 6], k=5)
    assert constant == {"hit_rate@5": pytest.approx(5 / 50)}


def test_scores_and_the_lists_they_make_agree():
    rng = np.random.default_rng(1)
    scores, targets = rng.permuted(np.tile(np.arange(25.0), (9, 1)), axis=1), rng.integers(0, 25, 9)
    seen = (targets + 1) % 25
    scores[np.arange(9), seen] = -np.inf  # items of the history
    lists = np.argsort(-scores, axis=1)[:, :24]
    assert metrics("scores").compute(predictions=scores, references=targets, k=6) == metrics().compute(
        predictions=lists, references=targets.astype(str), k=6
    )


def test_batches_one_by_one_and_all_at_once_are_the_same():
    lists, targets = random_lists(4)
    whole = metrics().compute(predictions=lists, references=targets, k=5)
    batches, single = metrics(), metrics()
    for start in range(0, 30, 7):
        batches.add_batch(predictions=lists[start : start + 7], references=targets[start : start + 7])
    for ranked, some in zip(lists, targets, strict=True):
        single.add(prediction=ranked, reference=some)
    assert batches.compute(k=5) == single.compute(k=5) == whole
    assert batches.compute(predictions=lists, references=targets, k=5) == whole  # nothing is left of the first time


@pytest.mark.parametrize("name", MODULES)
def test_each_loads_by_its_path(name):
    module = evaluate.load(str(FOLDER / name))
    assert isinstance(module, evaluate.Metric)
    assert module.name == name
    lists, targets = random_lists(2)
    assert module.compute(predictions=lists, references=targets, k=5) == load_metric(name).compute(
        predictions=lists, references=targets, k=5
    )
    assert evaluate.load(str(FOLDER / name), "scores").compute(predictions=[[0.1, 0.7]], references=[1], k=1) == {
        f"{name}@1": 1.0
    }


def test_paths_combine():
    both = evaluate.combine([str(FOLDER / "ndcg"), str(FOLDER / "hit_rate")])
    assert both.compute(predictions=[["a"]], references=["a"], k=1) == {"ndcg@1": 1.0, "hit_rate@1": 1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": [["a", "b", "a"]]}, "user 0 of the batch has 'a' twice; a ranked list"),
        ({"references": [["a", "a"]]}, "'a' twice; give each target once"),
        ({"references": [[]]}, "user 0 of the batch has no target"),
        ({"predictions": ["ab"]}, "expected a list of item ids, got 'ab'"),
        ({"predictions": [[0.5, 0.25]]}, "got 0.5.*configuration 'scores'"),
        ({"predictions": np.array([[0.5, 0.25]], dtype="float32")}, "configuration 'scores'"),
        ({"predictions": [["a", None]]}, "text or whole numbers, got None"),
        ({"references": ["a", "b"]}, "got 1 predictions and 2 references"),
        ({"references": None}, "both `predictions` and `references`"),
        ({"k": 0}, "from 1 on, or a list of them, got 0"),
        ({"k": [5, 2.5]}, r"got \[5, 2.5\]"),
        ({"k": True}, "got True"),
        ({"k": []}, r"got \[\]"),
    ],
)
def test_wrong_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_metric("ndcg").compute(**{"predictions": [["a", "b"]], "references": ["a"], **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": [[0.5, 0.1], [0.2]]}, "rows of 1 to 2 scores"),
        ({"predictions": [["a", "b"]], "references": [0]}, "expected one score for every item"),
        ({"references": [0, "i1"]}, "user 1 of the batch: expected item indices beside scores, got 'i1'"),
        ({"references": [0, 2]}, "item index 2 is outside the catalogue"),
        ({"predictions": [[0.5, 0.1], [0.2, float("nan")]]}, "Row 1 .*NaN"),
    ],
)
def test_wrong_scores_are_refused(arguments, message):
    given = {"predictions": [[0.5, 0.1], [0.2, 0.3]], "references": [0, 0], **arguments}
    with pytest.raises(ValueError, match=message):
        load_metric("ndcg", "scores").compute(**given)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="Unknown metric 'auc'; expected one of hit_rate"):
        load_metric("auc")
    with pytest.raises(ValueError, match="Unknown configuration 'score' of ndcg"):
        load_metric("ndcg", "score")


def test_lists_shorter_than_k_are_pointed_out(caplog):
    assert load_metric("hit_rate").compute(predictions=[["a"], []], references=["a", "b"], k=1) == {"hit_rate@1": 0.5}
    assert not caplog.text
    assert load_metric("hit_rate").compute(predictions=[["a"], []], references=["a", "b"], k=3) == {"hit_rate@3": 0.5}
    assert "longest list holds 1 items, fewer than k=3" in caplog.text


def test_a_built_wheel_holds_the_modules_and_they_load(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "rarec_hf", source / "rarec_hf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        file.extractall(tmp_path / "installed")
    for name in MODULES:
        assert f"rarec_hf/evaluation/modules/{name}/{name}.py" in names
    # From the wheel alone, as a user who has no checkout: by name, and by path
    code = (
        "import evaluate, sys, rarec_hf; from rarec_hf.evaluation import load_metric, modules\n"
        "assert rarec_hf.__file__.startswith(sys.argv[1]), rarec_hf.__file__\n"
        "path = modules.__path__[0] + '/ndcg'\n"
        "for metric in (load_metric('ndcg'), evaluate.load(path)):\n"
        "    print(metric.compute(predictions=[['a', 'b']], references=['a'], k=2))\n"
    )
    installed = str(tmp_path / "installed")
    environment = {"PYTHONPATH": installed, "HF_HOME": str(tmp_path / "home"), "PATH": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, installed], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:2] == ["{'ndcg@2': 1.0}"] * 2, done.stderr
