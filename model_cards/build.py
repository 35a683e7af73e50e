"""Builds the cards of the example checkpoints: trains each with its settings, then keeps the run's card and plots.

python model_cards/build.py                                 # train, then build
python model_cards/build.py --run outputs/movielens-smollm2-135m    # of a run that is there already
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from rarec_hf.hub import write_model_card
from rarec_hf.hub.run_facts import RunFacts

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def train(settings: Path) -> Path:
    """Runs the main job from the project's folder, so that the command in the card names no folder of this machine."""
    output = Path("outputs") / settings.stem
    command = ["examples/train.py", "--config", settings.relative_to(ROOT).as_posix(), "--output_dir", str(output)]
    subprocess.run([sys.executable, *command, "--overwrite_output_dir"], cwd=ROOT, check=True)
    return ROOT / output


def keep(run: Path, name: str, target: Path) -> Path:
    """The card of a run, written by this version, and the plots it shows."""
    written = write_model_card(run, name=name)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copyfile(written, target / written.name)
    for picture in RunFacts.of(run).pictures:
        (target / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / picture, target / picture)
    return target / written.name


def main() -> None:
    names = sorted(path.stem for path in HERE.glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", choices=names, action="append", help="build this one only; may be given repeatedly")
    parser.add_argument("--run", type=Path, help="the folder of a finished run, of the one card that --name gives")
    arguments = parser.parse_args()
    chosen = arguments.name or names
    if arguments.run is not None and len(chosen) > 1:
        parser.error(f"--run is the run of one card: give its --name, one of {', '.join(names)}")
    for name in chosen:
        run = train(HERE / f"{name}.yaml") if arguments.run is None else arguments.run
        print(keep(run, name, HERE / name))


if __name__ == "__main__":
    main()
