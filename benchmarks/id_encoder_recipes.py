"""Hyper-parameters of `benchmarks/id_encoders.py`, chosen on validation targets (`--stage search`)."""

from __future__ import annotations

SPLIT_OF = {"amazon2014-books": "by_users"}  # ComiRec's own protocol; leave-one-out everywhere else

MOVIELENS = {
    "encoder_hidden_size": 128,
    "encoder_max_history": 200,
    "encoder_heads": 1,
    "encoder_dropout": 0.2,
    "encoder_batch_size": 16,
    "encoder_learning_rate": 1e-3,
    "encoder_lr_scheduler": "cosine",
    "encoder_epochs": 12,
}
BEAUTY = {
    "encoder_hidden_size": 128,
    "encoder_max_history": 50,
    "encoder_heads": 1,
    "encoder_layers": 1,
    "encoder_dropout": 0.5,
    "encoder_batch_size": 64,
    "encoder_negatives": 512,
    "encoder_learning_rate": 1e-3,
    "encoder_epochs": 5,
}
COMIREC = {"encoder_type": "comirec", "encoder_interests": 4}

RECIPES = {
    "movielens-1m": {"sasrec": MOVIELENS, "comirec": MOVIELENS | COMIREC},
    "amazon2014-beauty": {
        "sasrec": BEAUTY,
        "comirec": BEAUTY | COMIREC,
        "gru4rec": BEAUTY | {"encoder_type": "gru4rec"},
        "bert4rec": BEAUTY | {"encoder_type": "bert4rec"},
    },
    "amazon2014-books": {"comirec": BEAUTY | COMIREC | {"encoder_max_history": 20}},
}
