"""Trains RecTools' SASRec and writes its recommendations; run by `benchmarks/id_encoders.py` in RecTools' environment.

python rectools_sasrec.py train.parquet answers.parquet '{"seed": 0, "k": 100, "cpu_seconds": 900}'
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd
import rectools
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class Budget(Callback):
    """Ends training after so many seconds of processor time, at the end of a batch."""

    epochs = 0.0  # of the class: RecTools trains with a copy of the trainer and its callbacks

    def __init__(self, seconds):
        self.seconds, self.start = seconds, time.process_time()

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        Budget.epochs = trainer.current_epoch + (index + 1) / trainer.num_training_batches
        trainer.should_stop = time.process_time() - self.start > self.seconds


def main():
    train, answers, options = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    seed_everything(options.pop("seed"), verbose=False)
    k, budget = options.pop("k"), Budget(options.pop("cpu_seconds"))
    frame = pd.read_parquet(train).assign(weight=1.0)
    frame["datetime"] = pd.to_datetime(frame["datetime"], unit="s")
    dataset = Dataset.construct(frame)

    def trainer():
        return Trainer(
            max_epochs=1000, min_epochs=0, accelerator="cpu", enable_progress_bar=False, logger=False,
            enable_checkpointing=False, enable_model_summary=False, callbacks=[budget],
        )  # fmt: skip

    model = SASRecModel(get_trainer_func=trainer, recommend_torch_device="cpu", **options)
    model.fit(dataset)
    users = frame["user_id"].unique()
    model.recommend(users, dataset, k=k, filter_viewed=True).to_parquet(answers)
    note = {
        "package": f"rectools {rectools.__version__}, torch {torch.__version__}",
        "recipe": options,
        "budget_cpu_seconds": budget.seconds,
        "epochs": round(Budget.epochs, 2),
    }
    answers.with_suffix(".json").write_text(json.dumps(note), "utf-8")


if __name__ == "__main__":
    main()
