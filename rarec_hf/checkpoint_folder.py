"""The folder a model is kept in: slim (the backbone found again by its address) or full, and how it is loaded without
a random weight."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huggingface_hub import create_repo
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file, logging

from .backbone_fingerprint import check_fingerprint, weights_digest, weights_fingerprint
from .backbone_source import load_backbone
from .processing_rarec import HUB_ARGUMENTS, ITEMS_FILE, RARecProcessor
from .remote_code import code_beside
from .whole_files import replacing

logger = logging.get_logger(__name__)

REPRESENTATIONS_FILE = "item_representations.safetensors"
BACKBONE_FOLDER = "backbone"
_BACKBONE_PREFIX = "language_model."


class CheckpointFolderMixin:
    """
    `save_pretrained` and `from_pretrained` of `RARecForSequentialRecommendation`. A folder holds

    - `config.json`, `model.safetensors`: alignment module and ID encoder;
    - `item_representations.safetensors`: once the catalogue was indexed;
    - the processor's files: tokenizer, prompts, item table, id map;
    - `backbone/`: the LLM as its own `save_pretrained` writes it, in a full folder only;
    - `*.py`: the code, only on request.
    """

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        include_backbone: bool = False,
        push_to_hub: bool = False,
        include_code: bool = False,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            save_directory (`str`): the folder.
            include_backbone (`bool`): also save the backbone's weights (a full folder). A slim one needs
                `config.backbone_address`; without one it warns, and loads only with `language_model=` given.
            include_code (`bool`): also save the Python files that define the model, so that
                `AutoModel.from_pretrained` loads the folder on a machine without `rarec_hf`, for those who tell it to
                trust this code. Models that were themselves loaded so always take their code along.
            push_to_hub (`bool`): upload what was written once all of it is; with `repo_id` (default: the folder's
                name), `token`, `private`, `commit_message` and `create_pr` of `PreTrainedModel.push_to_hub`.
        """
        if self.config.backbone_fingerprint is None:
            self.config.backbone_fingerprint = weights_fingerprint(self.language_model)
        hub = {name: kwargs.pop(name) for name in ("commit_message", "create_pr") if name in kwargs}
        folder, before = Path(save_directory), None
        folder.mkdir(parents=True, exist_ok=True)
        if push_to_hub:
            # Not left to `super()`, which would upload before the files below are there
            repository = create_repo(
                kwargs.pop("repo_id", folder.name),
                exist_ok=True,
                private=kwargs.pop("private", None),
                token=kwargs.get("token"),
            ).repo_id
            before = self._get_files_timestamps(folder)
        (folder / REPRESENTATIONS_FILE).unlink(missing_ok=True)  # of other weights
        with code_beside(self, folder, include_code or self.is_remote_code()):
            super().save_pretrained(folder, **kwargs)
            if self.processor is not None:
                self.processor.save_pretrained(folder)
        if self._catalogue is not None and self._catalogue.items is not None:
            items, made_by = self._catalogue.items.contiguous(), weights_digest(self.own_weights())
            with replacing(folder / REPRESENTATIONS_FILE) as temporary:
                keys = {} if self._catalogue.keys is None else {"keys": self._catalogue.keys}
                save_file({"items": items} | keys, temporary, metadata={"made_by": made_by})
        if include_backbone:
            self.language_model.save_pretrained(folder / BACKBONE_FOLDER)
        elif self.config.backbone_address is None:
            logger.warning(
                "The backbone has no address (`config.backbone_address`), so this folder can only be loaded with "
                "`language_model=` given. Load backbones with `rarec_hf.load_backbone`, or save with "
                "`include_backbone=True`."
            )
        if push_to_hub:
            self._upload_modified_files(folder, repository, before, token=kwargs.get("token"), **hub)

    def own_weights(self) -> dict[str, Tensor]:
        """The weights that `model.safetensors` holds: all but the backbone's."""
        return {name: t for name, t in self.state_dict().items() if not name.startswith(_BACKBONE_PREFIX)}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        config: Any = None,
        language_model: PreTrainedModel | None = None,
        **kwargs: Any,
    ):
        """
        Loads a folder or a Hub repository, slim or full.

        Args:
            pretrained_model_name_or_path (`str`): the folder or repository.
            language_model (`PreTrainedModel`, *optional*): the backbone, if it is loaded already; its fingerprint is
                checked all the same.
            kwargs: `cache_dir`, `token`, `revision`, `local_files_only` find this checkpoint's files (and, but for
                `revision`, the backbone's); everything else (`dtype`, `device_map`, `quantization_config`,
                `attn_implementation`, ...) goes to the backbone.

        Raises:
            ValueError: weights are missing, unexpected or of another shape, or the backbone is not the one the
                alignment was trained on.
            OSError: the folder, or the backbone, cannot be found.
        """
        path = str(pretrained_model_name_or_path)
        hub = {name: kwargs.pop(name) for name in HUB_ARGUMENTS if name in kwargs}
        config = config or cls.config_class.from_pretrained(path, **hub)
        state = load_file(_file(path, SAFE_WEIGHTS_NAME, hub, required=True))
        if language_model is None:
            language_model = _load_own_backbone(path, config, hub, kwargs)
        if config.backbone_fingerprint is not None:
            check_fingerprint(config.backbone_fingerprint, language_model, config.backbone_address or path)
        config.text_config = language_model.config
        model = cls(config, language_model)
        expected = model.own_weights()
        missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
        reshaped = [n for n in expected.keys() & state.keys() if expected[n].shape != state[n].shape]
        if missing or unexpected or reshaped:
            raise ValueError(
                f"{path} does not hold the weights its config asks for: {len(missing)} missing {missing[:3]}, "
                f"{len(unexpected)} unexpected {unexpected[:3]}, {len(reshaped)} of another shape {reshaped[:3]}. The "
                "files belong to different runs, or the folder is damaged; save or download it again."
            )
        model.load_state_dict(state, strict=False)
        device = model.get_input_embeddings().weight.device
        for name, module in model.named_children():
            if name != "language_model":
                module.to(device)
        model.id_scale = model.id_scale.to(device)
        if _file(path, ITEMS_FILE, hub) is not None:
            trust = {"trust_remote_code": kwargs["trust_remote_code"]} if "trust_remote_code" in kwargs else {}
            model.processor = RARecProcessor.from_pretrained(path, **hub, **trust)
        if (file := _file(path, REPRESENTATIONS_FILE, hub)) is not None:
            model._catalogue = model.catalogue_of(*_representations(file, model, state))
        return model.eval()


def _file(path: str, name: str, hub: dict[str, Any], required: bool = False) -> str | None:
    return cached_file(path, name, **hub, _raise_exceptions_for_missing_entries=required)


def _representations(file: str, model: PreTrainedModel, state: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Item representations and what they were made of; refused if other weights made them or the shape is wrong."""
    with safe_open(file, "pt") as content:
        items, made_by = content.get_tensor("items"), (content.metadata() or {}).get("made_by")
        keys = content.get_tensor("keys") if "keys" in content.keys() else None
    expected = (model.config.id_encoder_config.n_items, model.score_head.width)
    if items.shape != expected:
        problem = f"holds {tuple(items.shape)}, expected {expected}"
    elif made_by != weights_digest(state):
        problem = f"was made by other weights ({made_by}) than those of {SAFE_WEIGHTS_NAME} ({weights_digest(state)})"
    else:
        return items, keys
    raise ValueError(
        f"{REPRESENTATIONS_FILE} {problem}. Delete it, load the folder, call `index_catalogue()` and save it again."
    )


def _load_own_backbone(path: str, config: Any, hub: dict[str, Any], kwargs: dict[str, Any]) -> PreTrainedModel:
    """A full folder's own backbone, else the one at the recorded address."""
    shared = {name: hub[name] for name in ("cache_dir", "token", "local_files_only") if name in hub}
    if (file := _file(path, f"{BACKBONE_FOLDER}/config.json", hub)) is not None:
        if os.path.isdir(path):
            return load_backbone(str(Path(file).parent), bidirectional=config.bidirectional, **kwargs)
        from huggingface_hub import snapshot_download

        root = snapshot_download(path, allow_patterns=f"{BACKBONE_FOLDER}/*", revision=hub.get("revision"), **shared)
        folder = str(Path(root) / BACKBONE_FOLDER)
        return load_backbone(folder, bidirectional=config.bidirectional, **kwargs)
    if config.backbone_address is None:
        raise ValueError(
            f"{path} is slim and does not say where its backbone is (`backbone_address`). Load that backbone and pass "
            "it as `language_model=`."
        )
    return load_backbone(config.backbone_address, bidirectional=config.bidirectional, **shared, **kwargs)


__all__ = ["BACKBONE_FOLDER", "REPRESENTATIONS_FILE", "CheckpointFolderMixin"]
