"""The code that goes along with a saved model, by Transformers' own mechanism: `AutoModel.from_pretrained` then loads
the folder on machines without `rarec_hf`, for those who set `trust_remote_code`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save


@contextmanager
def code_beside(model: PreTrainedModel, folder: Path, include_code: bool) -> Iterator[None]:
    """
    While the block runs, what is saved of the model's parts in `folder` says in `auto_map` where its code is, and the
    code is copied there; or else nothing says so, not even a config that was loaded with an `auto_map`.

    It is a matter of one folder: neither the classes (as by `register_for_auto_class`) nor the model's config are
    changed after it.
    """
    parts = {"AutoModel": model, "AutoConfig": model.config, "AutoProcessor": model.processor}
    parts = {name: part for name, part in parts.items() if part is not None}
    before = vars(model.config).pop("auto_map", None)
    try:
        if include_code:
            for auto_class, part in parts.items():
                part._auto_class = auto_class
            custom_object_save(model, folder, config=model.config)  # config and processor do so where they are saved
        yield
    finally:
        for part in parts.values():
            vars(part).pop("_auto_class", None)
        vars(model.config).pop("auto_map", None)
        if before is not None:
            model.config.auto_map = before


__all__ = ["code_beside"]
