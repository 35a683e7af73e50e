"""The folder a model is kept in: slim (the backbone found again by its address) or full, and how it is loaded without
a random weight."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitInfo
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging
from transformers.utils.hub import resolve_revision

from .backbone_fingerprint import check_config, check_fingerprint, weights_digest, weights_fingerprint
from .catalogue_rows import rows_held
from .checkpoint_checks import check_address, check_sizes
from .checkpoint_reading import (
    BACKBONE_FOLDER,
    check_item_table,
    find_file,
    own_backbone,
    own_weights_of,
    read_config,
    representations_of,
)
from .hub_upload import HubPush, file_states, ignore_in_uploads
from .id_encoder import catalogue_digest
from .joint_passes import is_sharded
from .processes import PartialState, several
from .processing_rarec import RARecProcessor
from .processor_files import HUB_ARGUMENTS, ITEMS_FILE
from .remote_code import code_beside
from .rows_file import write_in_parts
from .spread_catalogue import SpreadCatalogueMixin
from .whole_files import replacing

if TYPE_CHECKING:
    from typing import Self

logger = logging.get_logger(__name__)

REPRESENTATIONS_FILE = "item_representations.safetensors"
BACKBONE_PREFIX = "language_model."
# What one save leaves and another may not: a push deletes an earlier one's from the repository
OWNED_FILES = ("model*.safetensors", "model.safetensors.index.json", REPRESENTATIONS_FILE, f"{BACKBONE_FOLDER}/*")


class CheckpointFolderMixin(SpreadCatalogueMixin):
    """
    `save_pretrained` and `from_pretrained` of `RARecForSequentialRecommendation`. A folder holds

    - `config.json`, `model.safetensors`: alignment module and ID encoder;
    - `item_representations.safetensors`: once the catalogue was indexed;
    - the processor's files: tokenizer, prompts, item table, id map;
    - `backbone/`: the LLM as its own `save_pretrained` writes it, in a full folder only;
    - `*.py`: the code, only on request;
    - `.gitignore`: keeps Trainer's pickled files out of every upload.
    """

    card_writer: Callable | None = None  # set by the package, which code in a folder does not have

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
            push_to_hub (`bool`): upload what was written once all of it is; with the arguments of [`HubPush`],
                `repo_id` being the folder's name by default.
        """
        pushing = {name: kwargs.pop(name) for name in HubPush.ARGUMENTS if name in kwargs}
        kwargs["include_code"] = include_code
        self._save(Path(save_directory), include_backbone, push_to_hub, pushing, kwargs)

    def push_to_hub(self, repo_id: str, *, include_backbone: bool = False, **kwargs: Any) -> CommitInfo:
        """
        Saves to a temporary folder and uploads it, in one commit that also deletes what an earlier push left and this
        one does not replace.

        Args:
            repo_id (`str`): the repository; made if it is not there.
            include_backbone (`bool`): also upload the backbone's weights.
            kwargs: the arguments of [`HubPush`] (`private`, `token`, `revision`, `create_pr`, `commit_message`,
                `ignore_patterns`, `delete_patterns`, ...) and of `save_pretrained`.

        Returns:
            `CommitInfo`: with `oid`, the commit, and `pr_url`.
        """
        pushing = {name: kwargs.pop(name) for name in HubPush.ARGUMENTS if name in kwargs}
        with tempfile.TemporaryDirectory() as folder:
            return self._save(Path(folder), include_backbone, True, pushing | {"repo_id": repo_id}, kwargs)

    def _save(
        self, folder: Path, include_backbone: bool, push_to_hub: bool, pushing: dict[str, Any], kwargs: dict[str, Any]
    ) -> CommitInfo | None:
        include_code = kwargs.pop("include_code", False)
        self.id_encoder.need_whole_tables("be saved")
        if self.has_rows_elsewhere and "is_main_process" not in kwargs:
            raise ValueError(
                "The item representations are spread over processes, which must save them together: expected "
                "`save_pretrained(folder, is_main_process=process.is_main_process)` in every process."
            )
        if not kwargs.get("is_main_process", True):
            if self.has_rows_elsewhere and self._catalogue.items is not None:
                self._write_representations(None, "")
            return super().save_pretrained(folder, **kwargs)
        if is_sharded(self.language_model) and (include_backbone or self.config.backbone_fingerprint is None):
            raise ValueError(
                "The backbone is sharded over processes, and one of them saves: expected `include_backbone=False` "
                f"and a `config.backbone_fingerprint`, got {include_backbone} and {self.config.backbone_fingerprint}. "
                "Save slim, with `model.config.backbone_fingerprint = weights_fingerprint(model.language_model)` set "
                "in every process before; save the whole after loading the slim folder in one process."
            )
        if self.config.backbone_fingerprint is None:
            self.config.backbone_fingerprint = weights_fingerprint(self.language_model)
        encoder = self.config.id_encoder_config
        if (
            encoder.catalogue is None
            and self.processor is not None
            and len(self.processor.item_ids) == encoder.n_items
        ):
            encoder.catalogue = catalogue_digest(self.processor.item_ids)
        folder.mkdir(parents=True, exist_ok=True)
        repo_id, push = kwargs.pop("repo_id", folder.resolve().name), None
        if push_to_hub:
            tags = [*(self.model_tags or ()), *([t] if isinstance(t := pushing.get("tags") or (), str) else t)]
            push = HubPush(**{"repo_id": repo_id, **pushing, "tags": tags})
        before = file_states(folder) if push else {}
        (folder / REPRESENTATIONS_FILE).unlink(missing_ok=True)  # of other weights
        with code_beside(self, folder, include_code or self.is_remote_code()):
            super().save_pretrained(folder, **kwargs)
            if self.processor is not None:
                self.processor.save_pretrained(folder)
        ignore_in_uploads(folder)
        if self._catalogue is not None and self._catalogue.items is not None:
            self._write_representations(folder / REPRESENTATIONS_FILE, weights_digest(self.own_weights()))
        if include_backbone:
            self.language_model.save_pretrained(folder / BACKBONE_FOLDER)
        elif self.config.backbone_address is None:
            logger.warning(
                "The backbone has no address (`config.backbone_address`), so this folder can only be loaded with "
                "`language_model=` given. Load backbones with `rarec_hf.load_backbone`, or save with "
                "`include_backbone=True`."
            )
        elif push and self.config.backbone_address.startswith("path:"):
            logger.warning(
                f"The backbone's address is a folder of this machine ({self.config.backbone_address}), so elsewhere "
                f"{push.repo_id} can only be loaded with `language_model=` given. Push with `include_backbone=True`, "
                "or train on a backbone of the Hub."
            )
        if push is None:
            return None
        after = file_states(folder)
        # The `.gitignore` and a card may be there already
        written = [n for n, state in after.items() if before.get(n) != state or n in (".gitignore", "README.md")]
        card = None if self.card_writer is None else partial(self.card_writer, model=self)
        return push.upload(folder, written, OWNED_FILES, card)

    def _write_representations(self, file: Path | None, made_by: str) -> None:
        """The file of item representations; without a `file` this process's part in writing it."""
        if not self.has_rows_elsewhere:
            keys = {} if self._catalogue.keys is None else {"keys": self._catalogue.keys}
            content = {"items": self._catalogue.items.contiguous()} | keys
            # One entry: safetensors writes several in no fixed order, and the file would differ from run to run
            with replacing(file) as temporary:
                save_file(content, temporary, metadata={"made_by": f"{made_by} {weights_digest(content)}"})
            return
        parts = self.catalogue_in_parts(PartialState())
        write_in_parts(file, parts, {"made_by": f"{made_by} {weights_digest(parts)}"})

    def own_weights(self) -> dict[str, Tensor]:
        """The weights that `model.safetensors` holds: all but the backbone's."""
        return {name: t for name, t in self.state_dict().items() if not name.startswith(BACKBONE_PREFIX)}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        config: Any = None,
        language_model: PreTrainedModel | None = None,
        by_rows_of: PartialState | None = None,
        **kwargs: Any,
    ) -> Self:
        """
        Loads a folder or a Hub repository, slim or full.

        Args:
            pretrained_model_name_or_path (`str`): the folder or repository.
            language_model (`PreTrainedModel`, *optional*): the backbone, if it is loaded already; its fingerprint is
                checked all the same.
            by_rows_of (`PartialState`, *optional*): keep only this process's rows of the item representations, as
                after `index_catalogue(by_rows=True)`, and of the ID encoder's tables of items; every process of
                `accelerate launch` must load alike.
            kwargs: `cache_dir`, `token`, `revision`, `local_files_only` find this checkpoint's files, all of one
                commit whatever is pushed meanwhile (and, but for `revision`, the backbone's); everything else
                (`dtype`, `device_map`, `quantization_config`, `attn_implementation`, ...) goes to the backbone.

        Raises:
            ValueError: weights are missing, unexpected or of another shape, or the backbone is not the one the
                alignment was trained on.
            DamagedFileError: a file is truncated or holds something else; it is named.
            OSError: the folder, the repository, its revision or the backbone cannot be found, or the token is refused.
        """
        path = str(pretrained_model_name_or_path)
        check_address(path)
        hub = {name: kwargs.pop(name) for name in HUB_ARGUMENTS if name in kwargs}
        kwargs.pop("adapter_kwargs", None)  # `AutoModel`'s, with the revision of this repository, not the backbone's
        asked = {name: hub[name] for name in ("token", "local_files_only", "cache_dir") if name in hub}
        hub["revision"] = resolve_revision(path, hub.get("revision"), **asked)
        config = config or read_config(cls.config_class, path, hub)
        state = own_weights_of(path, hub)
        check_sizes(config, state, path)
        if language_model is None:
            language_model = own_backbone(path, config, hub, kwargs)
        if config.backbone_fingerprint is not None:
            check_fingerprint(config.backbone_fingerprint, language_model, config.backbone_address or path)
        if config.text_config is not None:
            check_config(config.text_config, language_model.config, config.backbone_address or path)
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
        if find_file(path, ITEMS_FILE, hub) is not None:
            trust = {"trust_remote_code": kwargs["trust_remote_code"]} if "trust_remote_code" in kwargs else {}
            model.processor = RARecProcessor.from_pretrained(path, **hub, **trust)
            check_item_table(path, model)
        rows = rows_held(config.id_encoder_config.n_items, by_rows_of) if several(by_rows_of) else None
        if (file := find_file(path, REPRESENTATIONS_FILE, hub)) is not None:
            if (made := representations_of(file, model, state, rows)) is not None:
                model._catalogue = model.catalogue_of(*made)
        if rows is not None:
            model.id_encoder.keep_rows(rows)
        return model.eval()


__all__ = ["OWNED_FILES", "REPRESENTATIONS_FILE", "CheckpointFolderMixin"]
