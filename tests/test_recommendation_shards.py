"""The best items of a whole user base in parquet files: as `recommend` gives them, resumable, none foreign."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests_support import ROOT, launch, save_tiny_backbone, walk_tables

from rarec_hf import (
    RARecForSequentialRecommendation,
    RARecProcessor,
    SASRecConfig,
    SASRecModel,
    load_backbone,
    load_tokenizer,
    resolve_backbone,
)
from rarec_hf.recommendation_shards import OtherRecommendationsError, recommend_to_shards
from rarec_hf.whole_files import DamagedFileError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model's folder and a file of interactions, one item of which the model does not know."""
    folder = tmp_path_factory.mktemp("saved")
    save_tiny_backbone(folder / "backbone")
    interactions, items = walk_tables(n_users=11)
    interactions.to_csv(folder / "events.csv", index=False)
    items = items[items.item_id != "i3"]
    torch.manual_seed(0)
    source = resolve_backbone(str(folder / "backbone"))
    encoder = SASRecModel(SASRecConfig(n_items=len(items), hidden_size=16))
    model = RARecForSequentialRecommendation.from_backbone(
        load_backbone(source), encoder, backbone_address=source.address
    )
    model.processor = RARecProcessor(load_tokenizer(source), items.item_id.tolist(), items.title.tolist())
    model.index_catalogue(progress=False)
    model.save_pretrained(folder / "model")
    return folder


def histories_of(saved: Path) -> tuple[list[str], list[list[str]]]:
    events = pd.read_csv(saved / "events.csv")
    events = events[events.item_id != "i3"]
    groups = events.groupby("user_id", sort=False).item_id.apply(list)
    return groups.index.tolist(), groups.tolist()


@pytest.fixture
def model(saved):
    return RARecForSequentialRecommendation.from_pretrained(saved / "model")


def write(model, saved, folder, **options):
    return recommend_to_shards(model, *histories_of(saved), folder, 3, users_per_shard=4, progress=False, **options)


def test_files_hold_what_recommend_gives(model, saved, tmp_path):
    users, histories = histories_of(saved)
    write(model, saved, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "complete.json",
        *(f"part-0000{n}-of-00003.parquet" for n in range(3)),
        "recommendations.json",
    ]
    found = pd.concat(pd.read_parquet(path) for path in sorted((tmp_path / "out").glob("*.parquet")))
    assert found.groupby("user_id", sort=False)["rank"].apply(list).tolist() == [[1, 2, 3]] * 11
    for user, history, answer in zip(users, histories, model.recommend(histories, 3), strict=True):
        mine = found[found.user_id == user]
        assert mine.item_id.tolist() == answer.item_ids and mine.title.tolist() == answer.titles
        assert not set(mine.item_id) & set(history)
        assert mine.score.tolist() == pytest.approx(answer.scores, abs=1e-5)


def test_a_run_that_was_cut_off_goes_on(model, saved, tmp_path, monkeypatch, caplog):
    whole, cut = write(model, saved, tmp_path / "whole"), tmp_path / "cut"
    recommend, calls = model.recommend, []

    def cut_off(histories, *arguments, **options):
        calls.append(len(histories))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return recommend(histories, *arguments, **options)

    monkeypatch.setattr(model, "recommend", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write(model, saved, cut)
    first = cut / "part-00000-of-00003.parquet"
    assert sorted(path.name for path in cut.iterdir()) == [first.name, "recommendations.json"]
    first.write_bytes(first.read_bytes()[:-9])  # and a disk that lost a write
    calls[:] = [0, 0]
    write(model, saved, cut)
    assert calls[2:] == [4, 4, 3] and any(f"{first} is damaged" in message for message in caplog.messages)
    assert {p.name: p.read_bytes() for p in cut.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}
    write(model, saved, cut)
    assert len(calls) == 5  # it is all there


def test_what_is_foreign_or_damaged_is_refused(model, saved, tmp_path):
    users, histories = histories_of(saved)
    out = write(model, saved, tmp_path / "out")
    with pytest.raises(OtherRecommendationsError, match="k 3 there, 4 here"):
        recommend_to_shards(model, users, histories, out, 4, users_per_shard=4)
    with pytest.raises(OtherRecommendationsError, match="histories"):
        recommend_to_shards(model, users, [h[:-1] for h in histories], out, 3, users_per_shard=4)
    model.score_head.gains.data += 1
    with pytest.raises(OtherRecommendationsError, match="model"):
        write(model, saved, out)
    model.score_head.gains.data -= 1
    shard = out / "part-00001-of-00003.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=shard.name):
        write(model, saved, out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(OtherRecommendationsError, match="no readable"):
        write(model, saved, tmp_path / "other")
    with pytest.raises(ValueError, match="at least 1"):
        recommend_to_shards(model, users, histories, tmp_path / "none", 0)
    with pytest.raises(ValueError, match=rf"1 user ids stand more than once, the first: \['{users[0]}'\]"):
        recommend_to_shards(model, [*users[:-1], users[0]], histories, tmp_path / "none", 3)
    assert not (tmp_path / "none").exists()


def test_from_the_shell_in_one_and_in_two_processes(saved, tmp_path):
    def run(processes: int, *options: str) -> tuple[str, dict[str, bytes]]:
        out = tmp_path / f"{processes}{''.join(options)}"
        done = launch(
            processes,
            ROOT / "examples" / "recommend_batch.py",
            *(str(saved / "model"), "--interactions", str(saved / "events.csv"), "--output_dir", str(out)),
            *("--users_per_shard", "3", *options),
            timeout=300,
        )
        assert "Recommending: 100%" in done.stderr and done.stdout.count("11 users") == 1
        assert "1 of 30 items are not in the model's catalogue" in done.stdout
        return {path.name: path.read_bytes() for path in out.iterdir()}

    one = run(1)
    assert len(one) == 6 and json.loads(one["recommendations.json"])["users_per_shard"] == 3
    assert run(2) == one
    assert run(2, "--shard_catalogue") == one
