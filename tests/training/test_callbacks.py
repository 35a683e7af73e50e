"""Callbacks of the alignment: what users' own see, the best model, early stopping, samples of recommendations."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests_support import walk_tables
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.data import build_interactions, by_users, leave_one_out
from rarec_hf.evaluation import rank_targets, summarize
from rarec_hf.training import job, ranking_trainer
from rarec_hf.training.arguments import RARecTrainingArguments
from rarec_hf.training.callbacks import SAMPLES_FILE, RecommendationSamplesCallback, draw_users, markdown_text
from rarec_hf.training.command_line import parse_arguments
from rarec_hf.training.ranking_trainer import RankingDataset

BY_EPOCH = ("--eval_strategy", "epoch", "--save_strategy", "epoch", "--load_best_model_at_end", "true")


@pytest.fixture
def align(split, prepare):
    """`align(*flags, callbacks=(), folder=None, split=split)`: the alignment stage; gives model, log, counts."""

    def run(*flags, callbacks=(), folder=None, split=split):
        model, alignment, training = prepare("--learning_rate", "0.05", *flags, split=split)
        log, drawn, _ = job.align(model, split, alignment, training, folder=folder, callbacks=callbacks)
        return model, log, drawn

    return run


class Watch(TrainerCallback):
    """What a user's own callback is told."""

    def __init__(self):
        self.metrics, self.steps = [], []

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.metrics.append(metrics)
        self.steps.append(state.global_step)


def own_weights(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.own_weights().items()}


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def measured(monkeypatch):
    """`measured(values)`: the evaluations' NDCG@10 one after the other; all else as it is."""

    def set_values(*values):
        left = iter(values)
        monkeypatch.setattr(ranking_trainer, "summarize", lambda ranks: summarize(ranks) | {"ndcg@10": next(left)})

    return set_values


# metrics -------------------------------------------------------------------------------------------------------------


def test_a_users_callback_sees_the_full_catalogues_metrics(align, split):
    watch = Watch()
    model, log, _ = align("--eval_strategy", "epoch", "--num_train_epochs", "2", callbacks=[watch])
    assert watch.steps == [2, 4]
    targets = split.validation_of(split.alignment_users)
    histories = [targets.history(split.interactions, row) for row in range(len(targets))]
    ranks = rank_targets(model.scorer(), histories, targets.targets, split.interactions.n_items, progress=False)
    assert watch.metrics[-1] == pytest.approx({f"eval_{name}": value for name, value in summarize(ranks).items()})
    assert {"eval_ndcg@10", "eval_hit_rate@10", "eval_mrr", "eval_mean_rank"} <= watch.metrics[0].keys()
    logged = [entry["eval_ndcg@10"] for entry in log if "eval_ndcg@10" in entry]
    assert logged == [metrics["eval_ndcg@10"] for metrics in watch.metrics]


def test_evaluations_by_steps_are_seen_too(align):
    watch = Watch()
    align("--eval_strategy", "steps", "--eval_steps", "1", "--num_train_epochs", "1", callbacks=[watch])
    assert watch.steps == [1, 2]


# best model and early stopping ---------------------------------------------------------------------------------------


class KeepWeights(TrainerCallback):
    def __init__(self):
        self.after = []

    def on_epoch_end(self, args, state, control, model, **kwargs):
        self.after.append(own_weights(model))


def test_the_best_epoch_is_kept(align, measured, tmp_path):
    measured(0.1, 0.5, 0.3)
    keep = KeepWeights()
    model, _, drawn = align(*BY_EPOCH, "--num_train_epochs", "3", callbacks=[keep])
    assert drawn["best_step"] == 4
    assert same(own_weights(model), keep.after[1])
    assert not same(own_weights(model), keep.after[2])
    checkpoint = tmp_path / "work" / "checkpoint-4"
    assert same(own_weights(model), load_file(checkpoint / "model.safetensors"))
    # Slim, and whole: the checkpoint recommends by itself what the run's model recommends
    assert not [name for name in load_file(checkpoint / "model.safetensors") if name.startswith("language_model.")]
    loaded = RARecForSequentialRecommendation.from_pretrained(checkpoint)
    ours, theirs = (m.recommend(["i1", "i2"], k=30) for m in (model, loaded))
    assert ours.item_ids == theirs.item_ids
    assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)


def test_the_metric_of_choice_may_be_another_and_a_small_mean_rank_is_good(align, monkeypatch):
    left = iter([9.0, 4.0, 6.0])
    monkeypatch.setattr(ranking_trainer, "summarize", lambda ranks: summarize(ranks) | {"mean_rank": next(left)})
    keep = KeepWeights()
    flags = (*BY_EPOCH, "--metric_for_best_model", "mean_rank", "--num_train_epochs", "3")
    model, _, drawn = align(*flags, callbacks=[keep])
    assert drawn["best_step"] == 4
    assert same(own_weights(model), keep.after[1])


def test_training_stops_where_nothing_gets_better(align, measured):
    measured(0.4, 0.5, 0.3, 0.45)
    watch = Watch()
    patience = ("--early_stopping_patience", "2", "--num_train_epochs", "9")
    _, _, drawn = align(*BY_EPOCH, *patience, callbacks=[watch])
    assert watch.steps == [2, 4, 6, 8]
    assert drawn["best_step"] == 4


def test_without_the_flags_the_last_weights_stay(align, measured, tmp_path):
    measured(0.5, 0.1)
    keep = KeepWeights()
    model, _, drawn = align("--eval_strategy", "epoch", "--num_train_epochs", "2", callbacks=[keep])
    assert "best_step" not in drawn
    assert same(own_weights(model), keep.after[1])
    assert not list((tmp_path / "work").glob("checkpoint-*"))


def test_an_unknown_metric_is_named(align):
    with pytest.raises(KeyError, match="eval_auc.*eval_ndcg@10"):
        align(*BY_EPOCH, "--metric_for_best_model", "auc")


@pytest.mark.parametrize("name", ["early_stopping_patience", "recommendation_samples"])
def test_what_needs_evaluations_says_so(name, tmp_path):
    with pytest.raises(ValueError, match=f"--{name} 2 acts after evaluations.*--eval_strategy epoch"):
        RARecTrainingArguments(output_dir=str(tmp_path), **{name: 2})
    with pytest.raises(ValueError, match=f"--{name} must be 0 .off. or more, got -1"):
        RARecTrainingArguments(output_dir=str(tmp_path), eval_strategy="epoch", **{name: -1})


def test_other_weights_make_item_representations_stale(align):
    model, _, _ = align()
    model.recommend(["i1"])
    model.load_state_dict({"id_scale": 2 * model.id_scale}, strict=False)
    with pytest.raises(ValueError, match="older than the weights"):
        model.recommend(["i1"])


# samples of recommendations ------------------------------------------------------------------------------------------


@pytest.fixture
def data(split):
    return RankingDataset(split.interactions, split.validation)


@pytest.fixture
def dozen():
    """Users over the catalogue of a dozen items that `trained()` knows."""
    split = leave_one_out(build_interactions(*walk_tables(n_users=10, n_items=12)), alignment_fraction=0.2, seed=0)
    return RankingDataset(split.interactions, split.validation)


def test_the_same_users_every_time_and_all_of_a_small_data_set(data, split):
    users = draw_users(data, 4, seed=3)
    assert users == draw_users(data, 4, seed=3)
    assert users != draw_users(data, 4, seed=4)
    assert len({user.user_id for user in draw_users(data, 1000)}) == len(data)
    interactions = split.interactions
    for user in users:
        whole = interactions.history(list(interactions.user_ids).index(user.user_id))
        titles = [interactions.items.titles[item] for item in whole]
        assert user.history == [interactions.items.item_ids[item] for item in whole[:-2]]
        assert user.chose == titles[:-2][-5:]
        assert user.then_chose == [titles[-2]]


def test_several_targets_of_a_user_are_one_row(tables):
    split = by_users(build_interactions(*tables), seed=0)
    data = RankingDataset(split.interactions, split.validation)
    users = draw_users(data, 100)
    assert len(users) == len(np.unique(split.validation.users)) < len(data)
    assert sum(len(user.then_chose) for user in users) == len(data)


def user_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"\| u\d", line)]


def test_samples_are_written_after_each_evaluation(align, split, tmp_path):
    flags = ("--eval_strategy", "epoch", "--num_train_epochs", "2", "--recommendation_samples", "3")
    model, log, _ = align(*flags, folder=tmp_path / "run")
    text = (tmp_path / "run" / SAMPLES_FILE).read_text("utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    values = [entry["eval_ndcg@10"] for entry in log if "eval_ndcg@10" in entry]
    assert [heading.split(",")[0] for heading in headings] == ["## Step 2", "## Step 4"]
    for heading, value in zip(headings, values, strict=True):
        assert f"(encoder_plus_llm), eval_ndcg@10 {value:.4f}" in heading
    lines = user_lines(text)
    assert len(lines) == 6
    first, last = lines[:3], lines[3:]
    assert [line.split(" | ")[:3] for line in first] == [line.split(" | ")[:3] for line in last]
    # What stands there last is what the trained model recommends
    data = RankingDataset(split.interactions, split.validation_of(split.alignment_users))
    shown = RecommendationSamplesCallback(model, data, tmp_path, n_users=3, seed=42)
    for line, (user_id, chose, then, best) in zip(last, shown.rows(), strict=True):
        assert line.startswith(f"| {user_id} | ")
        for title in (*chose, *then, *(f"{n}. {title}" for n, title in enumerate(best, 1))):
            assert title in line


def test_titles_stay_text_in_markdown(align, tmp_path):
    interactions, items = walk_tables()
    items["title"] = [f"<b>*{n}*</b> | a_b `c`\\" for n in range(len(items))]
    strange = leave_one_out(build_interactions(interactions, items), alignment_fraction=0.2, seed=0)
    align("--eval_strategy", "epoch", "--recommendation_samples", "1", folder=tmp_path / "run", split=strange)
    (line,) = user_lines((tmp_path / "run" / SAMPLES_FILE).read_text("utf-8"))
    assert re.search(re.escape(r"&lt;b&gt;\*N\*&lt;/b&gt; \| a\_b \`c\`\\").replace("N", r"\d+"), line)
    assert "<b>" not in line
    cells = line.replace("\\\\", "").replace("\\|", "").strip("|").split("|")
    assert len(cells) == 4
    assert markdown_text("a\nb #1 [x](y)") == r"a b \#1 \[x\](y)"


class FakeWriter:
    def __init__(self):
        self.texts = []

    def add_text(self, tag, text, step):
        self.texts.append((tag, text, step))


def evaluated(callback, step=7):
    state = SimpleNamespace(is_world_process_zero=True, global_step=step, epoch=1.0)
    callback.on_evaluate(None, state, None, metrics={"eval_ndcg@10": 0.25, "eval_mrr": 0.1})


def test_tensorboard_is_given_the_table(trained, dozen, tmp_path):
    """With a writer of ours, as TensorBoard need not be there."""
    tracker, writer = TensorBoardCallback.__new__(TensorBoardCallback), FakeWriter()
    tracker.tb_writer = None
    callback = RecommendationSamplesCallback(trained(), dozen, tmp_path, 2, trackers=[tracker])
    evaluated(callback, step=6)  # it is not writing yet
    tracker.tb_writer = writer
    evaluated(callback)
    ((tag, text, step),) = writer.texts
    assert (tag, step) == ("recommendation_samples", 7)
    written = (tmp_path / SAMPLES_FILE).read_text("utf-8")
    assert written.endswith(text)
    assert "## Step 6" in written and "## Step 7, epoch 1 (encoder_plus_llm), eval_ndcg@10 0.2500\n" in written


def test_tensorboard_itself_shows_it(trained, dozen, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path / "logs"))
    callback = RecommendationSamplesCallback(trained(), dozen, tmp_path, 2, trackers=[TensorBoardCallback(writer)])
    evaluated(callback)
    writer.close()
    events = accumulator.EventAccumulator(str(tmp_path / "logs")).Reload()
    (event,) = events.Tensors("recommendation_samples/text_summary")
    assert event.step == 7
    assert "1. film" in event.tensor_proto.string_val[0].decode()


@pytest.mark.parametrize(("kind", "name"), [(WandbCallback, "wandb"), (TrackioCallback, "trackio")])
def test_a_run_of_wandb_or_trackio_is_given_a_table(kind, name, trained, dozen, tmp_path, monkeypatch):
    logged, current = [], SimpleNamespace(get=lambda: None)
    fake = SimpleNamespace(
        run=None,
        context_vars=SimpleNamespace(current_run=current),
        log=logged.append,
        Table=lambda columns, data: (columns, data),
    )
    monkeypatch.setitem(sys.modules, name, fake)
    tracker = kind.__new__(kind)
    callback = RecommendationSamplesCallback(trained(), dozen, tmp_path, 2, trackers=[tracker])
    evaluated(callback)
    assert not logged  # no run is open
    fake.run, current.get = object(), object
    evaluated(callback, step=9)
    ((columns, data),) = [entry["recommendation_samples"] for entry in logged]
    assert logged[0]["train/global_step"] == 9
    assert columns == ["user", "chose, latest last", "then chose", "recommended"]
    assert len(data) == 2 and all(len(row) == 4 for row in data)


def test_only_the_main_process_writes(trained, dozen, tmp_path):
    callback = RecommendationSamplesCallback(trained(), dozen, tmp_path / "run")
    callback.on_evaluate(None, SimpleNamespace(is_world_process_zero=False), None, metrics={})
    assert not (tmp_path / "run").exists()


def test_wrong_numbers_are_refused(trained, dozen, tmp_path):
    with pytest.raises(ValueError, match="at least 1, got 0 and 5"):
        RecommendationSamplesCallback(trained(), dozen, tmp_path, n_users=0)


# the main job --------------------------------------------------------------------------------------------------------


def test_the_main_job_keeps_the_best_of_each_score_and_writes_samples(backbone, tmp_path, monkeypatch):
    interactions, items = walk_tables()
    interactions.to_csv(tmp_path / "events.csv", index=False)
    items.to_csv(tmp_path / "items.csv", index=False)
    script = Path(__file__).parents[2] / "examples" / "train.py"
    options = ["--interactions", str(tmp_path / "events.csv"), "--items", str(tmp_path / "items.csv")]
    options += ["--backbone", str(backbone), "--output_dir", str(tmp_path / "run"), "--disable_tqdm", "true"]
    options += ["--encoder_epochs", "1", "--encoder_hidden_size", "8", "--alignment_samples", "16", "--fp32"]
    options += ["--per_device_train_batch_size", "8", "--score", "both", "--num_train_epochs", "2", *BY_EPOCH]
    options += ["--recommendation_samples", "2", "--early_stopping_patience", "1", "--save_total_limit", "1"]
    monkeypatch.setattr(sys, "argv", [str(script), *options])
    runpy.run_path(str(script), run_name="__main__")
    run = tmp_path / "run"
    text = (run / SAMPLES_FILE).read_text("utf-8")
    assert "## Step 2, epoch 1 (encoder_plus_llm)" in text and "## Step 2, epoch 1 (dot_product)" in text
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["dot_product", "encoder_plus_llm"]
    assert json.loads((run / "metrics.json").read_text())["data"]["best_step"] in (2, 4)
    saved = yaml.safe_load((run / "arguments.yaml").read_text())
    assert saved["load_best_model_at_end"] is True and saved["metric_for_best_model"] == "ndcg@10"
    again = parse_arguments(["--config", str(run / "arguments.yaml")])[3]
    assert again.eval_strategy == again.save_strategy == "epoch" and again.recommendation_samples == 2
