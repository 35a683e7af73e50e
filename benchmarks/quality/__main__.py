"""What each part is worth: every row of the table on one data set, same split, same users.

    python -m benchmarks.quality --dataset amazon2014-clothing --data DATA --rows all --seeds 0
    python -m benchmarks.quality --dataset amazon2014-clothing --data DATA --rows sasrec ours_no_readout --fraction 0.1
    python -m benchmarks.quality --dataset amazon2014-clothing --render

DATA holds `DATASET/interactions.parquet` and `DATASET/items.parquet`. A row that is in the results already is not run
again; `--rows` takes names, kinds (id, text, llm, ours), all, or long: rows that learn from 8,192 samples, on a GPU.
Recipes and epochs are chosen on validation targets; then every model is trained again on the training parts and
validation targets, but for those of the users that weights are fitted on. The test targets of seeded users are read
once a row. Results: `benchmarks/results/quality/DATASET.md`, its charts, `.json` and the ranks of every user and row.
With `--fraction` everything is trained, chosen and fitted on so many of the users, and the page gets a curve of what
more data is worth.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.quality import page
from benchmarks.quality.rows import ROWS, Row
from benchmarks.quality.world import Settings, World
from rarec_hf.evaluation import TopItemsRecorder, coverage, popularity_bias
from rarec_hf.evaluation.metrics import summarize
from rarec_hf.training.ranking_trainer import RankingDataset
from rarec_hf.training.run_folder import run_environment
from rarec_hf.user_cache import user_cache
from rarec_hf.whole_files import replacing

RESULTS = Path(__file__).parent.parent / "results" / "quality"


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def chosen(names: list[str]) -> list[str]:
    groups = ["all", "long", *_kinds()]
    if unknown := [name for name in names if name not in ROWS and name not in groups]:
        raise SystemExit(f"Unknown rows {unknown}; known are {', '.join([*groups, *ROWS])}.")
    return [key for key, row in ROWS.items() if key in names or _groups(row) & set(names)]


def _groups(row: Row) -> set[str]:
    return {"long"} if row.long else {"all", row.kind}


def _kinds() -> list[str]:
    return list(dict.fromkeys(row.kind for row in ROWS.values()))


def run_row(world: World, key: str, seed: int) -> tuple[dict, pd.DataFrame] | None:
    """One record and its users' ranks."""
    row, validation = ROWS[key], {}
    world.final = False
    if row.kind in ("id", "text"):  # the best of these is chosen there, by models that did not see it
        result = row.make(world, seed)
        if result is None:
            return None
        known = RankingDataset(world.split.interactions, world.validation())
        validation = summarize(known.rank(result.scorer, "Validation", batch_size=result.batch_size), (10, 100))
    world.final = True
    start = time.perf_counter()
    result = row.make(world, seed)
    made = time.perf_counter() - start
    recorder = TopItemsRecorder(result.scorer, 10)
    ranks = world.rank(recorder, result.batch_size)
    counts = np.bincount(world.sequences().flat(), minlength=world.n_items)
    record = {
        "row": key,
        "seed": seed,
        "metrics": {name: round(value, 5) for name, value in summarize(ranks, (10, 20, 50, 100)).items()},
        "validation": {name: round(value, 5) for name, value in validation.items()},
        "coverage@10": round(coverage(recorder.items, world.n_items), 4),
        "popularity_bias@10": round(popularity_bias(recorder.items, world.test.targets.targets, counts), 4),
        "parameters": result.parameters,
        # An encoder from the cache took the seconds that its facts say
        "seconds": {"making": round(made, 1), "ranking": round(time.perf_counter() - start - made, 1)},
        "facts": result.facts,
        "commit": commit(),
        "device": run_environment()["device"],
    }
    columns = {"row": key, "seed": seed, "greater": ranks.greater, "ties": ranks.ties}
    return record, pd.DataFrame(columns)


def store(path: Path, head: dict, record: dict, ranks: pd.DataFrame) -> None:
    content = json.loads(path.read_text("utf-8")) if path.exists() else {"records": []}
    same = [(r["row"], r["seed"]) != (record["row"], record["seed"]) for r in content["records"]]
    records = [r for r, keep in zip(content["records"], same, strict=True) if keep] + [record]
    order = {key: n for n, key in enumerate(ROWS)}
    records.sort(key=lambda r: (order.get(r["row"], len(order)), r["seed"]))
    file = path.with_suffix(".ranks.parquet")
    if file.exists():
        old = pd.read_parquet(file)
        ranks = pd.concat([old[(old["row"] != record["row"]) | (old["seed"] != record["seed"])], ranks])
    ranks = ranks.astype({"row": "category", "seed": "int16", "greater": "int32", "ties": "int32"})
    with replacing(file) as temporary:
        ranks.to_parquet(temporary, index=False, compression="zstd")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(head | {"records": records}, indent=1) + "\n", "utf-8")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data", help="folder of the data sets; not needed to render")
    parser.add_argument("--rows", nargs="+", default=["all"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--eval_users", type=int, default=8000)
    parser.add_argument("--backbone", default=Settings.backbone)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the users that anything is learned from")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--cache", default=str(user_cache("quality")))
    parser.add_argument("--again", action="store_true", help="run rows that are in the results too")
    parser.add_argument("--render", action="store_true", help="only make the page of what is there")
    options = parser.parse_args(words)
    options.results.mkdir(parents=True, exist_ok=True)
    whole = options.results / f"{options.dataset}.json"
    path = whole if options.fraction == 1 else page.fraction_file(whole, options.fraction)
    if options.render:
        page.render(whole)
        return
    keys = chosen(options.rows)
    named = {
        name: getattr(options, name) for name in ("dataset", "data", "cache", "eval_users", "backbone", "fraction")
    }
    settings = Settings(**named)
    world = World(settings)
    settings = {name: value for name, value in asdict(world.settings).items() if name not in ("data", "cache")}
    settings["last_training"] = "training parts and validation targets, but for those that weights are fitted on"
    head = {
        "settings": settings,
        "fingerprint": world.split.interactions.fingerprint(),
        "rule": world.split.rule,
        "users": len(world.test),
        "n_items": world.n_items,
        "command": f"python -m benchmarks.quality --dataset {options.dataset} --data DATA",
    }
    if options.fraction == 1:
        page.save_users(world, path.with_suffix(".users.parquet"))
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
        if found["settings"] != settings:
            raise SystemExit(f"{path} was made with {found['settings']}, not {settings}; move it away first.")
        if found["fingerprint"] != head["fingerprint"]:
            raise SystemExit(
                f"{path} is of data with the fingerprint {found['fingerprint']}, those at {options.data} have "
                f"{head['fingerprint']}; move it away first."
            )
    for key in keys:
        for seed in options.seeds if ROWS[key].seeded else options.seeds[:1]:
            there = json.loads(path.read_text("utf-8"))["records"] if path.exists() else []
            if not options.again and any((r["row"], r["seed"]) == (key, seed) for r in there):
                continue
            done = run_row(world, key, seed)
            if done is None:
                print(f"{key}: left out, the catalogue is too large for it", flush=True)
                continue
            store(path, head, *done)
            metrics = done[0]["metrics"]
            shown = {name: metrics[name] for name in ("hit_rate@10", "hit_rate@100", "ndcg@10")}
            print(key, seed, shown, done[0]["seconds"], done[0]["facts"].get("weights", ""), flush=True)
    if whole.exists():
        page.render(whole)


if __name__ == "__main__":
    main()
