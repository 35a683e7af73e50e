"""What the main job leaves in runs of W&B and trackio themselves: both write to this machine alone."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import save_inputs, walk_tables

from rarec_hf.training.callbacks import COLUMNS, SAMPLES_FILE, TAG, markdown_text

ROOT = Path(__file__).parents[2]
HOSTILE = "<b>bold</b> | [x](javascript:alert(1)) *"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of one run that reports to both; a title is markup."""
    pytest.importorskip("wandb", reason="wandb is not installed (`pip install wandb`)")
    pytest.importorskip("trackio", reason="trackio is not installed (`pip install trackio`)")
    folder = tmp_path_factory.mktemp("trackers")
    interactions, items = walk_tables()
    items["title"] = [HOSTILE] * len(items)
    save_inputs(folder, (interactions, items))
    words = [
        *("--interactions", folder / "events.csv", "--items", folder / "items.jsonl"),
        *("--backbone", folder / "backbone", "--output_dir", folder / "run", "--disable_tqdm", "true", "--fp32"),
        *("--encoder_hidden_size", "16", "--encoder_epochs", "1", "--alignment_samples", "16"),
        *("--per_device_train_batch_size", "8", "--num_train_epochs", "2", "--eval_strategy", "epoch"),
        *("--logging_steps", "1", "--recommendation_samples", "2", "--report_to", "all"),
    ]
    # A process of its own: both keep the state of a run, and threads, in their modules
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder / "wandb"),
        "TRACKIO_DIR": str(folder / "trackio"),
        "HF_HUB_OFFLINE": "1",
    }
    script = str(ROOT / "examples" / "train.py")
    done = subprocess.run([sys.executable, script, *map(str, words)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def written(run: Path) -> list[list[list[str]]]:
    """The tables of the file of samples, a row's cells as markdown."""
    sections = (run / "run" / SAMPLES_FILE).read_text("utf-8").split("\n## ")[1:]
    lines = [[line for line in section.splitlines() if re.match(r"\| u\d", line)] for section in sections]
    return [[line.strip("| ").replace("\\|", "\0").split(" | ") for line in rows] for rows in lines]


def in_markdown(rows: list[list[str]]) -> list[list[str]]:
    return [[markdown_text(cell).replace("\\|", "\0") for cell in row] for row in rows]


def test_wandb_keeps_the_table_of_each_evaluation(run):
    files = sorted((run / "wandb").rglob(f"{TAG}_*.table.json"), key=lambda path: int(path.name.split("_")[2]))
    tables = [json.loads(path.read_text("utf-8")) for path in files]
    assert len(tables) == 2
    assert all(table["columns"] == list(COLUMNS) for table in tables)
    assert [in_markdown(table["data"]) for table in tables] == written(run)
    assert HOSTILE in tables[0]["data"][0][1]  # W&B shows cells of a table as text


def test_wandb_is_told_the_full_catalogues_metrics(run):
    (log,) = (run / "wandb").rglob("*.wandb")
    content = log.read_bytes()
    for name in (b"eval/ndcg@10", b"eval/hit_rate@100", b"train/alignment_loss", TAG.encode()):
        assert name in content, name


def test_trackio_keeps_metrics_and_tables_that_show_titles_as_text(run):
    (database,) = (run / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        logged = [json.loads(text) for (text,) in connection.execute("SELECT metrics FROM metrics ORDER BY step")]
    assert sum("eval/ndcg@10" in entry for entry in logged) == 2
    tables = [entry[TAG]["_value"] for entry in logged if TAG in entry]
    assert len(tables) == 2
    cells = [[[row[name].replace("\\|", "\0") for name in COLUMNS] for row in table] for table in tables]
    assert cells == written(run)
    assert [entry["train/global_step"] for entry in logged if TAG in entry] == [2, 4]
    assert "&lt;b&gt;" in tables[0][0][COLUMNS[1]] and "<b>" not in json.dumps(tables)
