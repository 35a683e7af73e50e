"""The page that `python -m benchmarks.quality` makes of its results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from benchmarks.quality.rows import ROWS
from rarec_hf.chart_style import INK, new_figure, save_png, tidy
from rarec_hf.evaluation import Ranks, break_down, groupings_of, metric_per_user, plot_metrics
from rarec_hf.evaluation.breakdown import Grouping
from rarec_hf.evaluation.metrics import metric_label
from rarec_hf.whole_files import replacing

METRICS = ("hit_rate@10", "hit_rate@100", "ndcg@10")
TARGETS = ("hit_rate@100", "ndcg@10")
COMPARED = (  # what differs in one thing: row, the other, goal
    ("ours_no_readout", "layer0", "+5 %"),
    ("ours_no_readout", "random", "+5 %"),
    ("ours_no_readout", "minilm_both", ""),
    ("ours_no_readout", "tfidf_both", ""),
    ("ours_no_readout", "ours_shuffled", ""),
    ("ours_tfidf", "sasrec_tfidf", ""),
    ("ours_tfidf", "minilm_tfidf", ""),
    ("ours_all", "sasrec_itemknn_tfidf", ""),
    ("ours_all", "minilm_all", ""),
    ("ours_all", "tfidf_all", ""),
    ("ours_sasrec_all", "sasrec_itemknn_tfidf", ""),
    ("ours_sasrec_all", "minilm_sasrec_all", ""),
    ("ours_sasrec_all", "tfidf_sasrec_all", ""),
    ("rarec", "ours_no_readout", ""),
    ("rarec", "rarec_no_prompts", ""),
    ("rarec", "rarec_prefix", ""),
    ("rarec", "rarec_shared", ""),
    ("rarec", "rarec_no_context", ""),
    ("rarec", "rarec_no_alignment", ""),
    ("rarec", "rarec_random_samples", ""),
    ("rarec", "rarec_permuted", ""),
    ("rarec", "rarec_sasrec", ""),
    ("rarec", "translation", ""),
    ("rarec", "direct", ""),
    ("rarec", "paper", ""),
)
COLOURS = ("#8a8f98", "#b8433f", "#d9822b", "#2a6fb0", "#9a5fb5", "#3f9b62")
KINDS = {"id": "no text", "text": "no LLM", "llm": "LLM", "ours": "ours"}


def save_users(world, path: Path) -> None:
    """Which users were measured, among how many candidates, and the groups that their targets are in."""
    targets, interactions = world.test.targets, world.split.interactions
    history = [len(np.unique(world.test.histories[row])) for row in range(len(targets))]
    frame = pd.DataFrame({"user": targets.users, "candidates": interactions.n_items - np.array(history)})
    for grouping in groupings_of(world.split, targets):
        frame[grouping.title] = pd.Categorical.from_codes(grouping.group, list(grouping.labels))
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd")


def fraction_file(whole: Path, fraction: float) -> Path:
    """Where results on a fraction of the users lie beside those on all."""
    return whole.with_name(f"{whole.stem}.fraction-{fraction:g}.json")


@dataclass
class Table:
    """Records and ranks of one data set."""

    content: dict
    users: pd.DataFrame
    ranks: dict[tuple[str, int], Ranks]

    @classmethod
    def load(cls, path: Path) -> Table:
        users = pd.read_parquet(path.with_suffix(".users.parquet"))
        frame = pd.read_parquet(path.with_suffix(".ranks.parquet"))
        candidates = users["candidates"].to_numpy()
        ranks = {
            (str(key), int(seed)): Ranks(part["greater"].to_numpy(), part["ties"].to_numpy(), candidates)
            for (key, seed), part in frame.groupby(["row", "seed"], observed=True)
        }
        return cls(json.loads(path.read_text("utf-8")), users, ranks)

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(record["row"] for record in self.content["records"] if record["row"] in ROWS))

    def records(self, row: str) -> list[dict]:
        return [record for record in self.content["records"] if record["row"] == row]

    def seeds(self, row: str) -> list[Ranks]:
        return [self.ranks[row, record["seed"]] for record in self.records(row)]

    def per_user(self, row: str, metric: str) -> np.ndarray:
        """Means over seeds `(n_users,)`."""
        return metric_per_user(self.seeds(row), metric)

    def best(self, kinds: tuple[str, ...], metric: str) -> str:
        """The row of these kinds that is best on validation; of all rows where there is none of these. The first of a
        page without a row that was ranked on validation."""
        chosen = [row for row in self.rows if self.records(row)[0]["validation"]]
        rows = [row for row in chosen if ROWS[row].kind in kinds] or chosen
        if not rows:
            return self.rows[0]
        return max(rows, key=lambda row: np.mean([r["validation"][metric] for r in self.records(row)]))

    def difference(self, row: str, other: str, metric: str) -> tuple[float, float, float]:
        """Mean difference and its 95 % bootstrap interval over users, as shares of the other's mean."""
        base = self.per_user(other, metric)
        differences = self.per_user(row, metric) - base
        if not differences.any():
            return 0.0, 0.0, 0.0
        interval = bootstrap(
            (differences,), np.mean, n_resamples=2000, batch=100, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        return tuple(float(value / base.mean()) for value in (differences.mean(), interval.low, interval.high))


def share(difference: tuple[float, float, float]) -> str:
    mean, low, high = difference
    return f"{mean:+.1%} [{low:+.1%}, {high:+.1%}]"


def render(path: Path) -> None:
    """Writes the page and its chart beside the results at `path`."""
    table = Table.load(path)
    content = table.content
    lines = [
        f"# What each part is worth: {path.stem}",
        "",
        f"Made by `{content['command']}` (its head says how). {content['rule']} Ranked over the full catalogue of "
        f"{content['n_items']:,} items, seen items removed, ties at the middle rank; {content['users']:,} test users "
        f"drawn with seed {content['settings']['split_seed']}, which also made the split. Recipes and epochs are "
        "chosen on validation targets; then every model is trained again "
        f"on {content['settings']['last_training']}. Data fingerprint `{content['fingerprint']}`. Cells are means "
        "over seeds, with the smallest and largest where there are several. Every user's rank in every row is in "
        f"`{path.stem}.ranks.parquet`, the users in `{path.stem}.users.parquet`, recipes, weights and commits in "
        f"`{path.name}`.",
        "",
        *_main_table(table),
        "",
        f"![Charts]({path.stem}.png)",
        "",
        "## The promises",
        "",
        *_promises(table),
        "",
        *_curve(table, path),
        "## Who gains",
        "",
        *_breakdown(table),
    ]
    with replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text("\n".join(lines).rstrip() + "\n", "utf-8")
    drawn = [(ROWS[row].name, table.seeds(row)) for row in table.rows]
    plot_metrics(drawn, ROWS[table.best(("id",), "ndcg@10")].name, list(TARGETS), path.with_suffix(".png"))


def _main_table(table: Table) -> list[str]:
    header = [
        "Row",
        "Uses",
        "Seeds",
        *map(metric_label, METRICS),
        "Coverage@10",
        "Popularity bias@10",
        "Trained parameters",
    ]
    lines = [header + ["Seconds"], [":---", ":---", ":---"] + ["---:"] * (len(header) - 2)]
    for row in table.rows:
        records = table.records(row)
        cells = [
            ROWS[row].name,
            KINDS[ROWS[row].kind],
            ", ".join(str(r["seed"]) for r in records),
            *(_spread([r["metrics"][m] for r in records]) for m in METRICS),
        ]
        cells += [f"{np.mean([r[name] for r in records]):.3f}" for name in ("coverage@10", "popularity_bias@10")]
        seconds = np.mean([_seconds(record) for record in records])
        lines.append([*cells, f"{records[0]['parameters']:,}", f"{seconds:.0f}"])
    notes = [
        "",
        "Coverage: share of the catalogue in anybody's ten. Popularity bias: mean popularity rank of the ten items "
        "less that of the targets, as a share of the catalogue; 0 is as popular as what users choose. Seconds: of "
        f"training (reading the texts included) and ranking, on two shared cores{_elsewhere(table)}. Intervals are "
        "over users; they know nothing of the spread over seeds.",
        "",
        f"Commits: {_commits(table)}.",
    ]
    return [f"| {' | '.join(line)} |" for line in lines] + notes


def _commits(table: Table) -> str:
    found: dict[str, list[str]] = {}
    for record in table.content["records"]:
        if record["row"] in ROWS:
            found.setdefault(record["commit"], []).append(record["row"])
    return "; ".join(f"`{commit}` {', '.join(dict.fromkeys(rows))}" for commit, rows in found.items())


def _elsewhere(table: Table) -> str:
    """Which rows were not trained on a CPU; early records of CPUs do not name it."""
    found: dict[str, list[str]] = {}
    for row in table.rows:
        for device in sorted({record.get("device", "CPU") for record in table.records(row)}):
            found.setdefault(device, []).append(ROWS[row].name)
    return "".join(f"; on {name}: {', '.join(rows)}" for name, rows in found.items() if not name.startswith("CPU"))


def _seconds(record: dict) -> float:
    facts = record["facts"]
    made = max(record["seconds"]["making"], facts.get("seconds", 0) + facts.get("alignment_seconds", 0))
    return made + facts.get("text_seconds", 0) + record["seconds"]["ranking"]


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f}-{max(values):.4f})"


def _promises(table: Table) -> list[str]:
    """Paired differences that the recipe is judged by, then what each part of it is worth."""
    lines = [
        "Relative differences over the same users with their 95 % bootstrap intervals. The best of the others is "
        "chosen on validation, for each metric by itself.",
        "",
        "| row | against | " + " | ".join(metric_label(metric) for metric in TARGETS) + " | goal |",
        "| :--- | :--- | " + "---: | " * len(TARGETS) + ":--- |",
    ]

    def line(row: str, others: list[str], goal: str = "") -> None:
        if all(other in table.rows for other in (*others, row)):
            cells = [share(table.difference(row, other, m)) for other, m in zip(others, TARGETS, strict=True)]
            names = " / ".join(dict.fromkeys(ROWS[other].name for other in others))
            lines.append(f"| {ROWS[row].name} | {names} | {' | '.join(cells)} | {goal} |")

    for kinds, goal in ((("id",), "best without text: +25 %"), (("id", "text"), "best without an LLM: +5 %")):
        if any(ROWS[row].kind in kinds for row in table.rows):
            best = [table.best(kinds, metric) for metric in TARGETS]
            for row in ("rarec", "ours_no_readout", "ours_tfidf", "ours_all", "ours_sasrec_all"):
                line(row, best, goal)
    for row, other, goal in COMPARED:
        line(row, [other] * len(TARGETS), goal)
    return lines


def _curve(table: Table, path: Path) -> list[str]:
    """What more data is worth: the rows that were run on fractions of the users."""
    points = {1.0: table.content}
    for file in path.parent.glob(f"{path.stem}.fraction-*.json"):
        content = json.loads(file.read_text("utf-8"))
        points[content["settings"]["fraction"]] = content
    if len(points) == 1:
        return []
    rows = [row for row in ROWS if any(r["row"] == row for f in points if f < 1 for r in points[f]["records"])]
    fractions = sorted(points)

    def values(row: str, metric: str) -> list[float]:
        found = [[r["metrics"][metric] for r in points[f]["records"] if r["row"] == row] for f in fractions]
        return [float(np.mean(some)) if some else float("nan") for some in found]

    picture = path.with_name(f"{path.stem}.fractions.png")
    curves = {metric: {ROWS[row].name: values(row, metric) for row in rows} for metric in TARGETS}
    plot_curves(fractions, curves, picture)
    lines = ["## What more data is worth", ""]
    lines.append(
        "Everything trained, chosen and fitted on a seeded share of the users (epochs and patience stretched by up to "
        "ten, about as many steps); the same test users."
    )
    for metric in TARGETS:
        lines += ["", f"| {metric_label(metric)} on users | " + " | ".join(f"{f:.0%}" for f in fractions) + " |"]
        lines.append("| :--- | " + "---: | " * len(fractions))
        for name, found in curves[metric].items():
            lines.append(f"| {name} | " + " | ".join("" if np.isnan(v) else f"{v:.4f}" for v in found) + " |")
    return [*lines, "", f"![Curve]({picture.name})", ""]


def plot_curves(fractions: list[float], curves: dict[str, dict[str, list[float]]], path: Path) -> None:
    figure = new_figure(9.5, 4.2)
    axes = np.atleast_1d(figure.subplots(1, len(curves)))
    for axis, (metric, of_rows) in zip(axes, curves.items(), strict=True):
        for number, (name, values) in enumerate(of_rows.items()):
            axis.plot(fractions, values, marker="o", markersize=4, color=COLOURS[number % len(COLOURS)], label=name)
        axis.set_xscale("log")
        axis.set_xticks(fractions, [f"{f:.0%}" for f in fractions])
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.set_title(metric_label(metric), loc="left", fontsize=11)
        tidy(axis, grid="y")
    axes[0].legend(frameon=False, fontsize=8)
    figure.supxlabel("share of the users that anything is learned from", fontsize=8, color=INK)
    save_png(figure, path)


def _breakdown(table: Table) -> list[str]:
    users = table.users
    groupings = [
        Grouping(name, tuple(map(str, users[name].cat.categories)), users[name].cat.codes.to_numpy())
        for name in users.columns
        if isinstance(users[name].dtype, pd.CategoricalDtype)
    ]
    wanted = [
        table.best(("id",), "ndcg@10"),
        "tfidf",
        "sasrec_tfidf",
        "minilm_both",
        "layer0",
        "ours_no_readout",
        "rarec",
    ]
    wanted += ["ours_tfidf"]
    rows = [(ROWS[row].name, table.seeds(row)) for row in dict.fromkeys(wanted) if row in table.rows]
    lines = []
    for metric in TARGETS:
        lines += [break_down(rows, groupings, metric), ""]
    lines.append(
        "Popularity: items by their interactions in training; head, mid and tail hold a third of these each. Items "
        "unseen in training can be ranked where a score reads titles; without text they tie or keep random vectors."
    )
    return lines


__all__ = ["Table", "render", "save_users"]
