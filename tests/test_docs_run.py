"""Every Python block of README and docs runs: the blocks of a page in order, in one namespace and a folder of its own,
on tiny models and tables under the names that the pages use, and on a Hub on this machine."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from doc_blocks import ROOT, Block, blocks_of
from hub_client import ME, log_in
from huggingface_hub import HfApi
from tests_support import save_tiny_backbone, walk_tables

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.backbone_source import DEFAULT_BACKBONE
from rarec_hf.data import load_interactions
from rarec_hf.training import job
from rarec_hf.training.ranking_trainer import RankingTrainer

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
CODE = [page for page in PAGES if any(block.language == "python" for block in blocks_of(page))]
NOT_RUN = {"id_encoders.md": 1}  # blocks with a marker; whoever adds one says so here
FILMS = {  # ids and titles that the pages name
    "1": "Toy Story (1995)", "260": "Star Wars: Episode IV - A New Hope (1977)", "1196": "Star Wars: Episode V (1980)",
    "1214": "Alien (1979)", "541": "Blade Runner (1982)", "1200": "Aliens (1986)",
}  # fmt: skip


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Interactions and items, the first ones under the names of `FILMS`."""
    events, items = walk_tables()
    ids = dict(zip(items.item_id, FILMS, strict=False))
    items["title"] = [*FILMS.values(), *items.title[len(FILMS) :]]
    items["genres"] = ["Animation, Children", "Action", "Drama"] * (len(items) // 3)
    for table in (events, items):
        table["item_id"] = table.item_id.replace(ids)
    return events, items


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What readers have when they come to a page: tables, a trained folder, vectors of histories."""
    folder = tmp_path_factory.mktemp("world")
    events, items = tables()
    events.to_csv(folder / "events.csv", index=False)
    items.to_csv(folder / "items.csv", index=False)
    events.rename(columns={"user_id": "who"}).to_csv(folder / "clicks.csv", index=False)
    pd.DataFrame({"history": [["1", "260"], ["1196"], []]}).to_parquet(folder / "histories.parquet")
    lm = tmp_path_factory.mktemp("lm")
    save_tiny_backbone(lm)
    options = ["--interactions", "events.csv", "--items", "items.csv", "--attribute_columns", "genres"]
    options += ["--backbone", str(lm), "--fp32", "--encoder_epochs", "2", "--encoder_hidden_size", "16"]
    options += ["--alignment_samples", "32", "--disable_tqdm", "true", "--output_dir", "outputs/rarec"]
    before = os.getcwd(), sys.argv
    try:
        os.chdir(folder)
        sys.argv = ["train.py", *options]
        runpy.run_path(str(ROOT / "examples" / "train.py"), run_name="__main__")
    finally:
        os.chdir(before[0])
        sys.argv = before[1]
    shutil.copytree(folder / "outputs" / "rarec", folder / "outputs" / "mine")
    return folder, lm


@pytest.fixture
def here(world, hub, tmp_path, monkeypatch):
    """The working folder, a copy of the world; a Hub that knows `me` and the default backbone; embedded data, tiny."""
    folder, lm = world
    shutil.copytree(folder, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
    hub.tokens["hf_of_them"] = owner = DEFAULT_BACKBONE.split("/")[0]
    assert owner == "HuggingFaceTB"
    api = HfApi(token="hf_of_them")
    api.create_repo(DEFAULT_BACKBONE)
    api.upload_folder(repo_id=DEFAULT_BACKBONE, folder_path=lm)
    log_in(ME)
    monkeypatch.setattr(job, "load_movielens_latest_small", lambda k_core: load_interactions(*tables()))
    return tmp_path / "here"


def trainer_of_the_reader() -> RankingTrainer:
    """For docs/hub.md, which tells readers what a trainer of theirs pushes."""
    model = RARecForSequentialRecommendation.from_pretrained("outputs/rarec")
    item, history = model.processor.item_inputs([0, 1]), model.processor.user_inputs([[2], [3]], 8)
    fields = {"max_steps": 1, "per_device_train_batch_size": 2, "use_cpu": True, "report_to": "none"}
    fields |= {"remove_unused_columns": False, "dataloader_pin_memory": False, "disable_tqdm": True}
    return RankingTrainer(
        model=model,
        args=transformers.TrainingArguments("outputs/films", **fields),
        train_dataset=[{"row": 0}, {"row": 1}],
        data_collator=lambda rows: {**item, **history, "targets": torch.tensor([0, 1])},
        scorer=model.scorer,
    )


GIVEN = {"hub.md": {"trainer": trainer_of_the_reader}}  # names that a page says are the reader's own


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "python"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", CODE, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page, here):
    names = {"__name__": "__main__"} | {name: make() for name, make in GIVEN.get(page.name, {}).items()}
    for block in python_blocks(page):
        if block.not_run is None:
            block.run(names)


def test_what_does_not_run_says_why_and_is_counted():
    found = {}
    for page in PAGES:
        for block in blocks_of(page):
            if block.not_run is not None:
                assert len(block.not_run.split()) > 2, f"{page.name}:{block.line}: the marker gives no reason"
                found[page.name] = found.get(page.name, 0) + 1
    assert found == NOT_RUN


def test_the_runner_sees_what_is_wrong(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 1\n```\n\n```python\n>>> y = x + 1\n>>> y\n2\n>>> [y, 0.123]\n[2, 0.1...]\n```\n"
        "<!-- not run: needs a GPU -->\n\n```python\n1 / 0\n```\n\n<!-- not run -->\n```python\n1 / 0\n```\n"
        "\n```python\nassert y == 2\n\nno_such_name\n```\n"
    )
    first, second, third, fourth, last = blocks_of(page)
    assert [block.not_run for block in (first, third, fourth, last)] == [None, "needs a GPU", "", None]
    names: dict = {}
    first.run(names)
    second.run(names)
    with pytest.raises(NameError) as failed:
        last.run(names)
    assert failed.traceback[-1].lineno + 1 == page.read_text().splitlines().index("no_such_name") + 1
    second.code = second.code.replace("\n2\n", "\n3\n")
    with pytest.raises(AssertionError, match="Expected:\n    3"):
        second.run(names)


def test_the_catalogue_of_the_tests_holds_what_pages_name():
    events, items = tables()
    assert set(FILMS) <= set(events.item_id) and items.item_id.is_unique
    assert not np.isin(events.item_id, items.item_id, invert=True).any()
