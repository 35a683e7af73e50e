"""The report of an evaluation: one table with intervals against a reference, as markdown, JSON, chart and ranks."""

from __future__ import annotations

import json
import math
import os
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .evaluator import paired_difference
from .metrics import DEFAULT_KS, Ranks, metric_per_user, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_KS = (10, 50, 100)
HEADLINE = ("ndcg@10", "hit_rate@10")  # compared with the reference, and drawn
LABELS = {"hit_rate": "HR", "ndcg": "NDCG", "mrr": "MRR"}
BLUE, ORANGE, GREY, INK = "#2f6db3", "#d9822b", "#8c96a3", "#30363d"
PARTS = ("#d9822b", "#3f9b62", "#9a5fb5", "#b8433f", "#6f7b87")  # colours of the loss's parts


@dataclass
class Row:
    """
    One method of the table.

    Args:
        name (`str`): Shown in the first column.
        ranks (`Ranks`): One row per user; the same users in the same order in every row of a report.
        seconds (`float`, *optional*): Time the ranking took.
        note (`str`, *optional*): Anything a reader must know about this row.
    """

    name: str
    ranks: Ranks
    seconds: float | None = None
    note: str = ""


@dataclass
class EvaluationReport:
    """
    Several methods over the same users and candidates, each with a paired 95 % interval against one of them.

    Args:
        rule (`str`): How the data was split and sorted, which items were left out of the ranking, how ties count.
        rows (`list[Row]`): The methods, in the order shown.
        reference (`str`): Name of the row that differences are taken against; may be added last.
        ks (`tuple[int]`, *optional*): Cut-offs of `metrics.json`; of these, 10, 50 and 100 are shown in the table.
        data (`dict`, *optional*): Facts about the data, shown under the table; JSON-serialisable values.

    Raises:
        ValueError: Two rows with one name, fewer than two users, rows of different users, or (when written) no
            reference row.
    """

    rule: str
    rows: list[Row] = field(default_factory=list)
    reference: str = "ID encoder"
    ks: Sequence[int] = DEFAULT_KS
    data: dict = field(default_factory=dict)

    def __post_init__(self):
        rows, self.rows = self.rows, []
        for row in rows:
            self._append(row)

    def add(self, name: str, ranks: Ranks, seconds: float | None = None, note: str = "") -> Row:
        """Append one method and return its row."""
        return self._append(Row(name, ranks, seconds, note))

    def _append(self, row: Row) -> Row:
        if any(row.name == other.name for other in self.rows):
            raise ValueError(f"The report already has a row {row.name!r}; give each method its own name.")
        if len(row.ranks) < 2:
            raise ValueError(f"Row {row.name!r} has {len(row.ranks)} users; an interval needs at least 2.")
        if self.rows and not np.array_equal(row.ranks.candidates, self.rows[0].ranks.candidates):
            raise ValueError(
                f"Row {row.name!r} was not ranked over the users and candidates of {self.rows[0].name!r}; rank all "
                "methods with the same users, order, catalogue and seen filter."
            )
        self.rows.append(row)
        return row

    def _reference_ranks(self) -> Ranks:
        for row in self.rows:
            if row.name == self.reference:
                return row.ranks
        names = ", ".join(repr(row.name) for row in self.rows) or "none"
        raise ValueError(f"No row is named {self.reference!r}, the reference of the differences; rows: {names}.")

    def to_dict(self) -> dict:
        """Everything but the raw ranks: all metrics at all `ks`, JSON-serialisable (an undefined number is `None`)."""
        reference = self._reference_ranks()
        candidates = reference.candidates
        methods = []
        for row in self.rows:
            differences = {
                metric: _finite(vars(paired_difference(row.ranks, reference, metric)))
                for metric in HEADLINE
                if row.name != self.reference
            }
            methods.append(
                {
                    "name": row.name,
                    "metrics": summarize(row.ranks, self.ks),
                    "difference": differences,
                    "seconds": row.seconds,
                    "note": row.note,
                }
            )
        return {
            "rule": self.rule,
            "reference": self.reference,
            "confidence": 0.95,
            "users": len(reference),
            "candidates": {
                "min": int(candidates.min()),
                "mean": float(candidates.mean()),
                "max": int(candidates.max()),
            },
            "ks": list(self.ks),
            "data": dict(self.data),
            "methods": methods,
        }

    def to_markdown(self) -> str:
        """The table, and under it the rule, the users and candidates, and what the differences are."""
        return _markdown(self.to_dict())

    def save(self, folder: str | os.PathLike) -> Path:
        """
        Write `metrics.json`, `metrics.md`, `metrics.png` and `ranks.parquet` (user row, method, greater, ties,
        candidates) into `folder`, each whole or not at all, and return the folder.
        """
        import pandas as pd

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = self.to_dict()
        with _replacing(folder / "metrics.json") as path:
            path.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")
        with _replacing(folder / "metrics.md") as path:
            path.write_text(_markdown(content), "utf-8")
        with _replacing(folder / "metrics.png") as path:
            self._chart().savefig(path, dpi=150, format="png")
        columns = [{"user": np.arange(len(r.ranks)), "method": r.name, **vars(r.ranks)} for r in self.rows]
        with _replacing(folder / "ranks.parquet") as path:
            pd.concat([pd.DataFrame(c) for c in columns], ignore_index=True).to_parquet(path, index=False)
        return folder

    def _chart(self) -> Figure:
        figure = _figure(8.5, 1.5 + 0.42 * len(self.rows))
        axes = figure.subplots(1, len(HEADLINE), sharey=True)
        height = np.arange(len(self.rows))
        colours = [GREY if row.name == self.reference else BLUE for row in self.rows]
        for axis, metric in zip(axes, HEADLINE, strict=True):
            values = [metric_per_user(row.ranks, metric) for row in self.rows]
            means = np.array([v.mean() for v in values])
            # Half-width of the normal 95 % interval of each mean; a mean of shares cannot be below 0.
            half = np.array([1.96 * v.std(ddof=1) / math.sqrt(len(v)) for v in values])
            axis.barh(height, means, height=0.62, color=colours)
            axis.errorbar(
                means, height, xerr=[np.minimum(half, means), half], fmt="none", ecolor=INK, elinewidth=1, capsize=3
            )
            top = float((means + half).max()) or 1.0
            for y, mean, reach in zip(height, means, means + half, strict=True):
                axis.text(reach + 0.02 * top, y, f"{mean:.4f}", va="center", fontsize=8, color=INK)
            axis.set_xlim(0, 1.28 * top)  # room for the numbers
            axis.locator_params(axis="x", nbins=5)
            axis.set_title(_label(metric), loc="left", fontsize=11)
            _tidy(axis, grid="x")
        axes[0].set_yticks(height, [textwrap.fill(row.name, 28) for row in self.rows], parse_math=False)
        axes[0].invert_yaxis()
        users = len(self._reference_ranks())
        figure.supxlabel(
            f"mean over {users:,} users with its 95 % interval; grey: {self.reference} (reference)",
            parse_math=False,
            fontsize=8,
            color=INK,
        )
        return figure


def plot_learning_curve(history: list[dict], path: str | os.PathLike, metric: str = "eval_ndcg@10") -> Path:
    """
    Draw what a Trainer logged over its steps: the training loss with its parts, and a validation metric.

    Args:
        history (`list[dict]`): `trainer.state.log_history`. The loss is the key `loss`; its parts are the keys that
            begin with `loss_` or end with `_loss` (`train_loss` and `eval_loss` aside).
        path (`str`): PNG to write, whole or not at all.
        metric (`str`, *optional*, defaults to `"eval_ndcg@10"`): The validation metric's key.

    Raises:
        ValueError: Neither a training loss nor the metric was logged.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in history:
        for key, value in entry.items():
            part = (key.startswith("loss_") or key.endswith("_loss")) and key not in ("train_loss", "eval_loss")
            if (key in ("loss", metric) or part) and "step" in entry and math.isfinite(value):
                curves.setdefault(key, []).append((entry["step"], value))
    measured = curves.pop(metric, None)
    if not curves and not measured:
        raise ValueError(f"Nothing to draw: no entry of `history` holds both `step` and `loss` or {metric!r}.")

    figure = _figure(7, 3.0 * (bool(curves) + bool(measured)) + 0.4)
    axes = list(np.atleast_1d(figure.subplots(bool(curves) + bool(measured), 1, sharex=True)))
    axes[-1].set_xlabel("optimizer step", fontsize=9, color=INK)
    if measured:
        axis, (steps, values) = axes[-1], np.array(measured).T
        best = int(values.argmax())
        axis.plot(steps, values, color=ORANGE, marker="o", markersize=3.5, linewidth=1.6)
        axis.plot(steps[best], values[best], "o", color=ORANGE, markersize=8, markerfacecolor="white")
        axis.set_title(
            f"Validation {_label(metric.removeprefix('eval_'))}: best {values[best]:.4f} at step {steps[best]:,.0f}",
            loc="left",
            fontsize=11,
        )
        axis.set_ylim(min(0, values.min() * 1.1), values.max() * 1.15 or 1)
        _tidy(axis, grid="y")
    if curves:
        axis, colours = axes[0], cycle(PARTS)
        for key in sorted(curves, key=lambda key: (key != "loss", key)):
            steps, values = np.array(curves[key]).T
            style = {"color": BLUE, "linewidth": 1.8} if key == "loss" else {"color": next(colours), "linewidth": 1.1}
            marker = "o" if len(steps) < 3 else None  # a line of one point is invisible
            label = "total" if key == "loss" else key.removeprefix("loss_").removesuffix("_loss").replace("_", " ")
            axis.plot(steps, values, label=label, marker=marker, **style)
        axis.set_title("Training loss", loc="left", fontsize=11)
        drawn = np.concatenate([np.array(points)[:, 1] for points in curves.values()])
        axis.set_ylim(min(0, drawn.min() * 1.1), drawn.max() * 1.1 or 1)
        if len(curves) > 1:
            axis.legend(frameon=False, fontsize=8)
        _tidy(axis, grid="y")
    with _replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return Path(path)


def _markdown(content: dict) -> str:
    shown = [k for k in SHOWN_KS if k in content["ks"]] or content["ks"]
    metrics = [f"hit_rate@{k}" for k in shown]
    metrics += [f"ndcg@{k}" for k in shown if k != 50 or len(shown) < 3] + ["mrr"]
    methods = content["methods"]
    timed = any(method["seconds"] is not None for method in methods)
    noted = any(method["note"] for method in methods)
    header = ["Method", *map(_label, metrics), *(f"Δ {_label(m)} [95 %]" for m in HEADLINE)]
    lines = [header + ["Seconds"] * timed + ["Note"] * noted]
    for method in methods:
        cells = [method["name"], *(f"{method['metrics'][m]:.4f}" for m in metrics)]
        for metric in HEADLINE:
            d = method["difference"].get(metric)
            cells.append("reference" if d is None else f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]")
        cells += ["" if method["seconds"] is None else f"{method['seconds']:.1f}"] * timed + [method["note"]] * noted
        lines.append(cells)
    left = {0, len(header) + timed}  # method and note
    lines.insert(1, [":---" if column in left else "---:" for column in range(len(lines[0]))])
    table = [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]
    low, mean, high = (content["candidates"][key] for key in ("min", "mean", "max"))
    spread = f"{low:,}" if low == high else f"{low:,} to {high:,}, mean {mean:,.1f}"
    notes = [
        f"Rule: {content['rule']}",
        f"Ranked: {content['users']:,} users, one target each; candidates per user: {spread}.",
        f"Δ: mean difference to {content['reference']} over the same users, with its paired 95 % bootstrap interval.",
    ]
    if content["data"]:
        notes.append("Data: " + ", ".join(f"{key} {value}" for key, value in content["data"].items()))
    return "\n".join(table) + "\n\n" + "\n".join(f"- {' '.join(note.split())}" for note in notes) + "\n"


def _cell(text: str) -> str:
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").split())


def _label(metric: str) -> str:
    family, at, k = metric.partition("@")
    return LABELS.get(family, family) + at + k


def _finite(numbers: dict[str, float]) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in numbers.items()}


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # not pyplot: it would choose a backend for the whole process

    return Figure(figsize=(width, height), layout="constrained")


def _tidy(axis, grid: str) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9, colors=INK)
    axis.grid(axis=grid, color="#e3e6ea", linewidth=0.8)
    axis.set_axisbelow(True)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling that takes the place of `path` only when the block ends without an error."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


__all__ = ["EvaluationReport", "Row", "plot_learning_curve"]
