"""Checks every causal-LM type of Transformers and prints a line for each, then the totals.

    python -m benchmarks.backbones                             # all types, with PEFT's count on the same list
    python -m benchmarks.backbones --write docs/backbones.md   # also writes the page
    python -m benchmarks.backbones llama gemma3_text           # some

Every type is checked in a process of its own share of the list; a type that brings its process down is reported so.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small; the processes are the parallel part


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backbones", description=__doc__.splitlines()[0])
    parser.add_argument("types", nargs="*", help="model types; all of them if none is given")
    parser.add_argument("--write", type=Path, metavar="FILE", help="markdown page to write")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--no_peft", action="store_true", help="leave out PEFT's prefix tuning on the same list")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from benchmarks.backbones.one_type import one
    from benchmarks.backbones.page import line, page, totals
    from benchmarks.backbones.tiny import ALL_TYPES

    if unknown := sorted(set(arguments.types) - set(ALL_TYPES)):
        raise SystemExit(f"Not among Transformers' causal-LM types: {unknown}")
    types, done, start = arguments.types or list(ALL_TYPES), {}, time.perf_counter()
    waiting = list(types)
    while waiting:
        with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
            futures = {name: pool.submit(one, name, not arguments.no_peft) for name in waiting}
            for name, future in futures.items():
                try:
                    done[name] = future.result()
                except BrokenProcessPool:
                    break
                print(f"{len(done):3}/{len(types)} {line(*done[name])}", flush=True)
        waiting = [name for name in waiting if name not in done]
        if waiting:  # the first of those in flight is the likeliest; run it alone to be sure
            from benchmarks.backbones.checks import Result

            name = waiting.pop(0)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                try:
                    done[name] = pool.submit(one, name, not arguments.no_peft).result()
                except BrokenProcessPool:
                    done[name] = (Result(name, "wrong", "its process died"), "", 0.0)
            print(f"{len(done):3}/{len(types)} {line(*done[name])}", flush=True)
    rows = [done[name] for name in types]
    print(f"\n{totals(rows)}\n{(time.perf_counter() - start) / 60:.1f} minutes on {arguments.processes} processes")
    if arguments.write:
        arguments.write.write_text(page(rows), "utf-8")
    if any(result.status == "wrong" for result, _, _ in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
