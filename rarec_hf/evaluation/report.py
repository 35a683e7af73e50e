"""The report of an evaluation: one table with intervals against a reference, as markdown, JSON, chart and ranks."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..whole_files import replacing
from .charts import plot_metrics
from .evaluator import paired_difference
from .metrics import DEFAULT_KS, metric_label, summarize
from .ranks import Ranks

SHOWN_KS = (10, 50, 100)
SHOWN_KS_SEVERAL = (20, 50)  # where users have several targets, as ComiRec and its successors report
HEADLINE = ("ndcg@10", "hit_rate@10")  # compared with the reference, and drawn
HEADLINE_SEVERAL = ("recall@50", "hit_rate@50")


@dataclass
class Row:
    """
    One method of the table.

    Args:
        name (`str`): Shown in the first column.
        ranks (`Ranks`): One row per target; the same targets in the same order in every row of a report.
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
        ks (`tuple[int]`, *optional*): Cut-offs of `metrics.json`; of these, 10, 50 and 100 are shown in the table, or
            20 and 50 where users have several targets.
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

    def __post_init__(self) -> None:
        rows, self.rows = self.rows, []
        for row in rows:
            self._append(row)

    def __repr__(self) -> str:
        return f"EvaluationReport({[row.name for row in self.rows]}, reference={self.reference!r})"

    def add(self, name: str, ranks: Ranks, seconds: float | None = None, note: str = "") -> Row:
        """Append one method and return its row."""
        return self._append(Row(name, ranks, seconds, note))

    def _append(self, row: Row) -> Row:
        if any(row.name == other.name for other in self.rows):
            raise ValueError(f"The report already has a row {row.name!r}; give each method its own name.")
        if row.ranks.n_users < 2:
            raise ValueError(f"Row {row.name!r} has {row.ranks.n_users} users; an interval needs at least 2.")
        first = self.rows[0].ranks if self.rows else row.ranks
        same_users = np.array_equal(row.ranks.user_of_row(), first.user_of_row())
        if not same_users or not np.array_equal(row.ranks.candidates, first.candidates):
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

    def _headline(self) -> tuple[str, ...]:
        first = self.rows[0].ranks
        return HEADLINE if first.n_users == len(first) else HEADLINE_SEVERAL

    def to_dict(self) -> dict:
        """Everything but the raw ranks: all metrics at all `ks`, JSON-serialisable (an undefined number is `None`)."""
        reference = self._reference_ranks()
        candidates = reference.candidates
        methods = []
        for row in self.rows:
            differences = {
                metric: _finite(vars(paired_difference(row.ranks, reference, metric)))
                for metric in self._headline()
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
            "headline": list(self._headline()),
            "users": reference.n_users,
            "targets": len(reference),
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
        return report_markdown(self.to_dict())

    def save(self, folder: str | os.PathLike) -> Path:
        """
        Write `metrics.json`, `metrics.md` (the table, then every metric at all `ks`), `metrics.png` and
        `ranks.parquet` (user, method, greater, ties, candidates) into `folder`, each whole or not at all, and
        return the folder.
        """
        import pandas as pd

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = self.to_dict()
        with replacing(folder / "metrics.json") as path:
            path.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")
        with replacing(folder / "metrics.md") as path:
            path.write_text(report_markdown(content) + "\n" + _all_metrics(content), "utf-8")
        drawn = [(row.name, row.ranks) for row in self.rows]
        plot_metrics(drawn, self.reference, self._headline(), folder / "metrics.png")
        columns = []
        for row in self.rows:
            ranks = row.ranks
            users = np.arange(len(ranks)) if ranks.users is None else ranks.users
            counted = {name: getattr(ranks, name) for name in ("greater", "ties", "candidates")}
            columns.append({"user": users, "method": row.name, **counted})
        with replacing(folder / "ranks.parquet") as path:
            pd.concat([pd.DataFrame(c) for c in columns], ignore_index=True).to_parquet(path, index=False)
        return folder


def report_markdown(content: dict) -> str:
    """The page of [`EvaluationReport.to_markdown`], of what `to_dict` gave or `metrics.json` holds."""
    several = content["targets"] > content["users"]
    shown = [k for k in (SHOWN_KS_SEVERAL if several else SHOWN_KS) if k in content["ks"]] or content["ks"]
    metrics = [f"{family}@{k}" for family in ["recall"] * several + ["hit_rate"] for k in shown]
    metrics += [f"ndcg@{k}" for k in shown if k != 50 or len(shown) < 3] + ["mrr"]
    methods = content["methods"]
    timed = any(method["seconds"] is not None for method in methods)
    noted = any(method["note"] for method in methods)
    header = ["Method", *map(metric_label, metrics), *(f"Δ {metric_label(m)} [95 %]" for m in content["headline"])]
    lines = [header + ["Seconds"] * timed + ["Note"] * noted]
    for method in methods:
        cells = [method["name"], *(f"{method['metrics'][m]:.4f}" for m in metrics)]
        for metric in content["headline"]:
            d = method["difference"].get(metric)
            cells.append("reference" if d is None else f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]")
        cells += ["" if method["seconds"] is None else f"{method['seconds']:.1f}"] * timed + [method["note"]] * noted
        lines.append(cells)
    left = {0, len(header) + timed}  # method and note
    lines.insert(1, [":---" if column in left else "---:" for column in range(len(lines[0]))])
    table = [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]
    low, mean, high = (content["candidates"][key] for key in ("min", "mean", "max"))
    each = f"{content['targets']:,} targets" if several else "one target each"
    spread = f"{low:,}" if low == high else f"{low:,} to {high:,}, mean {mean:,.1f}"
    notes = [
        f"Rule: {content['rule']}",
        f"Ranked: {content['users']:,} users, {each}; candidates per user: {spread}.",
        f"Δ: mean difference to {content['reference']} over the same users, with its paired 95 % bootstrap interval.",
    ]
    if content["data"]:
        notes.append("Data: " + ", ".join(f"{key} {value}" for key, value in content["data"].items()))
    return "\n".join(table) + "\n\n" + "\n".join(f"- {' '.join(note.split())}" for note in notes) + "\n"


def _all_metrics(content: dict) -> str:
    """Every metric at every cut-off, one metric a row."""
    names = list(content["methods"][0]["metrics"])
    lines = [["All metrics", *(method["name"] for method in content["methods"])]]
    lines.append([":---", *["---:"] * len(content["methods"])])
    for name in names:
        digits = 1 if name == "mean_rank" else 4
        values = (f"{method['metrics'][name]:.{digits}f}" for method in content["methods"])
        lines.append([metric_label(name).replace("_", " "), *values])
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").split())


def _finite(numbers: dict[str, float]) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in numbers.items()}


__all__ = ["EvaluationReport", "Row", "report_markdown"]
