"""The command line of the main job, read into its four dataclasses; `--config` gives options from a YAML file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from ..sharded_backbone import ShardingError
from .arguments import AlignmentArguments, DataArguments, EncoderArguments, RARecTrainingArguments
from .launched_sharding import take_over_sharding


def parse_arguments(
    argv: Sequence[str] | None = None, description: str | None = None
) -> tuple[DataArguments, EncoderArguments, AlignmentArguments, RARecTrainingArguments]:
    """
    Parses the command line; `--config FILE.yaml` may give any of the fields, and flags override it.

    Returns:
        `(DataArguments, EncoderArguments, AlignmentArguments, RARecTrainingArguments)`
    """
    launched = take_over_sharding()
    parser = _parser(description)
    *arguments, _ = parser.parse_args_into_dataclasses(_expanded(argv, parser))
    data, encoder, alignment, training = arguments[:4]
    if alignment.text_layers is None:
        alignment.text_layers = default_text_layers(encoder.encoder_type)
    if alignment.full_run:
        alignment.alignment_samples = 0
    if alignment.fp32:
        alignment.backbone_dtype = "float32"
    if launched != "none":
        alignment.shard_backbone = launched
    if alignment.shard_backbone != "none" and alignment.include_backbone:
        raise ShardingError(
            "--include_backbone needs the whole backbone in one process, and it is sharded. Leave it out, and save "
            "the folder of the run once more with `save_pretrained(..., include_backbone=True)` where it fits."
        )
    return data, encoder, alignment, training


def command_words(argv: Sequence[str] | None = None) -> list[str]:
    """The words that [`parse_arguments`] reads: those given, with what a `--config` file says in its place."""
    return _expanded(argv, _parser())


def _parser(description: str | None = None) -> HfArgumentParser:
    kinds: list[Any] = [DataArguments, EncoderArguments, AlignmentArguments, RARecTrainingArguments]
    parser = HfArgumentParser(
        kinds,
        description=description,
        usage="%(prog)s [--config FILE.yaml] [--option value ...]",
    )
    parser.add_argument(
        "--config", help="YAML file with any of the options below; options on the command line override it."
    )
    return parser


def _expanded(argv: Sequence[str] | None, parser: HfArgumentParser) -> list[str]:
    argv = list(sys.argv[1:] if argv is None else argv)
    known = {option for action in parser._actions for option in action.option_strings}
    for position, word in enumerate(argv):
        if word == "--config" or word.startswith("--config="):
            inline = "=" in word
            if not inline and position + 1 == len(argv):
                parser.error("--config needs a file")
            file = word.split("=", 1)[1] if inline else argv[position + 1]
            rest = argv[:position] + argv[position + (1 if inline else 2) :]
            return _yaml_options(file, known) + rest
    return argv


def default_text_layers(encoder_type: str) -> list[float]:
    """`--text_layers` where it is not given."""
    return [0.0, 0.67] if encoder_type == "text_sasrec" else [1.0]


def _yaml_options(file: str, known: set[str]) -> list[str]:
    if not Path(file).is_file():
        raise FileNotFoundError(f"--config: there is no file {file!r}.")
    content = yaml.safe_load(Path(file).read_text("utf-8")) or {}
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected `option: value` lines, got a {type(content).__name__}.")
    options = []
    for name, value in content.items():
        if f"--{name}" not in known:
            raise ValueError(f"{file}: unknown option {name!r}. `--help` lists them all.")
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        options += [f"--{name}", *(str(v).lower() if isinstance(v, bool) else str(v) for v in values)]
    return options


__all__ = ["command_words", "default_text_layers", "parse_arguments"]
