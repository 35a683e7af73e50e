"""Item representations on disk of which no process holds all: read row by row, written piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from .backbone_fingerprint import InParts, bytes_of
from .catalogue_rows import pieces
from .whole_files import reading, replacing

_NAMES = {torch.float32: "F32", torch.uint8: "U8"}  # as safetensors orders them: wide ones first


@contextmanager
def opened_in_parts(file: str | Path) -> Iterator[tuple[dict[str, InParts], dict[str, Any], dict[str, str]]]:
    """
    The tensors of a safetensors file, in the pieces of a catalogue of as many rows, slices to read other rows by, and
    the file's metadata.

    Raises:
        DamagedFileError: it is none, or was cut.
    """
    with reading(file), safe_open(file, "pt") as content:
        slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118
        dtypes = {name: name_of for name_of, name in _NAMES.items()}

        def parts_of(name: str) -> InParts:
            rows, shape = slices[name], tuple(slices[name].get_shape())
            dtype = dtypes.get(rows.get_dtype(), torch.float32)
            return InParts(shape, dtype, lambda: (rows[part] for part in pieces(shape[0])))

        yield {name: parts_of(name) for name in slices}, slices, content.metadata() or {}


def write_in_parts(file: Path | None, tensors: Mapping[str, InParts], metadata: Mapping[str, str]) -> None:
    """
    Writes what `safetensors.torch.save_file` writes of the whole tensors, to the byte.

    Args:
        file (`Path`, *optional*): None in a process that only gives its parts.

    Raises:
        NotWrittenError: the system refused it.
    """
    ordered = sorted(tensors.items(), key=lambda named: (list(_NAMES).index(named[1].dtype), named[0]))
    if file is None:
        for _, tensor in ordered:
            for _ in tensor.parts():
                pass
        return
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.dtype.itemsize * torch.Size(tensor.shape).numel()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    written = json.dumps(header, separators=(",", ":")).encode()
    written += b" " * (-len(written) % 8)
    with replacing(file) as temporary, temporary.open("wb") as target:
        target.write(len(written).to_bytes(8, "little") + written)
        for _, tensor in ordered:
            for part in tensor.parts():
                target.write(bytes_of(part).data)


def rows_of_file(slices: Mapping[str, Any], name: str, rows: range) -> Tensor | None:
    """Some rows of a tensor of an open file, in memory; None if there is none of that name."""
    return slices[name][rows.start : rows.stop].clone() if name in slices else None


__all__ = ["opened_in_parts", "rows_of_file", "write_in_parts"]
