"""From a parquet file to samples: seconds and peak memory of this package and of RecTools on the same table.

    python benchmarks/data_preparation.py --rectools_python OTHER_ENVIRONMENT/bin/python

Generates interactions of the size of Amazon Books (80 K users, 1.04 M items, 4.2 M interactions, power-law popularity)
and of a tenth and ten times that, with ids as integers and as text. Each measurement is a process of its own, so that
peak memory is its own; the two packages take turns. RecTools (0.19) wants an older numpy, hence an interpreter of its
own; without `--rectools_python` only this package is measured. What is timed begins after the imports:

- ours: `load_interactions` (parquet), `leave_one_out`, `select_samples` with its defaults;
- RecTools: `pandas.read_parquet`, `Dataset.construct`, `LastNSplitter(1)` without filters: one held-out interaction a
  user, half of what `leave_one_out` splits off.

Prints a markdown page and, with --output, writes it.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BOOKS = {"users": 80_000, "items": 1_040_000, "interactions": 4_200_000}
SIDES = ("rarec_hf", "RecTools")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rectools_python", help="interpreter of an environment with rectools")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.1, 1, 10], help="multiples of the Books size")
    parser.add_argument("--ids", nargs="+", default=["integer", "text"], choices=["integer", "text"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--n_samples", type=int, default=20_000, help="samples selected for the alignment")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the tables go; a temporary folder otherwise")
    parser.add_argument("--output", type=Path, help="markdown file to write")
    parser.add_argument("--measure", choices=SIDES, help="internal: one measurement of the table --folder")
    return parser.parse_args()


def generate(path: Path, scale: float, ids: str, seed: int) -> None:
    """Every item once, the rest by a power law over the items (exponent 0.8); lengths by one too, 5 at least."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    n_users, n_items, n_rows = (max(1, round(scale * number)) for number in BOOKS.values())
    activity = 1 / (np.arange(n_users) + 10) ** 0.6
    users = np.concatenate([np.repeat(np.arange(n_users), 5), draw(activity, max(n_rows - 5 * n_users, 0), rng)])[
        :n_rows
    ]
    popularity = 1 / (np.arange(n_items) + 10) ** 0.8
    items = np.concatenate([np.arange(n_items), draw(popularity, max(n_rows - n_items, 0), rng)])[:n_rows]
    rng.shuffle(users)
    rng.shuffle(items)
    times = rng.integers(1_000_000_000, 1_400_000_000, n_rows)  # 2001 to 2014, in no order
    columns = {}
    for name, numbers, prefix in (("user_id", users, "A"), ("item_id", items, "B")):
        names = rng.permutation(int(numbers.max()) + 1) + 10**8
        column = pa.array(names[numbers])
        if ids == "text":
            column = pc.binary_join_element_wise(prefix, pc.cast(column, pa.string()), "")
        columns[name] = column
    pq.write_table(pa.table({**columns, "timestamp": times}), path)


def draw(weights, n: int, rng):
    import numpy as np

    edges = np.cumsum(weights)
    return np.minimum(np.searchsorted(edges, rng.random(n) * edges[-1]), len(weights) - 1)


def prepare_ours(path: Path, n_samples: int, seed: int) -> dict:
    from rarec_hf.data import leave_one_out, load_interactions, select_samples

    import_everything(path)
    stages = [("start", now())]
    interactions = load_interactions(path)
    stages.append(("load", now()))
    split = leave_one_out(interactions, seed=seed)
    stages.append(("split", now()))
    samples, _ = select_samples(split, n_samples, seed=seed)
    stages.append(("select", now()))
    return {"stages": stages, "users": interactions.n_users, "interactions": len(interactions.item_index)}


def now() -> tuple[float, float]:
    """Wall clock and CPU seconds of all threads of this process."""
    return time.perf_counter(), time.process_time()


def import_everything(path: Path) -> None:
    """Imports that the first call would make; they are no part of the work."""
    import pandas
    import pyarrow.dataset  # noqa: F401
    import pyarrow.parquet

    pandas.factorize(pandas.Series(["a"]))
    pyarrow.parquet.read_schema(path)


def prepare_with_rectools(path: Path) -> dict:
    import pandas
    from rectools.dataset import Dataset
    from rectools.model_selection import LastNSplitter

    import_everything(path)
    stages = [("start", now())]
    frame = pandas.read_parquet(path).rename(columns={"timestamp": "datetime"})
    frame["weight"] = 1
    frame["datetime"] = pandas.to_datetime(frame["datetime"], unit="s")
    stages.append(("read", now()))
    dataset = Dataset.construct(frame)
    stages.append(("construct", now()))
    splitter = LastNSplitter(
        1, n_splits=1, filter_cold_users=False, filter_cold_items=False, filter_already_seen=False
    )
    folds = list(splitter.split(dataset.interactions))
    stages.append(("split", now()))
    return {
        "stages": stages,
        "users": dataset.user_id_map.size,
        "interactions": len(folds[0][0]) + len(folds[0][1]),
    }


def measure(side: str, python: str, path: Path, arguments: argparse.Namespace) -> dict:
    command = [python, __file__, "--measure", side, "--folder", path, "--seed", arguments.seed]
    command += ["--n_samples", arguments.n_samples]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed on {path.name} (status {done.returncode}):\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def report_measurement(arguments: argparse.Namespace) -> None:
    """The body of a child process: one JSON line."""
    if arguments.measure == "rarec_hf":
        found = prepare_ours(arguments.folder, arguments.n_samples, arguments.seed)
    else:
        found = prepare_with_rectools(arguments.folder)
    stages = found.pop("stages")
    found["wall"], found["cpu"] = (end - start for start, end in zip(stages[0][1], stages[-1][1], strict=True))
    found["stages"] = {name: end[1] - start[1] for (_, start), (name, end) in zip(stages, stages[1:], strict=False)}
    found["gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(found))


def versions(python: str, packages: tuple[str, ...]) -> str:
    code = (
        "import importlib.metadata as m, platform, sys; "
        "print('Python', platform.python_version(), *[f'{p} {m.version(p)}' for p in sys.argv[1:]], sep=', ')"
    )
    out = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True).stdout
    return out.strip().replace("Python, ", "Python ")


def page(results: dict, arguments: argparse.Namespace) -> str:
    shown = [f"--{n} {' '.join(map(str, v))}" for n, v in (("scales", arguments.scales), ("ids", arguments.ids))]
    shown += [f"--rounds {arguments.rounds}", f"--n_samples {arguments.n_samples}", f"--seed {arguments.seed}"]
    lines = [
        "# Data preparation",
        "",
        f"`python benchmarks/data_preparation.py {' '.join(shown)}"
        + (" --rectools_python PYTHON`" if arguments.rectools_python else "`"),
        "",
        "From parquet to ready samples: reading, id maps, de-duplication, sorting, leave-one-out, selection; "
        "RecTools: reading, `Dataset.construct`, `LastNSplitter(1)`. Medians over the rounds, taken in turns, one "
        "process each; peak memory of the whole process, imports included. Ratios: medians of the rounds' ratios to "
        "RecTools. CPU seconds are those of all threads; wall seconds also wait for other programs on the machine.",
        "",
        f"rarec_hf: {versions(sys.executable, ('numpy', 'pandas', 'pyarrow'))}.  ",
    ]
    if arguments.rectools_python:
        lines.append(f"RecTools: {versions(arguments.rectools_python, ('rectools', 'numpy', 'pandas', 'pyarrow'))}.  ")
    lines += [
        f"{platform.machine()}, {platform.system()}.",
        "",
        "| users | items | interactions | ids | | CPU s | of it | wall s | peak GiB | CPU ns an interaction "
        "| CPU ratio | wall ratio |",
        "| ---: | ---: | ---: | :--- | :--- | ---: | :--- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (scale, ids), sides in results.items():
        size = [f"{round(scale * number):,}" for number in BOOKS.values()]
        for side, rounds in sides.items():
            cpu, wall, gib = (statistics.median(one[name] for one in rounds) for name in ("cpu", "wall", "gib"))
            parts = {name: statistics.median(one["stages"][name] for one in rounds) for name in rounds[0]["stages"]}
            stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items())
            ratios = ["", ""]
            if "RecTools" in sides:
                pairs = list(zip(rounds, sides["RecTools"], strict=True))
                ratios = [f"{statistics.median(a[name] / b[name] for a, b in pairs):.2f}" for name in ("cpu", "wall")]
            each = f"{1e9 * cpu / (scale * BOOKS['interactions']):.0f}"
            cells = [*size, ids, side, f"{cpu:.2f}", stages, f"{wall:.2f}", f"{gib:.2f}", each, *ratios]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    arguments = parse_arguments()
    if arguments.measure:
        report_measurement(arguments)
        return
    sides = {"rarec_hf": sys.executable}
    if arguments.rectools_python:
        sides["RecTools"] = arguments.rectools_python
    results: dict = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for scale in arguments.scales:
            for ids in arguments.ids:
                path = folder / f"{ids}_{scale:g}.parquet"
                if not path.exists():
                    generate(path, scale, ids, arguments.seed)
                found = results[scale, ids] = {side: [] for side in sides}
                for round_ in range(arguments.rounds):
                    for side, python in sides.items():
                        one = measure(side, python, path, arguments)
                        found[side].append(one)
                        print(f"{path.name}, round {round_ + 1}, {side}: {one}", file=sys.stderr, flush=True)
    text = page(results, arguments)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
