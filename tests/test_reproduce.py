"""A saved run is repeated from its own folder, and what differs is seen: data, weights, ranks, processes."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from importlib.metadata import version

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests_support import ROOT

from rarec_hf.training.run_comparison import compare_runs
from rarec_hf.training.run_record import NoRunRecordError, OtherDataError, OtherLaunchError, RunRecord


def run(script: str, *arguments: str) -> int:
    """The script's exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments])
        try:
            runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
        except SystemExit as ended:
            return ended.code or 0
    return 0


@pytest.fixture(scope="module")
def trained(inputs):
    """A run whose paths are relative and whose options come from a file, too, which is gone afterwards."""
    options = {"backbone": "backbone", "encoder_epochs": 2, "encoder_hidden_size": 16, "fp32": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inputs)
        (inputs / "options.yaml").write_text(yaml.safe_dump(options), "utf-8")
        data = ("--interactions", "events.csv", "--items", "items.jsonl", "--disable_tqdm", "true", "--seed", "7")
        short = ("--alignment_samples", "32", "--per_device_train_batch_size", "8", "--logging_steps", "1")
        assert not run("train.py", "--config", "options.yaml", *data, *short, "--output_dir", "runs/first")
        (inputs / "options.yaml").unlink()
    return inputs / "runs" / "first"


@pytest.fixture
def copied(trained, inputs, tmp_path, monkeypatch):
    """The run, its data and its record in a folder of their own."""
    for name in ("events.csv", "items.jsonl"):
        shutil.copy(inputs / name, tmp_path / name)
    shutil.copytree(inputs / "backbone", tmp_path / "backbone")
    shutil.copytree(trained, tmp_path / "first")
    record = json.loads((trained / "environment.json").read_text("utf-8"))
    (tmp_path / "first" / "environment.json").write_text(
        json.dumps(record | {"working_folder": str(tmp_path)}), "utf-8"
    )
    monkeypatch.chdir(tmp_path)  # and back, after the script has changed it
    return tmp_path / "first"


def test_a_run_says_what_made_it(trained):
    record = RunRecord.of(trained)
    assert (
        record.options["seed"] == 7 and record.options["encoder_epochs"] == 2 and record.options["weight_decay"] == 0
    )
    assert {
        "python",
        "torch",
        "transformers",
        "accelerate",
        "rarec_hf",
        "numpy",
        "safetensors",
    } <= record.versions.keys()
    assert record.processes == 1 and record.threads == torch.get_num_threads()
    assert record.words[:2] == ["--backbone", "backbone"] and "--config" not in record.words
    checkout = (ROOT / ".git").exists()
    assert (
        (record.commit is not None and len(record.commit.split("-")[0]) == 40) if checkout else record.commit is None
    )


def test_a_run_is_repeated_to_the_bit(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.rand(5)  # what was drawn before in this process has no say
    assert run("reproduce.py", str(trained)) == 0
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith("| ") and line.endswith("| equal |")]
    assert len(table) == 6 and "6 of 6 parts are equal to the bit" in printed
    for part in ("model.safetensors", "id_encoder/model.safetensors", "ranks.parquet", "metrics.json"):
        assert any(line.startswith(f"| {part} |") for line in table)
    assert "Versions, device, threads and options are the same." in printed
    assert (trained.with_name("first.again") / "config.json").exists()


def test_other_data_are_refused_before_anything_is_trained(copied):
    events = pd.read_csv("events.csv")
    record = RunRecord.of(copied)
    events.iloc[:-1].to_csv("events.csv", index=False)
    with pytest.raises(OtherDataError, match=record.data_fingerprint) as refused:
        run("reproduce.py", str(copied))
    assert "these have" in str(refused.value) and not copied.with_name("first.again").exists()
    events.assign(timestamp=events.timestamp * 2).to_csv("events.csv", index=False)  # the same order
    with pytest.raises(OtherDataError):
        run("reproduce.py", str(copied))


def test_a_changed_weight_is_found(copied, capsys):
    weights = load_file(copied / "model.safetensors")
    weights["score_head.text_mean"][0, 3] += 0.5
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    content = json.loads((copied / "environment.json").read_text("utf-8"))
    content["versions"]["torch"] = "1.0"
    (copied / "environment.json").write_text(json.dumps(content), "utf-8")
    assert run("reproduce.py", str(copied), "--output_dir", "second") == 1
    printed = capsys.readouterr().out
    assert "1 tensors differ, by 0.5 at most (score_head.text_mean)" in printed
    assert "5 of 6 parts are equal" in printed and f"torch: '1.0' then, '{version('torch')}' now" in printed


def test_what_differs_is_told_by_how_much(trained, tmp_path):
    other = shutil.copytree(trained, tmp_path / "other")
    assert all(line.equal for line in compare_runs(trained, other))
    ranks = pd.read_parquet(other / "ranks.parquet")
    ranks.loc[[0, 1], "greater"] += 3
    ranks.to_parquet(other / "ranks.parquet", index=False)
    metrics = json.loads((other / "metrics.json").read_text("utf-8"))
    metrics["methods"][0]["metrics"]["hit_rate@10"] = metrics["methods"][0]["metrics"].get("hit_rate@10", 0) + 0.25
    metrics["methods"][1]["seconds"], metrics["data"]["minutes"] = 99.0, 99.0  # times do not count
    (other / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    (other / "id_encoder" / "model.safetensors").unlink()
    found = {line.part: line.differs for line in compare_runs(trained, other) if not line.equal}
    assert found.keys() == {"ranks.parquet", "metrics.json", "id_encoder/model.safetensors"}
    assert found["ranks.parquet"] == "2 ranks differ, by 3 places at most (Popularity 2)"
    assert found["metrics.json"].startswith("1 values differ")
    assert found["id_encoder/model.safetensors"] == f"only in {trained}"


def test_another_number_of_processes_is_refused_with_the_command(copied):
    content = json.loads((copied / "environment.json").read_text("utf-8"))
    (copied / "environment.json").write_text(json.dumps(content | {"processes": 2, "threads": 1}), "utf-8")
    with pytest.raises(OtherLaunchError, match="--num_processes 2 --num_cpu_threads_per_process 1 .*reproduce.py"):
        run("reproduce.py", str(copied))


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_a_folder_without_a_record(tmp_path, content):
    if content is not None:
        (tmp_path / "environment.json").write_text(content, "utf-8")
    with pytest.raises(NoRunRecordError, match="Expected .*environment.json to say how the run was made"):
        RunRecord.of(tmp_path)
