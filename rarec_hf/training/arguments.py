"""Every parameter of the main job, as dataclass fields that `HfArgumentParser` reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from .alignment_arguments import AlignmentArguments, option


@dataclass
class DataArguments:
    """Interactions in; without `interactions` the embedded MovieLens data are taken."""

    _argument_group_name = "data"

    interactions: str | None = option(
        None,
        "Parquet, csv, tsv or jsonl file, a folder or pattern of such files, or a `datasets` id. Default: embedded "
        "MovieLens data.",
    )
    items: str | None = option(None, "Item table with titles, likewise.")
    user_column: str = option("user_id", "Column of user ids.")
    item_column: str = option("item_id", "Column of item ids, in both tables.")
    timestamp_column: str = option("timestamp", "Column of times: numbers or dates.")
    title_column: str = option("title", "Column of titles in the item table.")
    attribute_columns: str = option("", "Further columns of the item table to put into its text, separated by commas.")
    timestamp_unit: str = option(
        "auto",
        "Unit of numeric times; auto recognises it by their size, unknown: they only give an order.",
        choices=["auto", "unknown", "seconds", "milliseconds", "microseconds", "nanoseconds"],
    )
    on_broken_row: str = option(
        "error",
        "drop: leave out rows without an id or a readable time, count them by reason.",
        choices=["error", "drop"],
    )
    k_core: int = option(0, "Drop users and items with fewer interactions than this, repeatedly; 0 drops none.")
    split: str = option(
        "leave_one_out", "How interactions are split.", choices=["leave_one_out", "global_time", "by_users"]
    )
    validation_from: str | None = option(
        None, "Of global_time: the moment, a date or a number, that ends the training."
    )
    test_from: str | None = option(None, "Of global_time: the moment from which on the test targets are taken.")
    validation_share: float | None = option(
        None, "Of global_time: share of the interactions, unless --validation_from; of by_users: of the users; 0.1."
    )
    test_share: float | None = option(None, "The same for the test; 0.1.")
    history_share: float | None = option(
        None, "Of by_users: share of a measured user's interactions that is the history, the rest are targets; 0.8."
    )
    alignment_fraction: float = option(
        0.1, "Share of users that the ID encoder never sees; the alignment learns from them."
    )
    language: str | None = option(
        None, "For the model card: language of the titles, two or three letters (en), several separated by commas."
    )
    data_license: str | None = option(None, "For the model card: the licence of the data, in words.")


@dataclass
class EncoderArguments:
    """The ID encoder, trained in the same run or loaded."""

    _argument_group_name = "ID encoder"

    id_encoder: str | None = option(
        None,
        "Folder of a trained ID encoder or of an earlier run, or vectors of any other recommender: a .safetensors, "
        ".npz, .npy or .parquet file. Trained now if not given.",
    )
    trust_id_encoder: bool = option(
        False, "Take an ID encoder although it does not prove what it was trained on; files of vectors need it."
    )
    user_vectors: str | None = option(None, "File of user vectors beside the item vectors of --id_encoder.")
    trust_user_vectors: bool = option(
        False, "Also use vectors of users that the ID encoder may not learn from, in validation and test."
    )
    vector_similarity: str | None = option(
        None, "How vectors from a file score: dot (default), or cosine.", choices=["dot", "cosine"]
    )
    missing_vectors: str = option(
        "error", "zeros: items without a vector in the file get one of zeros.", choices=["error", "zeros"]
    )
    encoder_type: str = option(
        "sasrec",
        "Which one is trained. text_sasrec: SASRec over ID vectors and the LLM's states of the titles together; its "
        "opponent is a sasrec.",
        choices=["sasrec", "text_sasrec", "comirec", "gru4rec", "bert4rec"],
    )
    encoder_text_gain: float = option(
        10.0, "Of text_sasrec: weight of the likeness of texts beside the learned score."
    )
    encoder_text_metric: bool = option(False, "Of text_sasrec: learn in which directions texts must be alike.")
    encoder_id_dropout: float = option(0.0, "Of text_sasrec: chance that an item is looked up by its text alone.")
    encoder_word_opponent: bool = option(
        True,
        "Of text_sasrec: train one more opponent, the same encoder over word counts in place of the LLM's states, so "
        "that the verdict tells the LLM from training with texts.",
    )
    encoder_objective: str = option(
        "cross_entropy", "What it is trained by.", choices=["cross_entropy", "gbce", "bpr"]
    )
    encoder_negatives: int = option(
        0, "Negatives drawn a batch; 0: the full catalogue, which only cross_entropy takes."
    )
    encoder_negative_sampling: str = option(
        "uniform",
        "How they are drawn; popularity is corrected for under cross_entropy.",
        choices=["uniform", "popularity"],
    )
    encoder_weighted_negatives: bool = option(
        False, "Under sampled cross_entropy: weigh them so that they stand for the whole catalogue."
    )
    encoder_hidden_size: int = option(64, "Width of the ID vectors.")
    encoder_layers: int = option(2, "Transformer blocks or recurrent layers.")
    encoder_heads: int = option(2, "Attention heads (sasrec, bert4rec).")
    encoder_variant: str = option("self_attention", "Of comirec.", choices=["self_attention", "dynamic_routing"])
    encoder_interests: int = option(4, "Interest vectors a user (comirec); each becomes a soft prompt.")
    encoder_block: str = option(
        "pre_norm",
        "Of sasrec: the paper's, or GPT-2's, with which this job's other defaults were chosen.",
        choices=["original", "pre_norm"],
    )
    encoder_intermediate_size: int = option(
        0, "Width inside the feed-forward parts; 0: that of the ID vectors (sasrec), 4 times it (pre_norm, bert4rec)."
    )
    encoder_dropout: float = option(0.3, "Dropout.")
    encoder_attention_dropout: float = option(
        0.0, "Dropout of attention weights (sasrec, bert4rec); any makes attention several times slower on CPUs."
    )
    encoder_max_history: int = option(50, "Latest items read.")
    encoder_epochs: float = option(14, "Epochs at most.")
    encoder_patience: int = option(5, "Epochs without a better validation NDCG@10 before training stops.")
    encoder_refit: bool = option(
        False,
        "Train both encoders anew at the end, on validation targets too but for those that gains are fitted on, for "
        "the number of epochs that was best.",
    )
    encoder_batch_size: int = option(64, "Sequences a batch.")
    encoder_learning_rate: float = option(4e-3, "Learning rate.")
    encoder_lr_scheduler: str = option(
        "constant_with_warmup", "Learning rate schedule; cosine falls to 0 over all the epochs, linear likewise."
    )
    encoder_warmup_steps: int = option(20, "Steps of warm-up.")
    encoder_weight_decay: float = option(0.0, "Weight decay.")


@dataclass
class RARecTrainingArguments(TrainingArguments):
    """`TrainingArguments` with this job's defaults: few steps, a module that learns from zero, no checkpoints in a
    short run."""

    _argument_group_name = "alignment training (all fields of transformers' TrainingArguments)"

    output_dir: str = option("outputs/rarec", "The folder that the run leaves.")
    num_train_epochs: float = option(1.0, "Epochs over the alignment samples.")
    per_device_train_batch_size: int = option(16, "Samples a batch; the others' targets are the negatives.")
    learning_rate: float = option(1e-3, "Learning rate of the alignment module.")
    lr_scheduler_type: str = option("cosine", "Learning rate schedule.")
    warmup_steps: float = option(5, "Steps of warm-up.")
    logging_steps: float = option(4, "Steps between log lines.")
    save_strategy: str = option("no", "When to save checkpoints.")
    metric_for_best_model: str = option(
        "ndcg@10",
        "What --load_best_model_at_end, --save_strategy best and --early_stopping_patience go by: any metric of the "
        "evaluation.",
    )
    early_stopping_patience: int = option(
        0, "Stop after this many evaluations (--eval_strategy) without a better one; 0 never stops early."
    )
    recommendation_samples: int = option(
        0, "Users whose recommendations are written down after every evaluation (--eval_strategy); 0 writes none."
    )
    remove_unused_columns: bool = option(False, "Must stay false: the collator needs every column.")
    dataloader_pin_memory: bool = option(False, "Pinned memory for transfers to a GPU.")
    report_to: str = option("none", "Where to log.")

    def __post_init__(self) -> None:
        # The backbone is put on a GPU that speaks CUDA, else on the CPU; processes on CPUs know of each other only so
        self.use_cpu = self.use_cpu or not torch.cuda.is_available()
        if self.greater_is_better is None and str(self.metric_for_best_model).endswith("mean_rank"):
            self.greater_is_better = False
        super().__post_init__()
        for name in ("early_stopping_patience", "recommendation_samples"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"--{name} must be 0 (off) or more, got {value}.")
            if value and self.eval_strategy == IntervalStrategy.NO:
                raise ValueError(
                    f"--{name} {value} acts after evaluations, and --eval_strategy no makes none. Give "
                    "--eval_strategy epoch (or steps)."
                )


__all__ = ["AlignmentArguments", "DataArguments", "EncoderArguments", "RARecTrainingArguments"]
