"""Checkpoints that were damaged or forged, in folders and on the Hub: the same answers as before, or a typed error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hostile_cases import CONTROL_TEXTS, json_values, outcome, run, tiers
from hub_client import ME, empty_cache
from hub_server import File
from huggingface_hub import HfApi
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from rarec_hf import RARecForSequentialRecommendation, RARecProcessor

HISTORIES = [["i1", "i2", "i9"], ["i7"], []]
JSON = ("config.json", "items.json", "processor_config.json")
BINARY = ("model.safetensors", "item_representations.safetensors")
load = RARecForSequentialRecommendation.from_pretrained


@pytest.fixture
def saved(trained, make_backbone, tmp_path):
    """A folder, what it recommends, and a place for a damaged copy."""
    make_backbone().save_pretrained(tmp_path / "lm")
    backbone = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    model = trained(backbone=backbone, backbone_address=f"path:{tmp_path / 'lm'}")
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved", model.recommend(HISTORIES, k=5), tmp_path / "broken"


def copied(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(folder, to))


def answers(folder, what: str, names: tuple[str, ...]):
    """What a folder recommends; None after a typed error, of loading or of recommending."""
    return outcome(what, lambda: load(folder).recommend(HISTORIES, k=5), names=names)


@tiers(25, 200)
def test_files_of_any_bytes(n, saved):
    folder, expected, broken = saved

    def check(name, cut, insert, whole):
        file = copied(folder, broken) / name
        content = file.read_bytes()
        cut %= len(content) + 1
        file.write_bytes(insert if whole else content[:cut] + insert + content[cut + len(insert) :])
        same = file.read_bytes() == content
        found = answers(broken, "damaged checkpoints", (name, str(broken), "`", "config", "index_catalogue"))
        if same or found is not None:
            # What is no weight and no id may be anything that can be read
            assert not same or found == expected
            if found is not None and name in BINARY:
                assert [answer.item_ids for answer in found] == [answer.item_ids for answer in expected]

    names, inserts = st.sampled_from([*JSON, *BINARY, "tokenizer.json"]), st.binary(min_size=1, max_size=9)
    run(n, check, name=names, cut=st.integers(0, 10**6), insert=inserts, whole=st.booleans())


@tiers(40, 350)
def test_values_of_any_kind(n, saved):
    folder, expected, broken = saved
    fields = {name: json.loads((folder / name).read_text()) for name in JSON}
    inner = {"templates", "id_encoder_config", "text_config"}
    paths = [(name, (key,)) for name, content in fields.items() for key in content]
    paths += [
        (name, (key, below))
        for name, content in fields.items()
        for key in content
        if key in inner
        for below in content[key]
    ]
    paths = [path for path in paths if path[1][-1] not in ("transformers_version", "dtype", "_name_or_path")]

    def check(path, value, remove):
        name, keys = path
        content = json.loads((folder / name).read_text())
        place = content
        for key in keys[:-1]:
            place = place[key]
        if remove:
            place.pop(keys[-1])
        else:
            place[keys[-1]] = value
        (copied(folder, broken) / name).write_text(json.dumps(content))
        found = answers(broken, "forged checkpoints", (*keys, name, "index_catalogue", "fingerprint", "weights"))
        if found is not None and keys[0] == "item_ids":
            assert found == expected

    run(n, check, path=st.sampled_from(paths), value=json_values, remove=st.booleans())


@tiers(10, 60)
def test_items_in_another_order(n, saved):
    """The item table beside the wrong rows: every answer would name other items."""
    folder, expected, broken = saved

    def check(order):
        content = json.loads((folder / "items.json").read_text())
        table = {key: [values[place] for place in order] for key, values in content.items()}
        (copied(folder, broken) / "items.json").write_text(json.dumps(table))
        found = answers(broken, "reordered items", ("items.json",))
        assert found == (expected if order == sorted(order) else None)

    run(n, check, order=st.permutations(range(12)))


@tiers(20, 120)
def test_a_processor_of_any_values(n, saved):
    folder, _, broken = saved

    def check(name, key, value):
        content = json.loads((folder / name).read_text())
        (copied(folder, broken) / name).write_text(json.dumps(content | {key: value} if key else value))
        act = lambda: RARecProcessor.from_pretrained(broken).user_text([])  # noqa: E731
        outcome("processors", act, names=(key or name, name))

    keys = {"items.json": ["item_ids", "titles", "attributes", "stray"], "processor_config.json": ["templates"]}
    keys["processor_config.json"] += ["max_history_items", "max_title_tokens", "max_text_tokens", "history_block"]
    pairs = [(name, key) for name, of in keys.items() for key in (*of, None)]
    run(n, lambda pair, value: check(*pair, value), pair=st.sampled_from(pairs), value=json_values)


@tiers(8, 80)
def test_what_a_hub_answers(n, trained, make_backbone, tokenizer, hub, tmp_path):
    make_backbone().save_pretrained(tmp_path / "lm")
    backbone = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    model = trained(backbone=backbone, backbone_address=f"path:{tmp_path / 'lm'}")
    model.push_to_hub("me/films", token=ME)
    expected, repository = model.recommend(HISTORIES, k=5), hub.repositories["me/films"]
    good = repository.commits[repository.refs["main"]]
    count = iter(range(10**6))

    def check(name, kind, content):
        old, files = good[name], dict(good)
        if kind == "gone":
            files.pop(name)
        elif kind == "cut":
            files[name] = File(old.content[: len(old.content) // 2], old.lfs)
        elif kind == "page":  # of a proxy that wants a login
            files[name] = File(b"<html><body>Log in</body></html>", old.lfs)
        elif kind == "other":
            files[name] = File(content, old.lfs)
        for file in files.values():
            hub.storage[file.oid] = file.content
        repository.commit("main", files, f"case {next(count)}")
        empty_cache(f"case{next(count)}")
        act = lambda: load("me/films").recommend(HISTORIES, k=5)  # noqa: E731
        found = outcome("Hub answers", act, names=(name, "me/films", "index_catalogue", "processor", "config"))
        assert kind != "good" or found == expected
        if found is not None and name in ("model.safetensors", "items.json", "item_representations.safetensors"):
            assert found == expected

    kinds = st.sampled_from(["good", "gone", "cut", "page", "other"])
    run(n, check, name=st.sampled_from([*JSON, *BINARY]), kind=kinds, content=st.binary(max_size=20))
    assert HfApi().model_info("me/films").sha


@pytest.mark.parametrize("title", CONTROL_TEXTS[:10])
def test_titles_of_a_checkpoint_stay_text(saved, title):
    folder, _, broken = saved
    content = json.loads((folder / "items.json").read_text())
    content["titles"][0] = title
    (copied(folder, broken) / "items.json").write_text(json.dumps(content))
    processor = load(broken).processor
    assert {*processor.tokenizer.all_special_ids}.isdisjoint(processor.user_text([0]).ids)
