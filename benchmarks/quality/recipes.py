"""How the encoders of the table are trained; the best of several for each is chosen on validation.

SASRec chooses among five, over long histories among four; encoders over texts among up to four, or up to five.
"""

from __future__ import annotations

SPARSE = {
    "encoder_block": "pre_norm",
    "encoder_layers": 1,
    "encoder_heads": 1,
    "encoder_dropout": 0.4,
    "encoder_batch_size": 128,
    "encoder_negatives": 2048,
    "encoder_weighted_negatives": True,
    "encoder_learning_rate": 2e-3,
    "encoder_epochs": 24,
    "encoder_patience": 3,
}
WIDE = {
    "encoder_block": "original",
    "encoder_hidden_size": 128,
    "encoder_heads": 1,
    "encoder_layers": 1,
    "encoder_dropout": 0.5,
    "encoder_batch_size": 64,
    "encoder_negatives": 512,
    "encoder_learning_rate": 1e-3,
    "encoder_epochs": 24,
    "encoder_patience": 3,
}
WEIGHTED_WIDE = WIDE | {"encoder_weighted_negatives": True}
COSINE = {"encoder_lr_scheduler": "cosine", "encoder_epochs": 8, "encoder_patience": 8}  # all of it is run
LONG_HISTORY = 50  # items; where most users have more, LONG stands for the cosines, and LONG_TEXT is tried too
LONG = {
    "encoder_block": "original",
    "encoder_hidden_size": 128,
    "encoder_max_history": 200,
    "encoder_heads": 1,
    "encoder_layers": 2,
    "encoder_dropout": 0.2,
    "encoder_batch_size": 16,
    "encoder_learning_rate": 1e-3,
    "encoder_lr_scheduler": "cosine",
    "encoder_epochs": 12,
    "encoder_patience": 12,
}
TEXT = {
    "encoder_type": "text_sasrec",
    "encoder_text_metric": True,
    "encoder_lr_scheduler": "cosine",
}
SPARSE_TEXT = SPARSE | TEXT | {"encoder_text_gain": 5.0, "encoder_id_dropout": 0.3}
WIDE_TEXT = WEIGHTED_WIDE | TEXT | {"encoder_text_gain": 1.0}
# The full catalogue's texts, compared at every step, would take five times as long
SAMPLED = {"encoder_negatives": 512, "encoder_weighted_negatives": True}
LONG_TEXT = LONG | TEXT | SAMPLED | {"encoder_text_gain": 1.0}
TEXT_WINDOWS = 3600 * SPARSE["encoder_batch_size"]  # with a third, NDCG@10 on Books' validation was a third lower
TEXT_EPOCHS = (4, 40)  # at least, at most
COMIREC = {
    "encoder_type": "comirec",
    "encoder_dropout": 0.3,
    "encoder_batch_size": 64,
    "encoder_negatives": 512,
    "encoder_learning_rate": 3e-3,
    "encoder_epochs": 15,
    "encoder_patience": 2,
}

__all__ = [
    "COMIREC",
    "COSINE",
    "LONG",
    "LONG_HISTORY",
    "LONG_TEXT",
    "SPARSE",
    "SPARSE_TEXT",
    "TEXT_EPOCHS",
    "TEXT_WINDOWS",
    "WEIGHTED_WIDE",
    "WIDE",
    "WIDE_TEXT",
]
