"""The main job end to end with a tiny backbone: what it prints, what it leaves, what it refuses."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hub_client import ME
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file

from rarec_hf import GRU4RecConfig, GRU4RecModel, RARecForSequentialRecommendation, RARecProcessor, SASRecModel
from rarec_hf.data import save_vectors

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script: str, *arguments: str) -> None:
    before = sys.argv
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    finally:
        sys.argv = before


def options(inputs, output, *more: str) -> list[str]:
    return [
        *("--interactions", str(inputs / "events.csv"), "--items", str(inputs / "items.jsonl")),
        *("--backbone", str(inputs / "backbone"), "--output_dir", str(output), "--disable_tqdm", "true"),
        *("--encoder_epochs", "2", "--encoder_hidden_size", "16", "--alignment_samples", "32", "--fp32"),
        *("--per_device_train_batch_size", "8", "--num_train_epochs", "1", "--logging_steps", "1", *more),
    ]


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "first"
    run("train.py", *options(inputs, output, "--score", "both"))
    return output


def test_mixed_precision_is_of_the_alignment_alone(inputs, tmp_path):
    """The ID encoder's Trainer, which comes first in the same process, has none."""
    run("train.py", *options(inputs, tmp_path / "run", "--bf16", "true"))
    assert (tmp_path / "run" / "metrics.json").exists()


def test_the_folder_is_whole_and_safe(trained):
    names = {path.name for path in trained.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "item_representations.safetensors", "items.json"} <= names
    assert {"metrics.md", "metrics.json", "metrics.png", "learning_curve.png", "arguments.yaml"} <= names
    assert {"selection.md", "selection.png"} <= names
    assert {"data.md", "data.png", "users.parquet", "items.parquet"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert not (trained / "checkpoints").exists()
    assert [path.name for path in trained.parent.iterdir()] == ["first"]


def test_the_table_holds_every_opponent_and_the_rule(trained):
    methods = [row["name"] for row in json.loads((trained / "metrics.json").read_text())["methods"]]
    assert methods == [
        *("Popularity", "ItemKNN", "TF-IDF of titles", "SASRec", "SASRec inside RA-Rec"),
        *("SASRec + TF-IDF", "Text only", "RA-Rec without readout", "RA-Rec", "RA-Rec (paper's dot product)"),
    ]
    verdict = (trained / "verdict.md").read_text("utf-8")
    for part in ("Text (a bag of words) adds", "RA-Rec adds", "The LLM adds", "Soft prompts and readout add"):
        assert f"- {part}" in verdict
    table = (trained / "metrics.md").read_text()
    assert "stably" in table
    assert "seen items removed" in table


def test_the_folder_recommends_what_the_table_says(trained, inputs):
    model = RARecForSequentialRecommendation.from_pretrained(trained)
    events = pd.read_csv(inputs / "events.csv")
    ranks = pd.read_parquet(trained / "ranks.parquet").query("method == 'RA-Rec'").set_index("user")
    histories = events.groupby("user_id", sort=False).item_id.apply(list)
    for row, (_, history) in enumerate(list(histories.items())[:10]):
        scores = model.score_histories([model.processor.item_indices(history[:-1])])[0]
        target = model.processor.item_indices(history[-1:])[0]
        scores[model.processor.item_indices(history[:-1])] = -np.inf
        assert int((scores > scores[target]).sum()) == ranks.greater[row]


def test_alignment_changed_its_own_weights_only(trained, inputs):
    model = RARecForSequentialRecommendation.from_pretrained(trained)
    encoder = SASRecModel.from_pretrained(trained / "id_encoder")
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(model.id_encoder.state_dict()[name], tensor, rtol=0, atol=0)
    assert model.score_head.user_head.weight.abs().sum() > 0
    assert all(bool(side.projector.bias.any()) for side in model.soft_prompts.values())  # they start at zero
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (not name.startswith(("language_model.", "id_encoder."))), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU needs --full_determinism: tests/test_gpu.py")
def test_the_same_command_gives_the_same_model(trained, inputs, tmp_path):
    run("train.py", *options(inputs, tmp_path / "again", "--score", "both"))
    for file in ("model.safetensors", "item_representations.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (trained / file).read_bytes()


def test_the_encoder_of_an_earlier_run_is_taken_again(trained, inputs, tmp_path, capsys):
    run(
        "train.py",
        *options(inputs, tmp_path / "second", "--id_encoder", str(trained), "--soft_prompt_position", "before_text"),
    )
    first, second = (json.loads((f / "metrics.json").read_text())["methods"] for f in (trained, tmp_path / "second"))
    values = [{row["name"]: row["metrics"] for row in rows}["SASRec"] for rows in (first, second)]
    assert values[0] == values[1]


def test_a_full_folder_needs_no_other_backbone(inputs, trained, tmp_path):
    shutil.copytree(inputs / "backbone", tmp_path / "backbone")
    arguments = options(inputs, tmp_path / "full", "--id_encoder", str(trained), "--include_backbone")
    arguments[arguments.index("--backbone") + 1] = str(tmp_path / "backbone")
    run("train.py", *arguments)
    before = RARecForSequentialRecommendation.from_pretrained(tmp_path / "full").recommend(["i1", "i2"])
    shutil.rmtree(tmp_path / "backbone")
    assert RARecForSequentialRecommendation.from_pretrained(tmp_path / "full").recommend(["i1", "i2"]) == before


def test_a_failing_run_leaves_no_folder(inputs, tmp_path):
    with pytest.raises(ValueError, match="no_such"):
        run("train.py", *options(inputs, tmp_path / "out", "--user_column", "no_such"))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(inputs, trained):
    with pytest.raises(FileExistsError, match="overwrite_output_dir"):
        run("train.py", *options(inputs, trained))


def test_a_launch_that_silently_starts_one_process_of_several_is_refused(inputs, tmp_path, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(SystemExit, match="processes.yaml"):
        run("train.py", *options(inputs, tmp_path / "out"))


def test_recommend_from_the_shell(trained, capsys):
    run("recommend.py", str(trained), "--history", "i3", "i4", "--k", "4")
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:3].strip().rstrip(".").isdigit()]
    assert len(lines) == 4
    assert not any("[i3]" in line or "[i4]" in line for line in lines)
    run("recommend.py", str(trained), "--titles", "W3 ", "--k", "1")
    assert "chose  w3 w0" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="nowhere"):
        run("recommend.py", str(trained), "--history", "nowhere")


def test_an_encoder_that_reads_the_texts_too(inputs, tmp_path, capsys):
    run("train.py", *options(inputs, tmp_path / "run", "--encoder_type", "text_sasrec", "--text_dim", "12"))
    printed = capsys.readouterr().out
    assert "| TextSASRec inside RA-Rec |" in printed and "| SASRec |" in printed
    assert (
        "| TextSASRec over word counts + TF-IDF |" in printed and "to an encoder trained over word counts" in printed
    )
    model = RARecForSequentialRecommendation.from_pretrained(tmp_path / "run")
    assert model.config.text_layers == [0.0, 0.67] and model.config.text_opening == len("Item:\n")
    texts = model.encode_texts(range(len(model.processor.item_ids)), progress=False)
    torch.testing.assert_close(model.id_encoder.texts, model.score_head.text(texts), atol=1e-4, rtol=0)
    assert model.id_encoder.texts.shape == (30, 24)
    torch.testing.assert_close(model.catalogue_texts(), model.id_encoder.texts, atol=1e-4, rtol=0)
    folder = tmp_path / "encoder"
    run("train_id_encoder.py", *options(inputs, folder, "--encoder_type", "text_sasrec", "--text_dim", "12"))
    run("train.py", *options(inputs, tmp_path / "again", "--id_encoder", str(folder)))
    table = (tmp_path / "again" / "metrics.md").read_text("utf-8")
    assert "TextSASRec inside RA-Rec" in table and "TextSASRec over word counts + TF-IDF" in table


@pytest.mark.parametrize("side", ["text", "id"])
def test_what_the_llm_reads_of_an_item(inputs, tmp_path, capsys, side):
    score = ("--score", "trained_head") if side == "id" else ()
    kind = (
        ("--encoder_type", "text_sasrec", "--text_dim", "12") if side == "id" else ()
    )  # whose texts keep their titles
    run("train.py", *options(inputs, tmp_path / "run", "--item_side", side, *score, *kind))
    assert ("| Text only |" in capsys.readouterr().out) == (side == "text")
    model = RARecForSequentialRecommendation.from_pretrained(tmp_path / "run")
    assert list(model.soft_prompts) == (["user", "item"] if side == "id" else ["user"])
    assert model.processor.item_titles == (side == "text")
    items = model.catalogue_items()
    assert len(items.unique(dim=0)) == len(items) == 30  # with one text for all the ID vectors tell them apart
    if side == "id":
        with pytest.raises(ValueError, match="--score encoder_plus_llm compares texts"):
            run("train.py", *options(inputs, tmp_path / "other", "--item_side", side))


def test_an_id_encoder_alone_and_then_inside_the_llm(inputs, tmp_path, capsys):
    kind = ("--encoder_type", "comirec", "--encoder_interests", "2")
    run("train_id_encoder.py", *options(inputs, tmp_path / "encoder", *kind))
    printed = capsys.readouterr().out
    assert "| ComiRec |" in printed and "| ItemKNN |" in printed and "--id_encoder" in printed
    assert not list((tmp_path / "encoder").glob("*/checkpoint-*"))
    run("train.py", *options(inputs, tmp_path / "run", "--id_encoder", str(tmp_path / "encoder")))
    model = RARecForSequentialRecommendation.from_pretrained(tmp_path / "run")
    assert type(model.id_encoder).__name__ == "ComiRecModel" and model.id_encoder.config.interests == 2
    assert "ComiRec inside RA-Rec" in (tmp_path / "run" / "metrics.md").read_text("utf-8")
    with pytest.raises(SystemExit, match="gives a trained one"):
        run("train_id_encoder.py", *options(inputs, tmp_path / "again", "--id_encoder", "x"))


@pytest.mark.parametrize("split", ["global_time", "by_users"])
def test_other_splits_train_and_say_their_rule(inputs, tmp_path, split):
    output = tmp_path / split
    script = {"global_time": "train_id_encoder.py", "by_users": "train.py"}[split]
    run(script, *options(inputs, output, "--split", split, "--exclude_seen", "false"))
    content = json.loads((output / "metrics.json").read_text())
    assert content["rule"].startswith({"global_time": "Global time: ", "by_users": "By users: "}[split])
    assert "seen items not removed" in content["rule"]
    assert (content["targets"] > content["users"]) == (split == "by_users")
    assert ("recall@20" in content["methods"][0]["metrics"]) == (split == "by_users")
    assert content["candidates"]["min"] == content["candidates"]["max"]


def test_vectors_of_another_recommender_and_their_users(inputs, tmp_path, caplog):
    events = pd.read_csv(inputs / "events.csv")
    rng, items, users = np.random.default_rng(0), events.item_id.unique()[::-1], events.user_id.unique()
    vectors = (rng.normal(size=(len(items), 8)), rng.normal(size=(len(users), 8)))
    save_vectors(tmp_path / "vectors.npz", items, vectors[0], users, vectors[1])
    given = ("--id_encoder", str(tmp_path / "vectors.npz"), "--trust_id_encoder")
    run("train.py", *options(inputs, tmp_path / "run", *given))
    assert any("are held back (--trust_user_vectors keeps them)" in message for message in caplog.messages)
    rows = json.loads((tmp_path / "run" / "metrics.json").read_text())["methods"]
    assert "ID encoder" in [row["name"] for row in rows]
    model = RARecForSequentialRecommendation.from_pretrained(tmp_path / "run")
    kept = users[model.id_encoder.user_indices(users).ge(0).numpy()]
    assert 0 < len(kept) < len(users)  # the alignment users' are gone
    known, unknown = model.recommend([["i1", "i2"]] * 2, user_ids=[kept[0], "nobody"])
    assert unknown.item_ids == model.recommend(["i1", "i2"]).item_ids and known.scores != unknown.scores
    # the folder is an encoder again
    run("train.py", *options(inputs, tmp_path / "again", "--id_encoder", str(tmp_path / "run"), "--trust_id_encoder"))


# texts once ----------------------------------------------------------------------------------------------------------


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_stored_texts_change_nothing_and_are_read_by_the_next_run(trained, inputs, tmp_path, capfd):
    folder = tmp_path / "texts"
    store = ("--text_states_gib", "1", "--text_states_folder", str(folder))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # two processes want two GPUs
    arguments = options(inputs, tmp_path / "unused", *store, "--encode_batch_size", "8")
    subprocess.run([*command, str(EXAMPLES / "store_texts.py"), *arguments], check=True, env=environment)
    said = capfd.readouterr().out
    assert said.count("Text states:") == said.count("Stored:") == 1  # by one process
    shards = sorted(folder.rglob("texts-*"))
    assert len(shards) == 2  # one a process
    cached = tmp_path / "cached"
    run("train.py", *options(inputs, cached, *store))
    said = capfd.readouterr().out
    assert "; 36 are stored already, 0 will be" in said, said[said.find("Text states") :][:300]
    assert sorted(folder.rglob("texts-*")) == shards
    plain = tmp_path / "plain"
    run("train.py", *options(inputs, plain))
    one, other = weights(cached), weights(plain)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        if name == "score_head.text_whitening":  # directions are found up to their sign
            tensor, other[name] = tensor @ tensor.mT, other[name] @ other[name].mT
        # Gains are where a flat curve has its top; one in a thousand was seen between processors
        rtol = 1e-2 if name == "score_head.gains" else 1e-3
        torch.testing.assert_close(tensor, other[name], atol=2e-4, rtol=rtol, msg=lambda m, name=name: f"{name}: {m}")
    with pytest.raises(ValueError, match="after_text"):
        run("train.py", *options(inputs, tmp_path / "paper", *store, "--soft_prompt_position", "before_text"))


def test_every_position_draws_whole_users_and_few_texts(inputs, tmp_path, capsys):
    output = tmp_path / "positions"
    run("train.py", *options(inputs, output, "--every_position", "true", "--max_history_items", "6"))
    data = json.loads((output / "metrics.json").read_text())["data"]
    assert 1 <= data["user_texts"] <= data["samples_drawn"] / 2
    assert yaml.safe_load((output / "arguments.yaml").read_text())["history_block"] == 3
    assert RARecProcessor.from_pretrained(output).history_block == 3


def test_the_papers_text_only_towers_through_trained_heads(inputs, tmp_path, capsys):
    more = ("--score", "trained_head", "--use_soft_prompts", "false", "--alignment_weight", "0")
    softmax = ("--objective", "cross_entropy", "--alignment_negatives", "-1", "--objective_temperature", "0.5")
    run("train.py", *options(inputs, tmp_path / "run", *more, *softmax, "--logging_steps", "1000"))
    printed = capsys.readouterr().out
    assert "score trained_head" in printed and "No learning curve" in printed  # and all else is there
    assert not (tmp_path / "run" / "learning_curve.png").exists() and (tmp_path / "run" / "README.md").exists()
    model = RARecForSequentialRecommendation.from_pretrained(tmp_path / "run")
    assert (
        model.config.objective == "cross_entropy"
        and model.config.objective_temperature == 0.5
        and not len(model.soft_prompts)
    )
    assert model.score_histories([[1, 2]]).shape == (1, 30)
    assert "| RA-Rec (trained_head) |" in (tmp_path / "run" / "metrics.md").read_text("utf-8")


def test_the_alignment_map_during_training_and_after(inputs, tmp_path, capsys):
    output = tmp_path / "run"
    run(
        "train.py",
        *options(inputs, output, "--alignment_map", "true", "--learning_rate", "0.5", "--warmup_steps", "0"),
    )
    numbers = json.loads((output / "alignment_map" / "numbers.json").read_text())
    assert [entry["step"] for entry in numbers] == [0, 3]
    assert {path.name for path in (output / "alignment_map").glob("*.png")} == {"step-000000.png", "step-000003.png"}
    first, last = (entry["RA-Rec"] for entry in numbers)
    assert first.keys() == {"uniformity", "neighbour_overlap@10", "cka with LLM alone", "cka with SASRec"}
    assert first != last and numbers[0]["SASRec"]["uniformity"] == numbers[1]["SASRec"]["uniformity"]
    capsys.readouterr()
    picture = tmp_path / "map.png"
    data = ("--interactions", str(inputs / "events.csv"), "--items", str(inputs / "items.jsonl"))
    GRU4RecModel(GRU4RecConfig(n_items=30, hidden_size=8)).save_pretrained(tmp_path / "gru4rec")
    beside = ("--text_encoder", str(inputs / "backbone"), "--id_encoders", str(tmp_path / "gru4rec"))
    run("alignment_map.py", str(output), *data, *beside, "--picture", str(picture), "--method", "pca")
    printed = capsys.readouterr().out
    assert picture.read_bytes()[:4] == b"\x89PNG" and "neighbour_overlap@10" in printed
    rows = [line.split(" | ")[0].removeprefix("| ") for line in printed.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["RA-Rec", "LLM alone", "SASRec", "LLAMA", "GRU4Rec"]
    GRU4RecModel(GRU4RecConfig(n_items=9, hidden_size=8)).save_pretrained(tmp_path / "gru4rec")
    with pytest.raises(ValueError, match="of another catalogue"):
        run("alignment_map.py", str(output), *data, *beside, "--picture", str(picture))
    with pytest.raises(SystemExit, match="another catalogue"):
        run("alignment_map.py", str(output), "--picture", str(picture))


def test_each_of_both_scores_has_its_own_alignment_map(inputs, tmp_path):
    output = tmp_path / "run"
    run("train.py", *options(inputs, output, "--score", "both", "--alignment_map", "true", "--learning_rate", "0.5"))
    maps = output / "alignment_map"
    assert {path.name for path in maps.iterdir()} == {"encoder_plus_llm", "dot_product"}
    found = {}
    for folder in maps.iterdir():
        names = {path.name for path in folder.iterdir()}
        assert names == {"numbers.json", "step-000000.png", "step-000003.png"}
        found[folder.name] = json.loads((folder / "numbers.json").read_text())
        assert [entry["step"] for entry in found[folder.name]] == [0, 3]
    of_both, of_dot = (found[name][-1]["RA-Rec"] for name in ("encoder_plus_llm", "dot_product"))
    assert of_both != of_dot


def test_a_dry_run_says_what_it_will_take_and_starts_nothing(inputs, tmp_path, capsys):
    output = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        run("train.py", *options(inputs, output, "--dry_run", "true"))
    assert stopped.value.code == 0 and not output.exists() and not list(tmp_path.iterdir())
    printed = capsys.readouterr().out
    assert "ID encoder: first" not in printed
    of_llm, of_encoders = printed.split("ID encoders, as tried just now")
    for part in ("alignment", "encoding the catalogue", "gains", "evaluation", "together"):
        (line,) = [line for line in of_llm.splitlines() if line.strip().startswith(f"{part} ")]
        assert int(line.split(" tokens")[0].split()[-1].replace(",", "")) > 0
    assert "Memory: " in printed and "Disk: " in printed
    minutes = {name: float(m) for name, m in re.findall(r"^  (\S.*?) {2,}([\d.]+) min$", of_encoders, re.M)}
    assert list(minutes) == ["inside RA-Rec", "its opponent", "together"] and "'loss'" not in printed
    plain = int(printed.split("encoding the catalogue")[1].split(" tokens")[0].replace(",", ""))
    events = {f"i{n}" for n in range(30)}
    assert plain == sum(len(f"Item:\nw{n} w{n // 5}") + len("\nSimilar to:") for n in range(len(events)))


def test_a_run_is_pushed_with_its_card_and_tables(inputs, tmp_path, hub, capsys):
    more = ("--push_to_hub", "--hub_token", ME, "--hub_private_repo", "true", "--include_backbone")
    run("train.py", *options(inputs, tmp_path / "films", *more))
    assert "Pushed to" in capsys.readouterr().out
    files = set(hub.files("me/films"))
    assert {"config.json", "model.safetensors", "items.json", "README.md", "metrics.md", "metrics.png"} <= files
    assert {"item_representations.safetensors", "backbone/config.json", ".gitignore"} <= files
    left = ("arguments.yaml", "environment.json")
    assert not [name for name in files if name in left or name.endswith((".parquet", ".bin", ".pt"))]
    assert not [name for name in files if name.startswith(("id_encoder", "checkpoint"))]
    assert hub.repositories["me/films"].private and hub.repositories["me/films"].messages[-1] == "End of training"
    here = RARecForSequentialRecommendation.from_pretrained(tmp_path / "films")
    there = RARecForSequentialRecommendation.from_pretrained("me/films", token=ME)
    assert there.recommend(["i1", "i2"]) == here.recommend(["i1", "i2"])
    card = hub.files("me/films")["README.md"]
    assert b"from_pretrained('me/films')" in card  # what the card's example loads


def test_a_token_that_the_hub_does_not_know_ends_the_run_before_it_trains(inputs, tmp_path, hub):
    with pytest.raises(HfHubHTTPError, match="hf auth login"):
        run("train.py", *options(inputs, tmp_path / "films", "--push_to_hub", "--hub_token", "hf_wrong"))
    assert not (tmp_path / "films").exists() and hub.repositories == {}
