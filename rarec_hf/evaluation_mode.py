"""A model in evaluation mode for as long as anybody reads from it, whichever thread comes first and goes last."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

# One for all models, held for the change of mode alone: a lock of its own could be neither copied nor pickled
_LOCK = threading.Lock()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """
    The model is in evaluation mode inside the block. After the last of the blocks that overlap it is in the mode in
    which the first one found it. A model that is in evaluation mode already is not touched, which costs nothing.
    """
    readers = model.__dict__
    with _LOCK:
        if not readers.get("_readers", 0):
            readers["_trained_before"] = model.training
        elif model.training:  # somebody has gone on training meanwhile
            readers["_trained_before"] = True
        readers["_readers"] = readers.get("_readers", 0) + 1
        if model.training:
            model.eval()
    try:
        yield
    finally:
        with _LOCK:
            readers["_readers"] -= 1
            if not readers["_readers"] and readers["_trained_before"]:
                model.train()


__all__ = ["evaluation_mode"]
