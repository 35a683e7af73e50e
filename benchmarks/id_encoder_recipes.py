"""Hyper-parameters of `benchmarks/id_encoders.py`, chosen on validation targets (`--stage search`)."""

from __future__ import annotations

SPLIT_OF = {"amazon2014-books": "by_users"}  # ComiRec's own protocol; leave-one-out everywhere else

MOVIELENS = {  # all of the cosine is run
    "encoder_block": "original",
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
    "encoder_block": "original",
    "encoder_hidden_size": 128,
    "encoder_max_history": 50,
    "encoder_heads": 1,
    "encoder_layers": 1,
    "encoder_dropout": 0.5,
    "encoder_batch_size": 64,
    "encoder_negatives": 512,
    "encoder_learning_rate": 1e-3,
    "encoder_lr_scheduler": "cosine",
    "encoder_epochs": 8,
}
COMIREC = {  # as many epochs as the search found
    "encoder_type": "comirec",
    "encoder_interests": 4,
    "encoder_dropout": 0.3,
    "encoder_batch_size": 64,
    "encoder_negatives": 512,
    "encoder_learning_rate": 3e-3,
    "encoder_epochs": 12,
    "encoder_patience": 2,
}
OTHERS = {"encoder_lr_scheduler": "constant_with_warmup", "encoder_epochs": 12, "encoder_patience": 2}
ROUTED = {"encoder_variant": "dynamic_routing", "encoder_hidden_size": 64}
# Means of long histories say little: 20 items where they have 165
RECENT = {"encoder_max_history": 20, "encoder_learning_rate": 1e-3, "encoder_epochs": 25}
BOOKS = COMIREC | {"encoder_max_history": 20, "encoder_negatives": 1280}  # 10 for each of the paper's 128 users

RECIPES = {
    "movielens-1m": {"sasrec": MOVIELENS, "comirec": COMIREC | RECENT},
    "amazon2014-beauty": {
        "sasrec": BEAUTY,
        "comirec": COMIREC | {"encoder_max_history": 50, "encoder_hidden_size": 128},
        "comirec_dr": COMIREC | {"encoder_max_history": 20} | ROUTED,
        "gru4rec": BEAUTY | OTHERS | {"encoder_type": "gru4rec"},
        "bert4rec": BEAUTY | OTHERS | {"encoder_type": "bert4rec", "encoder_dropout": 0.2},
    },
    "amazon2014-books": {"comirec": BOOKS, "comirec_dr": BOOKS | ROUTED},
}
