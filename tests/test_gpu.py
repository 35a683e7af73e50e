"""On a GPU: the answers are the CPU's, the main job runs all its stages there, and what it leaves is read anywhere."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from tests_support import ROOT
from transformers import AutoModelForCausalLM, pipeline

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.hub.explain import Explainer
from rarec_hf.training.run_comparison import compare_runs
from rarec_hf.training.table import text_only_scorer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
HISTORIES = [[1, 2], [4], [], [6, 7, 8, 9], [3]]
SCORES = ["encoder_plus_llm", "trained_head", "dot_product"]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("position", ["after_text", "before_text"])
def test_scores_are_those_of_the_cpu(trained, score, position):
    model = trained(score=score, soft_prompt_position=position)
    expected = model.score_histories(HISTORIES)
    model.to("cuda")
    np.testing.assert_allclose(model.score_histories(HISTORIES), expected, rtol=1e-3, atol=1e-3)
    model.forget_representations()
    model.index_catalogue(progress=False)  # and the items read there
    np.testing.assert_allclose(model.score_histories(HISTORIES), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["qwen3", "gemma3", "mistral", "llama4", "gpt2"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_other_backbones(trained, make_backbone, kind, attention):
    model = trained(backbone=make_backbone(kind, attention))
    expected = model.score_histories(HISTORIES)
    np.testing.assert_allclose(model.to("cuda").score_histories(HISTORIES), expected, rtol=1e-3, atol=1e-3)


def test_recommendations_parts_and_new_items(trained):
    model = trained()
    asked = [[f"i{item}" for item in history] for history in HISTORIES]
    expected, parts = model.recommend(asked, k=4), Explainer(model)([1, 2]).parts
    likeness = text_only_scorer(model)([[1, 2]])
    model.to("cuda")
    assert [answer.item_ids for answer in model.recommend(asked, k=4)] == [answer.item_ids for answer in expected]
    for name, part in Explainer(model)([1, 2]).parts.items():
        np.testing.assert_allclose(part, parts[name], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(text_only_scorer(model)([[1, 2]]), likeness, rtol=1e-3, atol=1e-3)
    model.add_items(["new"], [model.processor.titles[4]], neighbours=1)
    assert "new" in model.recommend(["i1"], k=13).item_ids


def test_pipeline_and_a_folder_loaded_onto_it(trained, make_backbone, tmp_path):
    make_backbone().save_pretrained(tmp_path / "lm")
    backbone = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    model = trained(backbone=backbone, backbone_address=f"path:{tmp_path / 'lm'}")
    model.save_pretrained(tmp_path / "saved")
    expected = model.recommend(["i1", "i2"], k=3).item_ids
    moved = pipeline("sequential-recommendation", model=str(tmp_path / "saved"), device=0)
    assert moved.model.device.type == "cuda"
    assert [item["item_id"] for item in moved(["i1", "i2"], top_k=3)] == expected
    for device_map in ("cuda", "auto"):
        placed = RARecForSequentialRecommendation.from_pretrained(tmp_path / "saved", device_map=device_map)
        assert placed.device.type == "cuda" and placed.recommend(["i1", "i2"], k=3).item_ids == expected
    halved = RARecForSequentialRecommendation.from_pretrained(tmp_path / "saved", device_map="cuda", dtype="bfloat16")
    assert len(halved.recommend(["i1", "i2"], k=3)) == 3


def train(inputs, output, *more):
    words = [
        *(sys.executable, "examples/train.py", "--backbone", inputs / "backbone", "--output_dir", output),
        *("--interactions", inputs / "events.csv", "--items", inputs / "items.jsonl", "--disable_tqdm", "true"),
        *("--encoder_epochs", "2", "--encoder_hidden_size", "16", "--alignment_samples", "32", "--logging_steps", "1"),
        *("--per_device_train_batch_size", "8", *more),
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(map(str, words), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert not done.returncode, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


@pytest.mark.parametrize(
    "more",
    [
        ("--score", "both", "--eval_strategy", "epoch", "--alignment_map", "true", "--recommendation_samples", "2"),
        ("--encoder_type", "text_sasrec", "--text_states_gib", "0.1", "--save_strategy", "epoch", "--eval_strategy")
        + ("epoch", "--load_best_model_at_end", "true", "--num_train_epochs", "2"),
        ("--encoder_type", "comirec", "--score", "trained_head", "--every_position", "true"),
        ("--encoder_type", "gru4rec", "--encoder_negatives", "8", "--alignment_negatives", "4", "--bf16", "true"),
        ("--encoder_type", "bert4rec", "--gradient_checkpointing", "true", "--objective", "cross_entropy"),
    ],
)
def test_main_job(inputs, tmp_path, more):
    """Trained there; the folder answers alike on both."""
    train(inputs, tmp_path / "run", *more)
    model = RARecForSequentialRecommendation.from_pretrained(tmp_path / "run")
    scores = model.score_histories(HISTORIES)
    moved = model.to("cuda").score_histories(HISTORIES)
    assert np.isfinite(scores).all() and np.corrcoef(scores.ravel(), moved.ravel())[0, 1] > 0.99
    assert len(pd.read_parquet(tmp_path / "run" / "ranks.parquet"))


def test_the_same_again_under_full_determinism(inputs, tmp_path):
    for name in ("first", "second"):
        train(inputs, tmp_path / name, "--full_determinism", "true")
    told = compare_runs(tmp_path / "first", tmp_path / "second")
    assert told and all(line.equal for line in told), told
