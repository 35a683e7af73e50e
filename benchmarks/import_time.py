"""
What `import rarec_hf` costs beyond `from transformers import AutoModel`: `python -m benchmarks.import_time`.

Each figure is the median over fresh processes, which take turns, so that a machine that gets slower meanwhile slows
all of them. Before the first turn everything is imported once, so that files are in the system's cache and compiled.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys

import transformers

AUTO_MODEL = "from transformers import AutoModel"
STATEMENTS = {
    "`import rarec_hf`": "import rarec_hf",
    "`from rarec_hf import RARecConfig`": "from rarec_hf import RARecConfig",
    "`from transformers import PreTrainedModel`": "from transformers import PreTrainedModel",
    "`from rarec_hf import RARecForSequentialRecommendation`": "from rarec_hf import RARecForSequentialRecommendation",
    "`from rarec_hf import *`": "from rarec_hf import *",
    "`import rarec_hf.data`": "import rarec_hf.data",
    "`import rarec_hf.evaluation`": "import rarec_hf.evaluation",
}
_TIMED = """
import time
started = time.perf_counter(); {first}
between = time.perf_counter(); {second}
print(between - started, time.perf_counter() - between)
"""


def seconds(statement: str) -> tuple[float, float]:
    """Of importing `AutoModel`, and of the statement after it, in one fresh process."""
    script = _TIMED.format(first=AUTO_MODEL, second=statement)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = done.stdout.split()[-2:]
    return float(first), float(second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="fresh processes for each statement")
    runs = parser.parse_args().runs
    for statement in STATEMENTS.values():
        seconds(statement)
    turns = [{name: seconds(statement) for name, statement in STATEMENTS.items()} for _ in range(runs)]
    alone = statistics.median(first for turn in turns for first, _ in turn.values())
    versions = f"Python {platform.python_version()}, Transformers {transformers.__version__}, {platform.system()}"
    print(f"{versions}; medians of {runs} fresh processes.\n")
    print("| After `from transformers import AutoModel` | seconds more | lowest | highest | share of AutoModel's |")
    print("| :--- | ---: | ---: | ---: | ---: |")
    print(f"| (`from transformers import AutoModel` itself) | {alone:.2f} | | | |")
    for name in STATEMENTS:
        more = [turn[name][1] for turn in turns]
        share = statistics.median(second / first for first, second in (turn[name] for turn in turns))
        print(f"| {name} | {statistics.median(more):.3f} | {min(more):.3f} | {max(more):.3f} | {share:.0%} |")


if __name__ == "__main__":
    main()
