"""The page that `benchmarks/id_encoders.py` makes of its results."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rarec_hf.whole_files import replacing

NAMES = {
    "popularity": "Popularity",
    "itemknn": "ItemKNN",
    "ease": "EASE",
    "sasrec": "**SASRec**",
    "comirec": "**ComiRec-SA**",
    "comirec_dr": "**ComiRec-DR**",
    "gru4rec": "**GRU4Rec**",
    "bert4rec": "**BERT4Rec**",
    "comirec_torch_rechub": "ComiRec-SA of torch-rechub 0.9",
    "sasrec_rectools": "SASRec of RecTools 0.19",
}
LEAVE_ONE_OUT = ("hit_rate@10", "ndcg@10", "hit_rate@100", "ndcg@100")
BY_USERS = ("recall@20", "hit_rate@20", "recall@50", "hit_rate@50")
LABELS = {"hit_rate": "HR", "ndcg": "NDCG", "recall": "Recall"}


def render(records: list[dict], path: Path) -> None:
    """Writes the page: a table for each data set and stage, means over seeds with the smallest and largest."""
    lines = [
        "# ID encoders: accuracy on the full catalogue",
        "",
        "Made by `python -m benchmarks.id_encoders` (its head says how); the records are in `id_encoders.json`, the "
        "hyper-parameters in `benchmarks/id_encoder_recipes.py`. Ours in bold. Cells are means over seeds, with the "
        "smallest and largest where there are several. Seconds are processor time of training and ranking on one core "
        "of a shared machine: read them as rough sizes. Other packages' rows with few epochs say what they "
        "reach in that time, not what they reach in the end.",
    ]
    for dataset in dict.fromkeys(record["dataset"] for record in records):
        for stage, title in (("final", "test targets"), ("search", "validation targets, the search")):
            rows = [r for r in records if (r["dataset"], r["stage"]) == (dataset, stage)]
            if rows:
                lines += ["", f"## {dataset}: {title}", "", *_table(rows), "", _rule(rows[0], stage)]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8")


def _table(rows: list[dict]) -> list[str]:
    metrics = BY_USERS if rows[0]["split"] == "by_users" else LEAVE_ONE_OUT
    header = ["Method", "Seeds", *(LABELS[m.split("@")[0]] + "@" + m.split("@")[1] for m in metrics)]
    lines = [header + ["Epochs", "Processor seconds"], [":---"] + ["---:"] * (len(header) + 1)]
    for method in [name for name in NAMES if any(r["method"] == name for r in rows)]:
        runs = [r for r in rows if r["method"] == method]
        cells = [NAMES[method], str(len(runs)), *(_spread([r["metrics"][m] for r in runs]) for m in metrics)]
        epochs = [r["epochs"] for r in runs if "epochs" in r]
        seconds = [r.get("budget_cpu_seconds") or r.get("cpu_seconds_training") or r["cpu_seconds"] for r in runs]
        lines.append([*cells, f"{np.mean(epochs):g}" if epochs else "", f"{np.mean(seconds):.0f}"])
    return [f"| {' | '.join(line)} |" for line in lines]


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f} to {max(values):.4f})"


def _rule(record: dict, stage: str) -> str:
    if record["split"] == "by_users":
        return (
            "ComiRec's protocol: 80/10/10 of the users, the first 80 % of a test user's history is given and the rest "
            f"are targets; ranked over the full catalogue, seen items not removed; {record['users']:,} users."
        )
    trained = "all but the test target" if stage == "final" else "all but the last two interactions"
    return (
        f"Leave-one-out, stable sort by time, full catalogue, seen items removed; {record['users']:,} users. Trained "
        f"on {trained} of every user."
    )
