"""A folder with its code is loaded by a Python that has no `rarec_hf`, and gives the same recommendations."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor
from transformers.dynamic_module_utils import get_imports

import rarec_hf
from rarec_hf import ItemVectorsModel, RARecForSequentialRecommendation, RARecProcessor

PACKAGE = Path(rarec_hf.__file__).parent
ALLOWED = {"huggingface_hub", "numpy", "safetensors", "torch", "tqdm", "transformers"}
AUTO_MAP = {
    "AutoConfig": "configuration_rarec.RARecConfig",
    "AutoModel": "modeling_rarec.RARecForSequentialRecommendation",
}
HISTORIES = [["i1", "i2", "i9"], ["i7"], []]

# An installation in editable mode is a finder of its own, which `-I` leaves in place: hence the refusal before it
_WITHOUT_RAREC = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "rarec_hf":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
try:
    import rarec_hf
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("rarec_hf is there")

import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer

def answers(model, users=None):
    histories = json.loads(sys.argv[2])
    found = model.recommend(histories, k=5, user_ids=users)
    return [[answer.item_ids, answer.titles, answer.scores] for answer in found]

def say(**result):
    assert not [name for name in sys.modules if name.split(".")[0] == "rarec_hf"]
    print("\\n" + json.dumps(result))
"""

_LOAD = """
folder, again, users, full = sys.argv[1], sys.argv[3], json.loads(sys.argv[4]), json.loads(sys.argv[5])
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
first = answers(model, users)
model.save_pretrained(again, include_backbone=full)
second = answers(AutoModel.from_pretrained(again, trust_remote_code=True), users)
model.index_catalogue(progress=False)
say(
    first=first, second=second, third=answers(model, users), soft_prompts=config.soft_prompt_position,
    titles=processor.titles, modules=[type(part).__module__ for part in (config, model, processor)],
    tokens=processor.user_text([1, 2]).ids,
)
"""

_UNTRUSTED = """
errors = {}
for auto in (AutoConfig, AutoModel, AutoProcessor):
    try:
        auto.from_pretrained(sys.argv[1])
    except Exception as error:
        errors[auto.__name__] = [type(error).__name__, str(error)]
say(errors=errors)
"""

_FROM_THE_HUB = """
model = AutoModel.from_pretrained("someone/films", trust_remote_code=True, dtype=torch.bfloat16)
others = {str(p.dtype) for name, p in model.named_parameters() if not name.startswith("language_model.")}
inner = str(model.language_model.dtype)
model = AutoModel.from_pretrained("someone/films", trust_remote_code=True)
say(first=answers(model), dtypes=[inner, *others], module=type(model).__module__)
"""


@pytest.fixture
def without_rarec(tmp_path):
    """`without_rarec(script, *arguments)`: what the script says, run by a Python that cannot import `rarec_hf`."""

    def run(script: str, *arguments: object) -> dict:
        names = ("PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        environment |= {"HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-I", "-c", _WITHOUT_RAREC + script, *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        *before, result = done.stdout.splitlines()
        return {"asked": sum("run the custom code?" in line for line in before), **json.loads(result)}

    return run


@pytest.fixture
def make_saved(trained, make_backbone, tmp_path):
    """`make_saved(full=False, **config)`: a model as after training, and a folder of it with its code."""

    def make(full: bool = False, **config):
        make_backbone().save_pretrained(tmp_path / "lm")
        backbone = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
        model = trained(backbone=backbone, **{"backbone_address": f"path:{tmp_path / 'lm'}", **config})
        model.save_pretrained(tmp_path / "saved", include_backbone=full, include_code=True)
        return model, tmp_path / "saved"

    return make


def auto_map_of(folder: Path, name: str = "config.json") -> dict | None:
    return json.loads((folder / name).read_text()).get("auto_map")


def told(model, users=None) -> list:
    found = model.recommend(HISTORIES, k=5, user_ids=users)
    return [[answer.item_ids, answer.titles, pytest.approx(answer.scores, abs=1e-4)] for answer in found]


# which files -----------------------------------------------------------------------------------------------------


def test_code_goes_along_only_on_request(make_saved, tmp_path):
    model, folder = make_saved()
    assert auto_map_of(folder) == AUTO_MAP
    assert auto_map_of(folder, "processor_config.json") == {"AutoProcessor": "processing_rarec.RARecProcessor"}
    for part in (model, model.config, model.processor):
        assert part._auto_class is None and type(part)._auto_class is None
    model.save_pretrained(tmp_path / "plain")
    RARecForSequentialRecommendation.from_pretrained(folder).save_pretrained(tmp_path / "loaded")
    for plain in (tmp_path / "plain", tmp_path / "loaded"):
        assert not list(plain.rglob("*.py"))
        assert auto_map_of(plain) is None and auto_map_of(plain, "processor_config.json") is None


def test_a_failed_save_leaves_the_model_as_it_was(make_saved, tmp_path, monkeypatch):
    model, _ = make_saved()
    monkeypatch.setattr(
        type(model.processor), "save_pretrained", lambda *a, **k: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(OSError, match="full"):
        model.save_pretrained(tmp_path / "broken", include_code=True)
    assert model._auto_class is None and not hasattr(model.config, "auto_map")


def test_the_files_are_all_that_is_needed_and_import_nothing_else(make_saved):
    _, folder = make_saved()
    files = {path.stem: path for path in folder.glob("*.py")}
    assert {"configuration_rarec", "modeling_rarec", "processing_rarec", "backbone_wheel"} <= set(files)
    for path in files.values():
        assert path.read_bytes() == (PACKAGE / path.name).read_bytes()
        packages = set(get_imports(path))  # as it is checked on loading: what a `try` may lack is left out
        assert packages <= ALLOWED | set(sys.stdlib_module_names), f"{path.name}: {packages}"
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and node.module in files, f"{path.name}: from .{node.module}"


def test_trust_is_the_users_alone():
    sets_it = re.compile(r"trust_remote_code[\"']?\s*[=:]\s*True")
    assert sets_it.search("f(trust_remote_code=True)") and sets_it.search('{"trust_remote_code": True}')
    assert not [path.name for path in PACKAGE.rglob("*.py") if sets_it.search(path.read_text("utf-8"))]


# with the package ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", [None, False, True])
def test_where_the_package_is_installed_its_own_classes_are_taken(make_saved, trust):
    model, folder = make_saved()
    again = AutoModel.from_pretrained(folder, trust_remote_code=trust)
    assert type(again) is RARecForSequentialRecommendation
    assert type(AutoConfig.from_pretrained(folder, trust_remote_code=trust)) is rarec_hf.RARecConfig
    assert type(AutoProcessor.from_pretrained(folder, trust_remote_code=trust)) is RARecProcessor
    assert again.recommend(HISTORIES, k=5) == model.recommend(HISTORIES, k=5)


def test_auto_processor_also_without_code(trained, tmp_path):
    model = trained()
    model.save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is RARecProcessor
    assert processor.titles == model.processor.titles and processor.templates == model.processor.templates
    assert processor.user_text([1, 2]) == model.processor.user_text([1, 2])


# without the package ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("full", "position"), [(False, "after_text"), (True, "before_text")], ids=["slim", "full, before_text"]
)
def test_the_same_answers_without_the_package(make_saved, without_rarec, tmp_path, full, position):
    model, folder = make_saved(full, soft_prompt_position=position)
    if full:
        shutil.rmtree(tmp_path / "lm")
    result = without_rarec(_LOAD, folder, json.dumps(HISTORIES), tmp_path / "again", "null", json.dumps(full))
    assert auto_map_of(tmp_path / "again") == AUTO_MAP
    assert result["first"] == result["second"] == told(model) and not result["asked"]
    assert result["third"] == told(model)  # and with representations computed there
    assert result["titles"] == model.processor.titles and result["soft_prompts"] == position
    assert result["tokens"] == model.processor.user_text([1, 2]).ids
    assert all(module.startswith("transformers_modules.") for module in result["modules"])


def test_known_users_without_the_package(make_saved, without_rarec, tmp_path):
    vectors, known = np.random.default_rng(0).normal(size=(12, 4)), np.random.default_rng(1).normal(size=(2, 4))
    encoder = ItemVectorsModel.from_vectors(
        [f"i{n}" for n in range(12)], vectors, max_history=8, user_ids=["ann", "bob"], user_vectors=3 * known
    )
    model, folder = make_saved(encoder=encoder)
    users = ["bob", None, "ann"]
    result = without_rarec(_LOAD, folder, json.dumps(HISTORIES), tmp_path / "again", json.dumps(users), "false")
    assert result["first"] == result["second"] == told(model, users)
    assert result["first"] != told(model)


def test_a_repository_without_the_package(make_saved, without_rarec, tmp_path):
    """As it lies in the Hub's cache after a download."""
    model, folder = make_saved()
    repository, commit = tmp_path / "hf/hub/models--someone--films", "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    result = without_rarec(_FROM_THE_HUB, "", json.dumps(HISTORIES))
    assert result["first"] == told(model) and not result["asked"]
    assert result["dtypes"] == ["torch.bfloat16", "torch.float32"]
    assert result["module"] == f"transformers_modules.someone.films.{commit}.modeling_rarec"


def test_code_that_is_not_trusted_does_not_run(make_saved, without_rarec):
    _, folder = make_saved()
    result = without_rarec(_UNTRUSTED, folder, "[]")
    errors = result["errors"]
    assert result["asked"]
    assert set(errors) == {"AutoConfig", "AutoModel", "AutoProcessor"}
    for kind, message in errors.values():
        assert kind == "ValueError" and "contains custom code" in message and "`trust_remote_code=True`" in message
