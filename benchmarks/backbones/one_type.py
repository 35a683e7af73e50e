"""One type of the list, as a process of the pool runs it."""

from __future__ import annotations

import time
import warnings

import torch
import transformers

from .checks import Result, check_type
from .peft_prefix import runs_with_peft


def one(model_type: str, with_peft: bool) -> tuple[Result, str, float]:
    """Result, what PEFT does (empty if not asked) and the seconds it took."""
    warnings.filterwarnings("ignore")
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    start = time.perf_counter()
    result = check_type(model_type)
    peft = runs_with_peft(model_type) if with_peft and result.status != "cannot be built" else ""
    return result, peft, time.perf_counter() - start


__all__ = ["one"]
