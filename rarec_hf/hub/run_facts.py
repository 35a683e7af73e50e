"""What a folder tells about its model and the run that left it; what it does not tell stays None or empty."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from ..checkpoint_folder import REPRESENTATIONS_FILE
from ..checkpoint_reading import BACKBONE_FOLDER
from ..configuration_rarec import RARecConfig
from ..modeling_rarec import RARecForSequentialRecommendation
from ..processor_files import ITEMS_FILE, SETTINGS_FILE
from ..training.arguments import AlignmentArguments, DataArguments, EncoderArguments, RARecTrainingArguments
from ..training.command_line import default_text_layers
from ..training.run_folder import ENVIRONMENT_FILE
from ..training.table import ROW_OF_SCORE

_ENCODER = "id_encoder."
# Where a run's pictures lie, and what they show
PICTURES = {
    "metrics.png": "Each method, with 95 % intervals",
    "learning_curve.png": "Learning curve of the alignment",
    "learning_curve_id_encoder.png": "Learning curve of the ID encoder",
    "selection.png": "Alignment samples, available and drawn",
    "data.png": "The data",
    "alignment_map/*.png": "Items and users as the model represents them, after the last epoch",
}
# Said elsewhere in the card, or of no consequence for what was trained
_NOT_SETTINGS = {"license", "language", "data_license", "overwrite_output_dir", "dry_run"}


@dataclass(frozen=True)
class RunFacts:
    """
    Attributes:
        config ([`RARecConfig`]): the model's.
        item_ids, titles (`list[str]`): the catalogue; empty without an item table.
        limits (`dict[str, int]`): of the prompts, such as `max_history_items`.
        is_indexed (`bool`): the catalogue's representations are there, so that the model recommends at once.
        has_backbone (`bool`): the backbone's weights are there too.
        parameters (`dict[str, int]`): values in the weights file, of the ID encoder and of all else.
        metrics (`dict`, *optional*): `metrics.json`.
        verdict, data_report (`str`, *optional*): `verdict.md` and `data.md`.
        arguments, environment (`dict`): `arguments.yaml` and `environment.json`.
        pictures (`dict[str, str]`): paths in the folder, with what they show.
    """

    config: RARecConfig
    item_ids: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    is_indexed: bool = False
    has_backbone: bool = False
    parameters: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] | None = None
    verdict: str | None = None
    data_report: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, model: RARecForSequentialRecommendation | None = None) -> RunFacts:
        """
        Reads a folder; no file but `config.json` need be there.

        Args:
            model ([`RARecForSequentialRecommendation`], *optional*): what will be saved there; then not even that.

        Raises:
            FileNotFoundError: the folder holds no model and none is given.
            ValueError: a file that is there cannot be read.
        """
        run = {
            "metrics": _json(folder / "metrics.json"),
            "verdict": _text(folder / "verdict.md"),
            "data_report": _text(folder / "data.md"),
            "arguments": _yaml(folder / "arguments.yaml") or {},
            "environment": _json(folder / ENVIRONMENT_FILE) or {},
            "has_backbone": (folder / BACKBONE_FOLDER / CONFIG_NAME).is_file(),
            "pictures": _pictures(folder),
        }
        if model is not None:
            return cls(config=model.config, **_of_model(model), **run)
        if not (folder / CONFIG_NAME).is_file():
            raise FileNotFoundError(
                f"{folder} holds no {CONFIG_NAME}. Expected the folder that a run or `save_pretrained` left; save the "
                "model first, then write its card."
            )
        if (kind := _json(folder / CONFIG_NAME).get("model_type")) != RARecConfig.model_type:
            raise ValueError(f"{folder} holds a model of type {kind!r}, expected {RARecConfig.model_type!r}.")
        items, limits = _json(folder / ITEMS_FILE) or {}, _json(folder / SETTINGS_FILE) or {}
        return cls(
            config=RARecConfig.from_pretrained(folder, local_files_only=True),
            item_ids=items.get("item_ids", []),
            titles=items.get("titles", []),
            limits=limits,
            is_indexed=(folder / REPRESENTATIONS_FILE).is_file(),
            parameters=_parameters(folder / SAFE_WEIGHTS_NAME),
            **run,
        )

    @property
    def run_data(self) -> dict[str, Any]:
        """What the run wrote beside its metrics: seed, fingerprint, counts."""
        return (self.metrics or {}).get("data") or {}

    @property
    def ours(self) -> dict[str, Any] | None:
        """The row of the metrics that is this folder's model."""
        rows = (self.metrics or {}).get("methods") or []
        return next((row for row in rows if row["name"] == ROW_OF_SCORE[self.config.score]), None)

    @property
    def settings(self) -> dict[str, Any]:
        """The run's options that are not the defaults."""
        defaults: dict[str, Any] = {}
        for group in (DataArguments, EncoderArguments, AlignmentArguments, RARecTrainingArguments):
            defaults |= {one.name: one.default for one in fields(group)}
        defaults["text_layers"] = default_text_layers(self.arguments.get("encoder_type", defaults["encoder_type"]))
        known = {name: value for name, value in self.arguments.items() if name not in _NOT_SETTINGS}
        return {name: value for name, value in known.items() if value != defaults.get(name)}

    @property
    def data_name(self) -> str | None:
        """What the data report says the interactions came from."""
        found = re.search(r"^From `(.+?)`(?: and `.*`)?\.$", self.data_report or "", re.MULTILINE)
        return found[1] if found else None


def _of_model(model: RARecForSequentialRecommendation) -> dict[str, Any]:
    processor, weights = model.processor, model.own_weights()
    inside = sum(tensor.numel() for name, tensor in weights.items() if name.startswith(_ENCODER))
    facts: dict[str, Any] = {
        "is_indexed": model._catalogue is not None and model._catalogue.items is not None,
        "parameters": {"id_encoder": inside, "other": sum(t.numel() for t in weights.values()) - inside},
    }
    if processor is not None:
        names = ("max_history_items", "max_title_tokens", "max_text_tokens")
        facts |= {"item_ids": processor.item_ids, "titles": processor.titles}
        facts["limits"] = {name: getattr(processor, name) for name in names}
    return facts


def _parameters(file: Path) -> dict[str, int]:
    counts = {"id_encoder": 0, "other": 0}
    if not file.is_file():
        return {}
    with safe_open(file, "pt") as content:
        for name in content.keys():
            size = 1
            for length in content.get_slice(name).get_shape():
                size *= length
            counts["id_encoder" if name.startswith(_ENCODER) else "other"] += size
    return counts


def _pictures(folder: Path) -> dict[str, str]:
    found = {}
    for pattern, shows in PICTURES.items():
        if files := sorted(folder.glob(pattern)):
            found[files[-1].relative_to(folder).as_posix()] = shows
    return found


def _text(file: Path) -> str | None:
    return file.read_text("utf-8") if file.is_file() else None


def _json(file: Path) -> Any:
    return _parsed(file, json.loads)


def _yaml(file: Path) -> Any:
    return _parsed(file, yaml.safe_load)


def _parsed(file: Path, parse: Callable[[str], Any]) -> Any:
    if not file.is_file():
        return None
    try:
        content = parse(file.read_text("utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read ({error}). Delete it, or let the run write it anew.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected named values, got a {type(content).__name__}. Delete it, or mend it.")
    return content


__all__ = ["PICTURES", "RunFacts"]
