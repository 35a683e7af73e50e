"""Whether two runs left the same: weights, ranks and metrics, to the bit; what took how long is left out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..whole_files import DamagedFileError

TIMES = ("seconds", "minutes", "peak_anonymous_memory_gib")  # of `metrics.json`
_NOT_RESULTS = (*TIMES, "backbone")  # its address, which `RunRecord.differences` tells
METRICS_FILE, RANKS_FILE = "metrics.json", "ranks.parquet"


@dataclass(frozen=True)
class Compared:
    """
    Args:
        part (`str`): the file.
        of (`str`): how much there was to compare.
        differs (`str`): what differs and by how much; empty if nothing does.
    """

    part: str
    of: str
    differs: str = ""

    @property
    def equal(self) -> bool:
        return not self.differs


def compare_runs(folder: Path, other: Path) -> list[Compared]:
    """
    Compares what two runs left, a line a file: every safetensors file, the ranks of every user, the metrics.

    Raises:
        DamagedFileError: a file cannot be read.
    """
    names = {path.relative_to(root).as_posix() for root in (folder, other) for path in root.rglob("*.safetensors")}
    lines = [_compared(name, folder, other, _weights) for name in sorted(names)]
    lines.append(_compared(RANKS_FILE, folder, other, _ranks))
    lines.append(_compared(METRICS_FILE, folder, other, _metrics))
    return lines


def comparison_table(lines: Sequence[Compared]) -> str:
    """A markdown table, and how many of the parts are equal."""
    rows = [f"| {line.part} | {line.of} | {line.differs or 'equal'} |" for line in lines]
    n_equal = sum(line.equal for line in lines)
    told = f"{n_equal} of {len(lines)} parts are equal to the bit, times left out."
    return "\n".join(["| Part | Compared | Result |", "| :--- | :--- | :--- |", *rows, "", told])


def _compared(name: str, folder: Path, other: Path, compare: Any) -> Compared:
    there = [(root / name).is_file() for root in (folder, other)]
    if not all(there):
        return Compared(name, "the file", f"only in {folder if there[0] else other}" if any(there) else "in neither")
    try:
        return compare(name, folder / name, other / name)
    except (OSError, ValueError, SafetensorError) as problem:
        raise DamagedFileError(f"{name} of {folder} or of {other} cannot be read ({problem}).") from problem


def _weights(name: str, one: Path, two: Path) -> Compared:
    mine, its = load_file(one), load_file(two)
    of = f"{len(mine)} tensors, {sum(t.numel() for t in mine.values()):,} numbers"
    if odd := sorted(mine.keys() ^ its.keys()):
        return Compared(name, of, f"{len(odd)} tensors in one of them only, such as {odd[0]}")
    differ = [n for n in mine if not _same(mine[n], its[n])]
    if not differ:
        return Compared(name, of)
    reshaped = [n for n in differ if mine[n].shape != its[n].shape]
    if reshaped:
        n = reshaped[0]
        return Compared(name, of, f"{n} has the shape {tuple(mine[n].shape)} then, {tuple(its[n].shape)} now")
    farthest = {n: _farthest(mine[n], its[n]) for n in differ}
    worst = max(farthest, key=lambda n: farthest[n])
    return Compared(name, of, f"{len(differ)} tensors differ, by {farthest[worst]:.3g} at most ({worst})")


def _same(one: torch.Tensor, two: torch.Tensor) -> bool:
    """To the bit: NaN equals itself, and 0 is not -0."""
    if one.dtype != two.dtype or one.shape != two.shape:
        return False
    return torch.equal(*(t.contiguous().flatten().view(torch.uint8) for t in (one, two)))


def _farthest(one: torch.Tensor, two: torch.Tensor) -> float:
    distance = (one.double() - two.double()).abs()
    return math.inf if bool(distance.isnan().any()) else float(distance.max())


def _ranks(name: str, one: Path, two: Path) -> Compared:
    mine, its = pd.read_parquet(one), pd.read_parquet(two)
    of = f"{len(mine):,} ranks in {mine.method.nunique()} rows of the table"
    if len(mine) != len(its) or not mine[["user", "method"]].equals(its[["user", "method"]]):
        return Compared(name, of, "of other users or methods")
    moved = (mine.greater + mine.ties / 2 - its.greater - its.ties / 2).abs()
    differ = (mine[["greater", "ties", "candidates"]] != its[["greater", "ties", "candidates"]]).any(axis=1)
    if not differ.any():
        return Compared(name, of)
    where = mine.method[differ].value_counts()
    told = ", ".join(f"{method} {count}" for method, count in where.items())
    return Compared(name, of, f"{differ.sum():,} ranks differ, by {moved.max():g} places at most ({told})")


def _metrics(name: str, one: Path, two: Path) -> Compared:
    mine, its = (dict(_values(json.loads(path.read_text("utf-8")))) for path in (one, two))
    of = f"{len(mine):,} values"
    differ = [n for n in dict.fromkeys([*mine, *its]) if mine.get(n, "none") != its.get(n, "none")]
    if not differ:
        return Compared(name, of)
    numbers = {n: abs(mine[n] - its[n]) for n in differ if _is_number(mine.get(n)) and _is_number(its.get(n))}
    worst = max(numbers, key=lambda n: numbers[n]) if numbers else differ[0]
    told = f"by {numbers[worst]:.3g} at most ({worst})" if numbers else f"such as {worst}"
    return Compared(name, of, f"{len(differ)} values differ, {told}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _values(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its path; one that has a name, such as a method, is found by it."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name not in _NOT_RESULTS:
                yield from _values(value, f"{path}.{name}" if path else name)
    elif isinstance(content, list):
        for place, value in enumerate(content):
            name = value.get("name", place) if isinstance(value, dict) else place
            yield from _values(value, f"{path}.{name}")
    else:
        yield path, content


__all__ = ["Compared", "compare_runs", "comparison_table"]
