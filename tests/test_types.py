"""The package's types, as a type checker shows them to a user who has it installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

RIGHT = """
from typing import Any, assert_type

import numpy as np
from transformers import PreTrainedModel, pipeline

from rarec_hf import (
    RARecConfig,
    RARecForSequentialRecommendation,
    RARecProcessor,
    Recommendation,
    SASRecConfig,
    SASRecModel,
    SequentialRecommendationPipeline,
    load_backbone,
    resolve_backbone,
)
from rarec_hf.data import Interactions, Split, leave_one_out, load_interactions
from rarec_hf.evaluation import Ranks, ranks_from_scores, summarize
from rarec_hf.hub import write_model_card

model = RARecForSequentialRecommendation.from_pretrained("outputs/rarec")
assert_type(model, RARecForSequentialRecommendation)
assert_type(model.recommend(["1", "260"], k=5), Recommendation)
assert_type(model.recommend([["1"], []], user_ids=["ann", None]), list[Recommendation])
for item_id, title, score in model.recommend(["1"]):
    assert_type((item_id, title, score), tuple[str, str, float])
assert_type(model.score_histories([[1, 2], np.array([3])]), np.ndarray)
assert_type(model.train(), RARecForSequentialRecommendation)
model.save_pretrained("here", include_backbone=True, include_code=True)
assert_type(RARecProcessor.from_pretrained("here"), RARecProcessor)

source = resolve_backbone("HuggingFaceTB/SmolLM2-135M-Instruct")
encoder = SASRecModel(SASRecConfig(n_items=3, hidden_size=16))
backbone: PreTrainedModel = load_backbone(source)
made = RARecForSequentialRecommendation.from_backbone(backbone, encoder, backbone_address=source.address)
assert_type(made, RARecForSequentialRecommendation)
config = RARecConfig(context_length=2, score="dot_product")
assert_type(config.context_length, int)

# Transformers' types know its own tasks only
recommender = pipeline("sequential-recommendation", model="outputs/rarec")  # type: ignore[call-overload]
answers: Any = recommender(["1"], top_k=3)
mine = SequentialRecommendationPipeline(model, top_k=3)

interactions = load_interactions("events.parquet", "items.csv")
assert_type(interactions, Interactions)
assert_type(leave_one_out(interactions), Split)
ranks = ranks_from_scores(np.zeros((2, 5)), np.array([0, 1]), [np.array([2])] * 2)
assert_type(ranks, Ranks)
assert_type(summarize(ranks), dict[str, float])
"""

# Each line is wrong in the way its comment says
WRONG = """
from rarec_hf import GRU4RecConfig, RARecConfig, RARecForSequentialRecommendation, RARecProcesor  # attr-defined
from rarec_hf.evaluation import Popularity, summarize

RARecConfig(context_length="x")  # arg-type
RARecConfig(contextlength=3)  # call-arg
GRU4RecConfig(n_items=[1])  # arg-type
model = RARecForSequentialRecommendation.from_pretrained("here")
model.recommend(["1"], k="a")  # call-overload
model.recommend(7)  # call-overload
model.recommend(["1"]).titels  # attr-defined
model.recommend(["1"]).titles + 1  # operator
model.save_pretrained("here", include_backbone="yes")  # arg-type
model.push_to_hub()  # call-arg
summarize("ranks")  # arg-type
Popularity(neighbours=3)  # call-arg
"""


@pytest.fixture
def checked(tmp_path):
    """`checked(source)`: `(line, code)` of each error; the package is found as an installed one, by its `py.typed`."""
    pytest.importorskip("mypy")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "rarec_hf").symlink_to(ROOT / "rarec_hf")

    def run(source: str) -> list[tuple[int, str]]:
        (tmp_path / "snippet.py").write_text(source, "utf-8")
        path = os.pathsep.join([str(tmp_path / "site"), *(entry for entry in sys.path if "site-packages" in entry)])
        command = [
            sys.executable,
            "-m",
            "mypy",
            "--cache-dir",
            str(ROOT / ".mypy_cache"),
            "--config-file=",
            "snippet.py",
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}
        )
        assert not done.stderr, done.stderr
        found = re.findall(r"^snippet.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, flags=re.M)
        assert found or done.stdout.startswith("Success"), done.stdout
        return [(int(line), code) for line, code in found]

    return run


def test_what_a_user_writes_is_clean_and_mistakes_are_found(checked):
    assert checked(RIGHT) == []
    expected = [
        (number, line.rsplit("# ", 1)[1]) for number, line in enumerate(WRONG.splitlines(), 1) if "  # " in line
    ]
    assert checked(WRONG) == expected
