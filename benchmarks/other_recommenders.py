"""Other packages' sequential recommenders on the split of `benchmarks/id_encoders.py`: torch-rechub and RecTools."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

RECHUB_TEMPERATURE = 0.05
RECHUB_NEGATIVES = 64  # it gathers each sample's own: with 512 its epoch takes eight times as long


def comirec_torch_rechub(sequences, n_items: int, seed: int, cpu_seconds: float, **recipe):
    """
    ComiRec-SA of torch-rechub, trained by its own `MatchTrainer` (listwise softmax over sampled negatives) for as many
    seconds of processor time as our ComiRec takes, on the same sequences with the same width, interests and history
    length.

    Its model takes a `temperature` and, in 0.9.0, does not use it: logits of cosines within [-1, 1] learn next to
    nothing, so they are divided by it here, to its advantage.
    """
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models.matching import ComirecSA
    from torch_rechub.trainers import MatchTrainer

    class TemperedComiRec(ComirecSA):
        def forward(self, x):
            y = super().forward(x)
            return y if self.mode else y / RECHUB_TEMPERATURE

    torch.manual_seed(seed)
    size, length = recipe.get("encoder_hidden_size", 64), recipe["encoder_max_history"]
    shared = {"vocab_size": n_items + 1, "embed_dim": size}
    model = TemperedComiRec(
        user_features=[SparseFeature("user", vocab_size=len(sequences) + 1, embed_dim=size)],
        history_features=[SequenceFeature("history", pooling="concat", shared_with="item", **shared)],
        item_features=[SparseFeature("item", **shared)],
        neg_item_feature=[SequenceFeature("negatives", pooling="concat", shared_with="item", **shared)],
        interest_num=recipe["encoder_interests"],
    )
    trainer = MatchTrainer(model, mode=2, optimizer_params={"lr": 1e-3, "weight_decay": 0.0})
    batches = _samples(sequences, n_items, length, 256, RECHUB_NEGATIVES, seed)
    start, seen = time.process_time(), 0

    def budget():
        nonlocal seen
        for batch in batches:
            seen += len(batch["item"])
            yield batch, torch.zeros(len(batch["item"]))
            if time.process_time() - start > cpu_seconds:
                return

    trainer.train_one_epoch(budget())
    model.eval()

    @torch.no_grad()
    def score(histories, users):
        padded = torch.zeros(len(histories), length, dtype=torch.long)
        for row, history in enumerate(histories):
            recent = torch.as_tensor(np.asarray(history[-length:], dtype=np.int64)) + 1
            padded[row, : len(recent)] = recent
        model.mode = "user"
        interests = model({"user": torch.as_tensor(users) + 1, "history": padded})
        model.mode = "item"
        items = model({"item": torch.arange(1, n_items + 1)})
        return (interests @ items.squeeze(1).T).amax(1)

    score.takes_users = True
    samples = sum(max(0, len(sequence) - 1) for sequence in sequences)
    return score, {
        "budget_cpu_seconds": cpu_seconds,
        "epochs": round(seen / samples, 2),
        "temperature": RECHUB_TEMPERATURE,
    }


def _samples(sequences, n_items: int, length: int, batch_size: int, n_negatives: int, seed: int):
    """Endless batches of (user, history, next item, negatives), each position of each sequence once an epoch."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(len(sequences)), [max(0, len(s) - 1) for s in sequences])
    ends = np.concatenate([np.arange(1, len(s)) for s in sequences if len(s) > 1])
    while True:
        order = rng.permutation(len(users))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            history = np.zeros((len(rows), length), dtype=np.int64)
            for place, row in enumerate(rows):
                recent = sequences[users[row]][max(0, ends[row] - length) : ends[row]] + 1
                history[place, : len(recent)] = recent
            target = np.array([sequences[users[row]][ends[row]] for row in rows]) + 1
            yield {
                "user": torch.as_tensor(users[rows] + 1),
                "history": torch.as_tensor(history),
                "item": torch.as_tensor(target),
                "negatives": torch.as_tensor(rng.integers(1, n_items + 1, (len(rows), n_negatives))),
            }


def sasrec_rectools(split, sequences, rows, python: str | None, seed: int, changes: dict, ks):
    """RecTools' SASRec in its own environment: the same training interactions in, its recommendations out."""
    if python is None:
        raise SystemExit("sasrec_rectools needs --rectools_python, the Python of an environment with RecTools.")
    with tempfile.TemporaryDirectory() as folder:
        train, answers = Path(folder) / "train.parquet", Path(folder) / "answers.parquet"
        lengths = [len(sequence) for sequence in sequences]
        pd.DataFrame(
            {
                "user_id": np.repeat(np.arange(len(sequences)), lengths),
                "item_id": np.concatenate(sequences),
                "datetime": np.concatenate([np.arange(n) for n in lengths]),
            }
        ).to_parquet(train)
        options = {"seed": seed, "k": max(ks), **changes}
        script = Path(__file__).with_name("rectools_sasrec.py")
        subprocess.run([python, str(script), str(train), str(answers), json.dumps(options)], check=True)
        answers, note = pd.read_parquet(answers), json.loads(answers.with_suffix(".json").read_text("utf-8"))
    targets = pd.DataFrame({"user_id": rows.users, "target": rows.targets})
    hits = answers.merge(targets, on="user_id").query("item_id == target")
    place = hits.set_index("user_id")["rank"].reindex(rows.users).to_numpy(dtype=float)  # NaN beyond the last cut-off
    metrics = {f"hit_rate@{k}": round(float((place <= k).mean()), 5) for k in ks}
    gain = np.nan_to_num(1 / np.log2(place + 1))
    return metrics | {f"ndcg@{k}": round(float(np.where(place <= k, gain, 0.0).mean()), 5) for k in ks}, note
