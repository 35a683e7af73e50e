"""Loading a checkpoint runs no code, reads nothing outside of it, and says no token to anybody."""

from __future__ import annotations

import ast
import json
import logging
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from hub_client import ME, log_in
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, TrainingArguments
from transformers.utils import logging as transformers_logging

import rarec_hf
from rarec_hf import RARecForSequentialRecommendation, RARecProcessor
from rarec_hf.hub import write_model_card
from rarec_hf.training.ranking_trainer import RankingTrainer
from rarec_hf.training.run_folder import run_environment

PACKAGE = Path(rarec_hf.__file__).parent
ROOT = PACKAGE.parent
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKEN = "hf_" + "PlantedTokenThatMustNotBeSeen12345"
load = RARecForSequentialRecommendation.from_pretrained


@pytest.fixture
def saved(trained, make_backbone, tmp_path):
    """`saved(full=False)`: a folder as after training."""

    def make(full: bool = False):
        make_backbone().save_pretrained(tmp_path / "lm")
        backbone = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
        model = trained(backbone=backbone, backbone_address=f"path:{tmp_path / 'lm'}")
        model.save_pretrained(tmp_path / "saved", include_backbone=full)
        return tmp_path / "saved"

    return make


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


# pickles -------------------------------------------------------------------------------------------------------------

PICKLES = ["pytorch_model.bin", "model.pt", "model.pkl", "training_args.bin", "optimizer.pt", "adapter_model.bin"]


def bombs(folder: Path, mark: Path) -> None:
    for name in PICKLES:
        (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
        if name.endswith(".bin"):
            torch.save({"weight": Bomb(mark)}, folder / name)
    index = {"metadata": {}, "weight_map": {"id_scale": "pytorch_model.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def test_the_bomb_works(tmp_path):
    bombs(tmp_path, tmp_path / "mark")
    pickle.loads((tmp_path / "model.pkl").read_bytes())
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("without_weights", [False, True])
@pytest.mark.parametrize("full", [False, True], ids=["slim", "full"])
def test_pickled_files_are_never_read(saved, tmp_path, full, without_weights):
    folder, mark = saved(full), tmp_path / "mark"
    for place in (folder, folder / "backbone") if full else (folder,):
        bombs(place, mark)
        if without_weights:
            (place / WEIGHTS).unlink()
    if without_weights:
        with pytest.raises(OSError, match="safetensors"):
            load(folder)
    else:
        assert load(folder).recommend(["i1"])
    assert not mark.exists()


def test_a_slim_folders_backbone_of_pickles(saved, tmp_path):
    folder, mark = saved(), tmp_path / "mark"
    bombs(tmp_path / "lm", mark)
    weights = load_file(tmp_path / "lm" / WEIGHTS)
    torch.save(weights, tmp_path / "lm" / "pytorch_model.bin")  # would load, were it read
    (tmp_path / "lm" / "pytorch_model.bin.index.json").unlink()
    (tmp_path / "lm" / WEIGHTS).unlink()
    with pytest.raises(OSError, match="safetensors"):
        load(folder)
    assert not mark.exists()


def test_nothing_in_the_package_unpickles_or_evaluates():
    forbidden = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                assert forbidden.isdisjoint(name.split(".")[0] for name in names), path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "__import__"), (
                    path
                )
                if called == "np.load":
                    assert "allow_pickle=False" in ast.unparse(node), path


# paths ---------------------------------------------------------------------------------------------------------------

ELSEWHERE = ["../secret.safetensors", "/etc/passwd", "..\\secret.safetensors", "a/b.safetensors", "..", "", "x.bin", 5]


@pytest.mark.parametrize("name", [*ELSEWHERE, "C:x.safetensors", "a\0.safetensors", None, ["x"]])
def test_an_index_that_points_elsewhere(saved, tmp_path, name):
    folder = saved()
    weights = load_file(folder / WEIGHTS)
    save_file(weights, tmp_path / "secret.safetensors", metadata={"format": "pt"})
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, name)}))
    with pytest.raises(ValueError, match="index.json names .* as a file of weights: only"):
        load(folder)


def test_an_index_of_a_full_folders_backbone_that_points_elsewhere(saved, tmp_path):
    folder = saved(full=True)
    inner = folder / "backbone"
    weights = load_file(inner / WEIGHTS)
    shutil.move(inner / WEIGHTS, tmp_path / "secret.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "../../secret.safetensors")}
    (inner / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match="index.json names '../../secret.safetensors'"):
        load(folder)


def test_honest_shards_load(saved, tmp_path):
    model = load(saved())
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards" / INDEX).is_file()
    assert load(tmp_path / "shards").recommend(["i1"]) == model.recommend(["i1"])


# code ----------------------------------------------------------------------------------------------------------------


def test_code_beside_a_checkpoint_does_not_run(saved, tmp_path):
    folder, mark = saved(), tmp_path / "mark"
    evil = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Evil: pass\n"
    for name in ("evil.py", "modeling_rarec.py", "configuration_rarec.py", "processing_rarec.py", "__init__.py"):
        (folder / name).write_text(evil)
    auto = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoProcessor": "evil.Evil"}
    auto["AutoTokenizer"] = ["evil.Evil", "evil.Evil"]
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"auto_map": auto}))
    for act in (
        lambda: load(folder),
        lambda: AutoModel.from_pretrained(folder),
        lambda: AutoConfig.from_pretrained(folder),
    ):
        try:
            act()
        except (ValueError, OSError) as error:  # the tokenizer's code must be trusted, and nobody did
            assert "trust_remote_code" in str(error)
    assert RARecProcessor.from_pretrained(folder).titles  # the tokenizer needs no code of theirs
    assert not mark.exists()


# another backbone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["weights", "config", "one value"])
def test_another_backbone_at_the_recorded_address(saved, make_backbone, tmp_path, change):
    """Other weights, or a config by which the same weights are read in another way."""
    folder = saved()
    if change == "weights":
        make_backbone(seed=1).save_pretrained(tmp_path / "lm")
    elif change == "one value":
        weights = load_file(tmp_path / "lm" / WEIGHTS)
        weights["model.norm.weight"][3] += 1
        save_file(weights, tmp_path / "lm" / WEIGHTS, metadata={"format": "pt"})
    else:
        config = json.loads((tmp_path / "lm/config.json").read_text())
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": 77.0}
        (tmp_path / "lm/config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="fingerprint|rope_parameters"):
        load(folder)


# tokens --------------------------------------------------------------------------------------------------------------


def test_a_token_is_in_no_file_and_no_log(saved, hub, tmp_path, monkeypatch, capfd):
    heard = []

    class Ear(logging.Handler):
        def emit(self, record):
            heard.append(record.getMessage())

    ear, root = Ear(level=logging.DEBUG), logging.getLogger()
    root.addHandler(ear)
    monkeypatch.setattr(root, "level", logging.DEBUG)
    transformers_logging.enable_propagation()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.tokens[TOKEN] = "me"
    log_in(TOKEN)
    monkeypatch.setattr("sys.argv", ["train.py", "--hub_token", TOKEN, f"--push_to_hub_token={TOKEN}", "--seed", "1"])
    try:
        model = load(saved())
        model.push_to_hub("me/films", token=TOKEN)
        again = load("me/films", token=TOKEN)
        again.save_pretrained(tmp_path / "out")
        (tmp_path / "out/environment.json").write_text(json.dumps(run_environment()))
        write_model_card(tmp_path / "out", repo_id="me/films")
        with pytest.raises(OSError) as refused:
            load("me/none", token=TOKEN)
    finally:
        root.removeHandler(ear)
        transformers_logging.disable_propagation()
    assert "--seed 1" in run_environment()["command"]
    out, err = capfd.readouterr()
    for text in (*heard, out, err, str(refused.value), *map(repr, (model, again, again.config))):
        assert TOKEN not in text
    for content in hub.files("me/films").values():
        assert TOKEN.encode() not in content
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    assert ME != TOKEN and any("films" in text for text in heard)  # the ear heard something


@pytest.mark.parametrize("command", [["--token", TOKEN], [f"--hub_token={TOKEN}"], ["--x", f"a{TOKEN}b"]])
def test_the_recorded_command_hides_tokens(monkeypatch, command):
    monkeypatch.setattr("sys.argv", ["train.py", *command, "--epochs", "2"])
    told = run_environment()["command"]
    assert TOKEN not in told and told.endswith("--epochs 2") and "train.py" in told


def test_a_trainers_files_hold_no_token(tmp_path):
    args = TrainingArguments(str(tmp_path / "out"), hub_token=TOKEN)
    encoder = rarec_hf.SASRecModel(rarec_hf.SASRecConfig(n_items=5, hidden_size=4))
    trainer = RankingTrainer(model=encoder, args=args, scorer=None)
    trainer.save_model()
    saved = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"training_args.bin", "model.safetensors"} <= saved and trainer.args.hub_token == TOKEN
    assert all(TOKEN.encode() not in path.read_bytes() for path in (tmp_path / "out").iterdir())


# requirements and secrets --------------------------------------------------------------------------------------------


def requirements(section: str) -> list[str]:
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    options = config["options"] if section == "install_requires" else config["options.extras_require"]
    names = [section] if section == "install_requires" else list(options)
    return [line.strip() for name in names for line in options[name].splitlines() if line.strip() and line[0] != "#"]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[=<>~!; ]", name)[0]).lower()


def test_every_requirement_is_pinned_to_one_version():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*", line) for line in lines), lines
    pinned = {line.split("==")[0] for line in lines}
    assert len(pinned) == len(lines) and lines == sorted(lines, key=lambda line: line.split("==")[0])
    asked = {plain(line) for line in requirements("install_requires")}
    unpinned = sorted(asked - pinned)
    assert not unpinned, f"no version in constraints.txt: {unpinned}"


def test_what_github_runs_is_what_the_makefile_has():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1].split()
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert workflow["permissions"] == {"contents": "read"} and {".ci/run", "make audit"} <= set(commands)
    assert all(command == ".ci/run" or command.removeprefix("make ") in targets for command in commands), commands


def test_nothing_is_installed_from_an_address():
    for line in requirements("install_requires") + requirements("extras_require"):
        assert re.fullmatch(r"[A-Za-z0-9_.-]+(\[[a-z,]+\])?(>=|==)[0-9][0-9.]*", line), line


SECRETS = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{60,}|\bAKIA[0-9A-Z]{16}\b|\bpypi-AgE\w{40,}"
    r"|\bsk-[A-Za-z0-9_-]{32,}\b|\bxox[abprs]-[0-9A-Za-z-]{10,}|-----BEGIN (RSA |EC |OPENSSH )?PRIVATE KEY-----"
    r"|\bAIza[0-9A-Za-z_-]{35}\b|https?://[^/\s:@'\"{}]+:[^/\s:@'\"{}]+@"
)


def test_no_secret_stands_in_a_tracked_file():
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = []
    for name in filter(None, listed.split("\0")):
        file = ROOT / name
        if file.is_file() and (match := SECRETS.search(file.read_bytes().decode("latin-1"))):
            found.append(f"{name}: {match[0][:8]}...")
    assert not found


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "a" * 34,
        "ghp_" + "b" * 36,
        "AKIA" + "C" * 16,
        "-----BEGIN " + "PRIVATE KEY-----",
        "https://me:" + "pw@host",
    ],
)
def test_the_scan_finds(secret):
    assert SECRETS.search(f"x = '{secret}'")
