"""The files of a processor: its settings, its items and its tokenizer's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoTokenizer, PreTrainedConfig
from transformers.dynamic_module_utils import custom_object_save
from transformers.processing_utils import ProcessorMixin
from transformers.utils import cached_file
from transformers.utils.hub import resolve_revision

from .checkpoint_checks import check_address, read_table
from .whole_files import reading, replacing

if TYPE_CHECKING:
    from typing import Self

SETTINGS_FILE, ITEMS_FILE = "processor_config.json", "items.json"
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
LIMITS = ("max_history_items", "max_title_tokens", "max_text_tokens", "history_block")
PROCESSOR_SETTINGS = (*LIMITS, "item_titles")


class ProcessorFilesMixin(ProcessorMixin):
    """Saves and loads a [`RARecProcessor`]."""

    def save_pretrained(
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """
        Saves the tokenizer's files, `processor_config.json` and `items.json`; with `push_to_hub=True` uploads them
        too, to `repo_id` (default: the folder's name) and with the other arguments of `push_to_hub`.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder)
        settings = {"processor_class": type(self).__name__, "templates": self.templates.to_dict()}
        settings |= {name: getattr(self, name) for name in PROCESSOR_SETTINGS}
        if self._auto_class is not None:
            custom_object_save(self, folder, config=settings)  # copies the code and says so in `auto_map`
        table = {"item_ids": self.item_ids, "titles": self.titles, "attributes": self.attributes}
        for name, content in ((SETTINGS_FILE, settings), (ITEMS_FILE, table)):
            with replacing(folder / name) as temporary:
                temporary.write_text(
                    json.dumps(content, ensure_ascii=False, indent=1 if name == SETTINGS_FILE else None), "utf-8"
                )
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.resolve().name), **kwargs)
        return [str(folder / SETTINGS_FILE), str(folder / ITEMS_FILE)]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Self:
        """Loads what `save_pretrained` wrote, from a folder or a Hub repository."""
        path = str(pretrained_model_name_or_path)
        check_address(path)
        asked = {name: kwargs[name] for name in ("token", "local_files_only", "cache_dir") if name in kwargs}
        kwargs["revision"] = resolve_revision(path, kwargs.get("revision"), **asked)  # all files of one commit
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        found = {name: cached_file(path, name, **hub) for name in (SETTINGS_FILE, ITEMS_FILE)}
        for name in (SETTINGS_FILE, ITEMS_FILE):
            if found[name] is None:
                raise OSError(f"{path} has no file named {name}.")
        settings = read_table(found[SETTINGS_FILE])
        table = read_table(found[ITEMS_FILE], ("item_ids", "titles", "attributes"))
        # The tokenizer's own files say what it is: no look at `config.json`, which may name code that must be trusted
        with reading(f"A file of the tokenizer in {path}"):
            try:
                tokenizer = AutoTokenizer.from_pretrained(path, config=PreTrainedConfig(), **kwargs)
            except (OSError, json.JSONDecodeError, UnicodeDecodeError):
                raise
            except Exception as error:  # the readers of its files have no errors in common
                raise ValueError(f"The tokenizer's files of {path} cannot be read: {error}") from error
        fields = {name: settings[name] for name in ("templates", *PROCESSOR_SETTINGS) if name in settings}
        return cls(tokenizer, **table, **fields)


__all__ = ["HUB_ARGUMENTS", "ITEMS_FILE", "LIMITS", "PROCESSOR_SETTINGS", "SETTINGS_FILE", "ProcessorFilesMixin"]
