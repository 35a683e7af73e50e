"""What a model's folder or repository holds, read file by file and checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huggingface_hub import ResolvedRevision, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file, logging
from transformers.utils.hub import get_checkpoint_shard_files, hf_api

from .backbone_fingerprint import weights_digest
from .backbone_source import load_backbone
from .backbone_wheel import BackboneNotFoundError
from .checkpoint_checks import check_shard_names, read_weights
from .hub_upload import NEVER_UPLOADED
from .id_encoder import catalogue_digest
from .processor_files import ITEMS_FILE
from .rows_file import opened_in_parts, rows_of_file

logger = logging.get_logger(__name__)

BACKBONE_FOLDER = "backbone"


def find_file(path: str, name: str, hub: dict[str, Any], required: bool = False) -> str | None:
    """A file of the folder or repository; None if it has none of that name, an error if that cannot be known."""
    file = cached_file(path, name, **hub, _raise_exceptions_for_missing_entries=required)
    revision = hub.get("revision")
    if file is None and isinstance(revision, ResolvedRevision) and not hub.get("local_files_only"):
        # Not found, or not reached? Only what is known to be missing is recorded as such
        name_there = f"{hub['subfolder']}/{name}" if hub.get("subfolder") else name
        known = try_to_load_from_cache(path, name_there, cache_dir=hub.get("cache_dir"), revision=revision.resolved)
        if known is None and not is_offline_mode():
            raise OSError(f"The Hub could not be asked whether {path} has a file named {name}. Load it again.")
    return file


def read_config(config_class: Any, path: str, hub: dict[str, Any]) -> Any:
    """The config; an error that names the file whatever Transformers stumbles over in it."""
    try:
        return config_class.from_pretrained(path, **hub)
    except (OSError, ValueError, StrictDataclassError):
        raise
    except Exception as error:  # what transformers does with fields of its own, such as `dtype`
        raise ValueError(f"The config.json of {path} cannot be read: {type(error).__name__}, {error}.") from error


def check_item_table(path: str, model: Any) -> None:
    """Refuses an item table of another catalogue, or in another order: every answer would name other items."""
    known, item_ids = model.config.id_encoder_config.catalogue, model.processor.item_ids
    if known is not None and catalogue_digest(item_ids) != known:
        raise ValueError(
            f"{path}: the item ids of {ITEMS_FILE}, {len(item_ids)} of them, are others than the ID encoder's vectors "
            "are of, or in another order. The files belong to different runs, or the folder is damaged; save or "
            "download it again."
        )


def own_weights_of(path: str, hub: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of `model.safetensors`, or of the shards that `max_shard_size` made of it."""
    if (file := find_file(path, SAFE_WEIGHTS_NAME, hub)) is not None:
        return read_weights(file)
    if (index := find_file(path, SAFE_WEIGHTS_INDEX_NAME, hub)) is None:
        return read_weights(str(find_file(path, SAFE_WEIGHTS_NAME, hub, required=True)))  # which ends in its error
    check_shard_names(index)
    shards, _ = get_checkpoint_shard_files(path, index, **hub)
    return {name: tensor for shard in shards for name, tensor in read_weights(shard).items()}


def representations_of(
    file: str, model: PreTrainedModel, state: dict[str, Tensor], rows: range | None = None
) -> tuple[Tensor, Tensor | None, range | None] | None:
    """
    Item representations and what they were made of, all or some rows, and which rows. None, with a warning, if they do
    not fit these weights: Trainer pushes new weights into a repository that holds an earlier run's.
    """
    whole = read_weights(file) if rows is None else None
    read: Any = whole
    with opened_in_parts(file) as (parts, slices, metadata):
        if rows is not None:  # all of it is looked at, and never whole
            read = {name: rows_of_file(slices, name, rows) for name in ("items", "keys")}
        problem = _problem(parts if whole is None else whole, metadata, model, state)
    if problem is None:
        return read["items"], read.get("keys"), rows
    logger.warning(
        f"{file} {problem}: it is left aside. Call `index_catalogue()` before recommending, and save or push again."
    )
    return None


def _problem(found: Any, metadata: dict[str, str], model: Any, state: dict[str, Tensor]) -> str | None:
    """Why item representations do not fit these weights."""
    made_by, _, digest = metadata.get("made_by", "").partition(" ")
    expected = (model.config.id_encoder_config.n_items, model.score_head.width)
    shape = tuple(found["items"].shape) if "items" in found else (0,)
    if shape != expected:
        problem = f"holds {shape}, expected {expected}"
    elif made_by != weights_digest(state):
        problem = f"was made by other weights ({made_by}) than those of {SAFE_WEIGHTS_NAME} ({weights_digest(state)})"
    elif digest and digest != weights_digest(found):  # none in earlier files
        problem = "is damaged: its content has another digest than when it was saved"
    else:
        problem = None
    return problem


def own_backbone(path: str, config: Any, hub: dict[str, Any], kwargs: dict[str, Any]) -> PreTrainedModel:
    """A full folder's own backbone, else the one at the recorded address."""
    shared = {name: hub[name] for name in ("cache_dir", "token", "local_files_only") if name in hub}
    if (file := find_file(path, f"{BACKBONE_FOLDER}/config.json", hub)) is not None:
        if not os.path.isdir(path):
            inner = f"{hub['subfolder']}/{BACKBONE_FOLDER}" if hub.get("subfolder") else BACKBONE_FOLDER
            wanted: dict[str, Any] = {"allow_patterns": f"{inner}/*", "ignore_patterns": list(NEVER_UPLOADED)}
            hf_api().snapshot_download(path, revision=hub.get("revision"), **wanted, **shared)
        options = {"use_safetensors": True, "bidirectional": config.bidirectional} | kwargs
        return load_backbone(str(Path(file).parent), **options)
    if config.backbone_address is None:
        raise ValueError(
            f"{path} is slim and does not say where its backbone is (`backbone_address`). Load that backbone and pass "
            "it as `language_model=`."
        )
    try:
        return load_backbone(config.backbone_address, bidirectional=config.bidirectional, **shared, **kwargs)
    except BackboneNotFoundError as error:
        raise BackboneNotFoundError(
            f"{path} is slim: its backbone's weights are elsewhere. {error} Or pass that backbone, loaded, as "
            "`language_model=`; whoever pushed the model can add it with `include_backbone=True`."
        ) from error


__all__ = [
    "BACKBONE_FOLDER",
    "check_item_table",
    "find_file",
    "own_backbone",
    "own_weights_of",
    "read_config",
    "representations_of",
]
