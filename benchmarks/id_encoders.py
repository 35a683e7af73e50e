"""Accuracy of the ID encoders beside what a user could have picked instead, on the full catalogue.

    python -m benchmarks.id_encoders --dataset movielens-1m --data DATA --methods sasrec comirec --seeds 0 1 2
    python -m benchmarks.id_encoders --dataset amazon2014-beauty --data DATA --methods popularity itemknn ease \
        comirec_torch_rechub sasrec_rectools --rectools_python PYTHON
    python -m benchmarks.id_encoders --render

DATA holds `DATASET/interactions.parquet` and `DATASET/items.parquet`. Every run adds its record to
`benchmarks/results/id_encoders.json`, from which `id_encoders.md` is made; a record of the same data set, method,
stage and seed is replaced.

`--stage search` trains on the training part and stops by validation; hyper-parameters in `RECIPES` were chosen there.
`--stage final` trains on all but the test targets, as the other packages' figures do, over the whole of a learning
rate schedule or, where the rate is constant, for the number of epochs that the search found, and ranks the test
targets: leave-one-out, full catalogue, stable sort, seen items removed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from filelock import FileLock

from benchmarks import id_encoders_page, other_recommenders
from benchmarks.id_encoder_recipes import RECIPES, SPLIT_OF
from rarec_hf.data import SPLITS, load_interactions
from rarec_hf.data.splits import Split
from rarec_hf.evaluation import EASE, ItemKNN, Popularity
from rarec_hf.evaluation.metrics import summarize
from rarec_hf.training.arguments import EncoderArguments
from rarec_hf.training.id_encoder import encoder_scorer, train_id_encoder
from rarec_hf.training.ranking_trainer import RankingDataset
from rarec_hf.whole_files import replacing

RESULTS = Path(__file__).parent / "results" / "id_encoders.json"
BASELINES = {"popularity": Popularity, "itemknn": ItemKNN, "ease": EASE}
KS = (10, 20, 50, 100)


def load_split(data: Path, dataset: str) -> Split:
    interactions = load_interactions(data / dataset / "interactions.parquet", data / dataset / "items.parquet")
    return SPLITS[SPLIT_OF.get(dataset, "leave_one_out")](interactions, seed=0)


def measure(split: Split, scorer, rows) -> dict[str, float]:
    # ComiRec's protocol ranks seen items too
    ranks = RankingDataset(split.interactions, rows).rank(
        scorer, "Ranking", batch_size=256, progress=False, exclude_seen=split.name != "by_users"
    )
    return {name: round(value, 5) for name, value in summarize(ranks, KS).items() if name != "mean_rank"}


def run_method(split: Split, dataset: str, method: str, stage: str, seed: int, changes: dict, rectools: str | None):
    """One record: what was run and what came out. Seconds are of this process's cores, whatever else they did."""
    # By users, validation users are not trained on at the end either
    final = stage == "final" and split.name != "by_users"
    sequences = split.refit_sequences() if final else split.baseline_sequences()
    rows = split.validation if stage == "search" else split.test
    n_items, start, cpu = split.interactions.n_items, time.perf_counter(), time.process_time()
    record = {"dataset": dataset, "method": method, "stage": stage, "seed": seed, "split": split.name}
    if method in BASELINES:
        metrics = measure(split, BASELINES[method]().fit(sequences, n_items), rows)
    elif method == "comirec_torch_rechub":
        recipe, ours = RECIPES[dataset]["comirec"] | changes, stored(dataset, "comirec", stage, seed)
        seconds = recipe.pop("cpu_seconds", ours and ours["cpu_seconds_training"])
        if seconds is None:
            raise SystemExit(f"torch-rechub gets the time that our ComiRec takes: run comirec, seed {seed}, first.")
        scorer, note = other_recommenders.comirec_torch_rechub(sequences, n_items, seed, seconds, **recipe)
        record |= note
        metrics = measure(split, scorer, rows)
    elif method == "sasrec_rectools":
        metrics, note = other_recommenders.sasrec_rectools(split, sequences, rows, rectools, seed, changes, KS)
        record |= note
    else:
        recipe = RECIPES[dataset][method] | changes
        found = stored(dataset, method, "search", 0)
        if stage == "final" and found and recipe.get("encoder_lr_scheduler", "constant") != "cosine":
            recipe["encoder_epochs"] = found["epochs"]
        arguments = EncoderArguments(**recipe)
        with tempfile.TemporaryDirectory() as folder:
            encoder, log = train_id_encoder(
                split, sequences, rows if stage == "search" else None, arguments, folder, seed, None, disable_tqdm=True
            )
        record |= {"recipe": recipe, "parameters": encoder.num_parameters()}
        if stage == "search":
            curve = [entry["eval_ndcg@10"] for entry in log if "eval_ndcg@10" in entry]
            record |= {"epochs": int(np.argmax(curve)) + 1, "curve": [round(value, 4) for value in curve]}
        else:
            record["epochs"] = arguments.encoder_epochs
        record["cpu_seconds_training"] = round(time.process_time() - cpu)
        metrics = measure(split, encoder_scorer(encoder), rows)
    return record | {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "users": len(np.unique(rows.users)),
        "metrics": metrics,
    }


def stored(*key) -> dict | None:
    """The record of this data set, method, stage and seed, if there is one."""
    records = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []
    return next((r for r in records if (r["dataset"], r["method"], r["stage"], r["seed"]) == key), None)


def store(record: dict) -> None:
    """Adds the record to the results file; several processes may run at once."""
    key = [record[name] for name in ("dataset", "method", "stage", "seed")]
    with FileLock(str(RESULTS) + ".lock"):
        records = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []
        records = [r for r in records if [r[n] for n in ("dataset", "method", "stage", "seed")] != key] + [record]
        records.sort(key=lambda r: (r["dataset"], r["stage"], r["method"], r["seed"]))
        with replacing(RESULTS) as path:
            path.write_text("[\n" + ",\n".join(json.dumps(r) for r in records) + "\n]\n", "utf-8")
        id_encoders_page.render(records, RESULTS.with_suffix(".md"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--dataset", choices=sorted(RECIPES))
    parser.add_argument("--methods", nargs="+", default=["sasrec", "comirec"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--stage", choices=["search", "final"], default="final")
    parser.add_argument("--change", nargs="*", default=[], help="name=value of the recipe, for the search")
    parser.add_argument("--rectools_python", help="Python of an environment with RecTools")
    parser.add_argument("--dry", action="store_true", help="print the record without storing it")
    parser.add_argument("--render", action="store_true", help="only make the page from the results")
    arguments = parser.parse_args()
    if arguments.render:
        id_encoders_page.render(json.loads(RESULTS.read_text("utf-8")), RESULTS.with_suffix(".md"))
        return
    if arguments.data is None or arguments.dataset is None:
        parser.error("--data and --dataset are needed")
    changes = {name: json.loads(value) for name, value in (change.split("=", 1) for change in arguments.change)}
    split = load_split(arguments.data, arguments.dataset)
    for method in arguments.methods:
        for seed in arguments.seeds if method not in BASELINES else [0]:
            record = run_method(
                split, arguments.dataset, method, arguments.stage, seed, changes, arguments.rectools_python
            )
            print(json.dumps(record), flush=True)
            if not arguments.dry:
                store(record)


if __name__ == "__main__":
    main()
