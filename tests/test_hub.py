"""Push and load with the real client, against the Hub of `hub_server`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_client import ME, YOU, empty_cache, log_in
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoModel, AutoModelForCausalLM

from rarec_hf import RARecForSequentialRecommendation, RARecProcessor, checkpoint_folder, checkpoint_reading
from rarec_hf.checkpoint_folder import REPRESENTATIONS_FILE

HISTORIES = [["i1", "i2", "i9"], ["i7"], []]
SLIM = {
    ".gitattributes", ".gitignore", "README.md", "config.json", "model.safetensors", REPRESENTATIONS_FILE,
    "items.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip
BACKBONE = {"backbone/config.json", "backbone/generation_config.json", "backbone/model.safetensors"}
load = RARecForSequentialRecommendation.from_pretrained


@pytest.fixture
def backbone_folder(make_backbone, tokenizer, tmp_path):
    make_backbone().save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


@pytest.fixture
def model(trained, backbone_folder, hub):
    """A model as after training, on a backbone that is on the Hub too."""
    api = HfApi(token=ME)
    api.create_repo("me/lm")
    commit = api.upload_folder(repo_id="me/lm", folder_path=backbone_folder).oid
    backbone = AutoModelForCausalLM.from_pretrained(backbone_folder)
    return trained(backbone=backbone, backbone_address=f"hub:me/lm@{commit}")


def change(model, factor=1.5):
    """As after more training: other weights, other answers."""
    with torch.no_grad():
        for parameter in (*model.soft_prompts.parameters(), *model.score_head.parameters()):
            parameter.mul_(factor)
    model.index_catalogue(progress=False)
    return model


def answers(model):
    return model.recommend(HISTORIES, k=5)


# round trips ---------------------------------------------------------------------------------------------------------


def test_slim(model, hub):
    info = model.push_to_hub("me/films", token=ME)
    assert set(hub.files("me/films")) == SLIM
    assert sum(map(len, hub.files("me/films").values())) < 2**20
    assert info.oid == hub.repositories["me/films"].refs["main"]
    assert hub.repositories["me/films"].messages == ["initial commit", "Upload model"]
    again = load("me/films")
    assert answers(again) == answers(model)
    one, other = (m.score_histories([[1, 2, 9], [7], []]) for m in (model, again))
    assert (one == other).all(), abs(one - other).max()
    assert again.processor.titles == model.processor.titles
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_full(model, hub):
    model.push_to_hub("me/films", token=ME, include_backbone=True)
    assert set(hub.files("me/films")) == SLIM | BACKBONE
    del hub.repositories["me/lm"]
    assert answers(load("me/films")) == answers(model)


def test_the_auto_class(model, hub):
    model.push_to_hub("me/films", token=ME)
    HfApi(token=ME).create_tag("me/films", tag="v1")
    # Of this repository alone; as `AutoModel` passes it on where peft is installed
    again = AutoModel.from_pretrained("me/films", revision="v1", adapter_kwargs={"revision": "v1"})
    assert type(again) is RARecForSequentialRecommendation
    assert answers(again) == answers(model)


@pytest.mark.parametrize("full", [False, True], ids=["slim", "full"])
def test_a_second_load_downloads_nothing(model, hub, full):
    model.push_to_hub("me/films", token=ME, include_backbone=full)
    load("me/films")
    assert any("/cdn/" in path for path in hub.downloads())
    hub.requests.clear()
    assert answers(load("me/films")) == answers(model)
    assert hub.downloads() == []
    commit = hub.repositories["me/films"].refs["main"]
    assert answers(load("me/films", revision=commit)) == answers(model)
    assert hub.downloads() == []
    hub.repositories.clear()
    hub.requests.clear()
    assert answers(load("me/films", local_files_only=True)) == answers(model)
    assert hub.requests == []


def test_branch_tag_and_commit(model, hub):
    first = model.push_to_hub("me/films", token=ME).oid
    HfApi(token=ME).create_tag("me/films", tag="v1")
    before = answers(model)
    change(model).push_to_hub("me/films", token=ME)
    middle = answers(model)
    change(model, -2).push_to_hub("me/films", token=ME, revision="trial/one", commit_message="Trial")
    after = answers(model)
    assert before != middle != after != before
    assert answers(load("me/films")) == answers(load("me/films", revision="main")) == middle
    assert answers(load("me/films", revision="v1")) == answers(load("me/films", revision=first)) == before
    assert answers(load("me/films", revision="trial/one")) == after
    assert hub.repositories["me/films"].messages[-1] == "Trial"
    refs = HfApi(token=ME).list_repo_refs("me/films")
    assert {ref.name for ref in refs.branches} == {"main", "trial/one"}
    assert [ref.name for ref in refs.tags] == ["v1"]


@pytest.mark.parametrize("full", [False, True], ids=["slim", "full"])
def test_all_files_are_of_one_commit(model, hub, monkeypatch, full):
    model.push_to_hub("me/films", token=ME, include_backbone=full)
    before, read = answers(model), checkpoint_folder.own_weights_of

    def read_late(*arguments):
        change(model).push_to_hub("me/films", token=ME)  # while the load is under way
        return read(*arguments)

    monkeypatch.setattr(checkpoint_folder, "own_weights_of", read_late)
    assert answers(load("me/films")) == before
    monkeypatch.undo()


def test_shards(model, hub):
    model.push_to_hub("me/films", token=ME, max_shard_size="5KB")
    assert "model.safetensors.index.json" in hub.files("me/films")
    assert answers(load("me/films")) == answers(model)
    change(model).push_to_hub("me/films", token=ME)
    assert set(hub.files("me/films")) == SLIM
    assert answers(load("me/films")) == answers(model)


def test_a_repository_that_moved(model, hub):
    model.push_to_hub("me/films", token=ME)
    hub.repositories["me/cinema"] = hub.repositories["me/films"]
    hub.moved["me/films"] = "me/cinema"
    assert answers(load("me/films")) == answers(model)


def test_in_a_process_with_HF_ENDPOINT(model, hub, tmp_path):
    model.push_to_hub("me/films", token=ME, private=True)
    code = """
import json
from huggingface_hub import HfApi
from transformers import AutoModel
import rarec_hf
model = AutoModel.from_pretrained("me/films")
print(json.dumps([HfApi().whoami()["name"], [row.item_ids for row in model.recommend(HISTORIES, k=5)]]))
model.push_to_hub("me/copy")
""".replace("HISTORIES", repr(HISTORIES))
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": ME, "HF_HOME": str(tmp_path / "home")}
    settings |= {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(Path(checkpoint_folder.__file__).parents[1])}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | settings
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["me", [row.item_ids for row in answers(model)]]
    assert hub.files("me/copy")["model.safetensors"] == hub.files("me/films")["model.safetensors"]


# who may load --------------------------------------------------------------------------------------------------------


def test_private(model, hub):
    model.push_to_hub("me/films", token=ME, private=True)
    assert hub.repositories["me/films"].private
    for nobody in ({}, {"token": YOU}):
        with pytest.raises(OSError, match="me/films is not a local folder.*(?s:.*)private repository"):
            load("me/films", **nobody)
    assert answers(load("me/films", token=ME)) == answers(model)
    empty_cache()
    log_in(ME)
    assert answers(load("me/films")) == answers(model)


def test_private_backbone(model, hub):
    model.push_to_hub("me/films", token=ME)
    hub.repositories["me/lm"].private = True
    with pytest.raises(OSError, match="me/films is slim.*me/lm.*hf auth login.*language_model="):
        load("me/films")
    assert answers(load("me/films", token=ME)) == answers(model)


def test_gated(model, hub):
    model.push_to_hub("me/films", token=ME)
    hub.repositories["me/films"].gated = True
    for nobody in ({}, {"token": YOU}):
        with pytest.raises(OSError, match="gated repo"):
            load("me/films", **nobody)
    hub.repositories["me/films"].allowed.add("you")
    assert answers(load("me/films", token=YOU)) == answers(model)


@pytest.mark.parametrize("what", [load, RARecProcessor.from_pretrained], ids=["model", "processor"])
def test_errors_on_load_name_what_is_wrong(model, hub, what):
    model.push_to_hub("me/films", token=ME)
    with pytest.raises(OSError, match="Invalid credentials"):
        what("me/films", token="hf_wrong")
    with pytest.raises(OSError, match="me/none is not a local folder"):
        what("me/none", token=ME)
    with pytest.raises(OSError, match="v9 is not a valid git identifier"):
        what("me/films", revision="v9")
    with pytest.raises(OSError, match="not found in|couldn't connect|couldn't find|Cannot find"):
        what("me/films", local_files_only=True, cache_dir=Path(constants.HF_HUB_CACHE) / "empty")


def test_a_connection_that_breaks_is_not_a_missing_file(model, hub, monkeypatch):
    model.push_to_hub("me/films", token=ME)
    ask = checkpoint_reading.cached_file
    # What `cached_file` answers when it may miss a file and its request for it found no connection
    monkeypatch.setattr(
        checkpoint_reading,
        "cached_file",
        lambda path, name, **rest: None if name == "items.json" else ask(path, name, **rest),
    )
    with pytest.raises(OSError, match="could not be asked whether me/films has a file named items.json"):
        load("me/films")


# who may push --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["hf_wrong", False], ids=["wrong", "none"])
def test_push_without_a_right_token(model, hub, monkeypatch, token):
    monkeypatch.setattr(type(model), "state_dict", None)  # told before anything is saved
    with pytest.raises(HfHubHTTPError, match="(?s)401.*To push to me/films, log in with `hf auth login`"):
        model.push_to_hub("me/films", token=token)
    assert "me/films" not in hub.repositories


def test_push_to_anothers_repository(model, hub):
    with pytest.raises(HfHubHTTPError, match="(?s)403.*may not write to you/films.*create_pr=True"):
        model.push_to_hub("you/films", token=ME)
    HfApi(token=YOU).create_repo("you/films")
    with pytest.raises(HfHubHTTPError, match="(?s)403.*may not write to you/films.*create_pr=True"):
        model.push_to_hub("you/films", token=ME)


def test_pull_request(model, hub):
    model.push_to_hub("me/films", token=ME)
    before = answers(model)
    info = change(model).push_to_hub("me/films", token=YOU, create_pr=True, commit_message="Better", private=True)
    assert info.pr_url.endswith("/me/films/discussions/1") and info.pr_revision == "refs/pr/1"
    assert not hub.repositories["me/films"].private
    assert answers(load("me/films")) == before
    assert answers(load("me/films", revision="refs/pr/1")) == answers(model)
    change(model).push_to_hub("me/films", token=ME, revision="refs/pr/1")
    assert answers(load("me/films", revision="refs/pr/1")) == answers(model)
    assert answers(load("me/films")) == before
    with pytest.raises(ValueError, match="`create_pr=True` opens a pull request against the main branch"):
        model.push_to_hub("me/films", token=ME, create_pr=True, revision="refs/pr/1")


# what is uploaded ----------------------------------------------------------------------------------------------------


def test_what_an_earlier_push_left_goes(model, hub):
    model.push_to_hub("me/films", token=ME, include_backbone=True)
    HfApi(token=ME).upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id="me/films")
    model._catalogue = None
    model.push_to_hub("me/films", token=ME)
    assert set(hub.files("me/films")) == SLIM - {REPRESENTATIONS_FILE} | {"notes.txt"}
    load("me/films").index_catalogue(progress=False)


def test_ignore_and_delete_patterns(model, hub):
    model.push_to_hub("me/films", token=ME, include_backbone=True)
    HfApi(token=ME).upload_file(path_or_fileobj=b"old", path_in_repo="old/notes.txt", repo_id="me/films")
    change(model)
    before = hub.files("me/films")
    patterns = {"ignore_patterns": ["items.json", "backbone/*"], "delete_patterns": ["*.txt", "config.json"]}
    model.push_to_hub("me/films", token=ME, include_backbone=True, **patterns)
    assert set(hub.files("me/films")) == SLIM | BACKBONE  # left out of a push is not deleted
    assert answers(load("me/films")) == answers(model)
    model.push_to_hub("me/films", token=ME, ignore_patterns="tokenizer*", delete_patterns="tokenizer*")
    assert set(hub.files("me/films")) == SLIM - {"tokenizer.json", "tokenizer_config.json"}
    assert before["items.json"] == hub.files("me/films")["items.json"]


def test_only_what_was_saved_is_uploaded(model, hub, tmp_path):
    folder = tmp_path / "films"
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"a": 1}, folder / "optimizer.pt")
    for name in ("users.parquet", "checkpoints/notes.txt"):
        (folder / name).write_bytes(b"mine")
    log_in(ME)
    model.save_pretrained(folder, push_to_hub=True, private=True, commit_message="First")
    assert hub.repositories["me/films"].private
    assert set(hub.files("me/films")) == SLIM
    model.save_pretrained(folder, push_to_hub=True, include_backbone=True)
    assert set(hub.files("me/films")) == SLIM | BACKBONE
    change(model)
    with torch.no_grad():
        next(model.language_model.parameters()).mul_(2)
    model.config.backbone_fingerprint = None
    model.save_pretrained(folder, push_to_hub=True, include_backbone=True)  # in place: the folder's time stays
    model.index_catalogue(progress=False)
    assert load("me/films").config.backbone_fingerprint == model.config.backbone_fingerprint
    assert hub.repositories["me/films"].messages == ["initial commit", "First", "Upload model", "Upload model"]


def test_a_folder_that_is_uploaded_by_hand(model, hub, tmp_path):
    model.save_pretrained(tmp_path / "films")
    (tmp_path / "films" / "checkpoints").mkdir()
    torch.save({"a": 1}, tmp_path / "films" / "checkpoints" / "optimizer.pt")
    (tmp_path / "films" / "users.parquet").write_bytes(b"mine")
    api = HfApi(token=ME)
    api.create_repo("me/films")
    api.upload_folder(repo_id="me/films", folder_path=tmp_path / "films")
    assert set(hub.files("me/films")) == SLIM - {"README.md"}
    assert answers(load("me/films")) == answers(model)


def test_a_gitignore_that_is_there_already(model, tmp_path):
    (tmp_path / ".gitignore").write_text("notes\n*.pt")
    model.save_pretrained(tmp_path)
    lines = (tmp_path / ".gitignore").read_text().splitlines()
    assert lines[:2] == ["notes", "*.pt"] and "*.bin" in lines and len(set(lines)) == len(lines)
    model.save_pretrained(tmp_path)
    assert (tmp_path / ".gitignore").read_text().splitlines() == lines


def test_card(model, hub, tmp_path):
    model.push_to_hub("me/films", token=ME, tags="films")
    card = hub.files("me/films")["README.md"].decode()
    assert "- films" in card and "from_pretrained('me/films')" in card and "## What it is" in card
    mine = b"---\ntags:\n- old\n---\n# My card\n"
    HfApi(token=ME).upload_file(path_or_fileobj=mine, path_in_repo="README.md", repo_id="me/films")
    model.push_to_hub("me/films", token=ME)
    assert hub.files("me/films")["README.md"] == mine
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "README.md").write_text("---\ntags:\n- new\n---\n# The folder's card\n")
    model.save_pretrained(tmp_path / "films", push_to_hub=True, repo_id="me/films", token=ME, tags=["new", "more"])
    card = hub.files("me/films")["README.md"].decode()
    assert "# The folder's card" in card and card.count("- new") == 1 and "- more" in card


def test_a_backbone_in_a_folder_of_this_machine(trained, backbone_folder, hub, caplog):
    backbone = AutoModelForCausalLM.from_pretrained(backbone_folder)
    model = trained(backbone=backbone, backbone_address=f"path:{backbone_folder}")
    model.push_to_hub("me/films", token=ME)
    assert "can only be loaded with `language_model=` given. Push with `include_backbone=True`" in caplog.text
    backbone_folder.rename(backbone_folder.with_name("elsewhere"))
    with pytest.raises(OSError, match="me/films is slim.*include_backbone=True"):
        load("me/films")
    assert answers(load("me/films", language_model=backbone)) == answers(model)
    model.push_to_hub("me/films", token=ME, include_backbone=True)
    assert answers(load("me/films")) == answers(model)


# the processor alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["push_to_hub", "save_pretrained"])
def test_processor(make_processor, hub, tmp_path, how):
    processor = make_processor(max_history_items=7)
    if how == "push_to_hub":
        processor.push_to_hub("me/prompts", token=ME, private=True)
    else:
        processor.save_pretrained(tmp_path / "prompts", push_to_hub=True, token=ME, private=True)
    assert hub.repositories["me/prompts"].private
    of_the_model = {".gitignore", "config.json", "model.safetensors", REPRESENTATIONS_FILE}
    assert set(hub.files("me/prompts")) == SLIM - of_the_model
    again = RARecProcessor.from_pretrained("me/prompts", token=ME)
    assert again.item_ids == processor.item_ids and again.templates == processor.templates
    assert again.max_history_items == 7
    one, other = (p.user_inputs([[1, 2]], 8) for p in (processor, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    hub.requests.clear()
    RARecProcessor.from_pretrained("me/prompts", token=ME)
    assert hub.downloads() == []


def test_processor_by_revision_and_pull_request(make_processor, hub):
    processor = make_processor()
    processor.push_to_hub("me/prompts", token=ME)
    HfApi(token=ME).create_tag("me/prompts", tag="v1")
    more = processor.with_items(["new"], ["a new film"])
    more.push_to_hub("me/prompts", token=YOU, create_pr=True)
    assert RARecProcessor.from_pretrained("me/prompts").item_ids == processor.item_ids
    assert RARecProcessor.from_pretrained("me/prompts", revision="refs/pr/1").item_ids[-1] == "new"
    more.push_to_hub("me/prompts", token=ME)
    assert RARecProcessor.from_pretrained("me/prompts").item_ids[-1] == "new"
    assert RARecProcessor.from_pretrained("me/prompts", revision="v1").item_ids == processor.item_ids
