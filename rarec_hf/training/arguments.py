"""Every parameter of the main job, as dataclass fields that `HfArgumentParser` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..backbone_source import DEFAULT_BACKBONE
from .launched_sharding import SHARDINGS


def _f(default: Any, text: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class DataArguments:
    """Interactions in; without `interactions` the embedded MovieLens data are taken."""

    _argument_group_name = "data"

    interactions: str | None = _f(
        None,
        "Parquet, csv, tsv or jsonl file, a folder or pattern of such files, or a `datasets` id. Default: embedded "
        "MovieLens data.",
    )
    items: str | None = _f(None, "Item table with titles, likewise.")
    user_column: str = _f("user_id", "Column of user ids.")
    item_column: str = _f("item_id", "Column of item ids, in both tables.")
    timestamp_column: str = _f("timestamp", "Column of times: numbers or dates.")
    title_column: str = _f("title", "Column of titles in the item table.")
    attribute_columns: str = _f("", "Further columns of the item table to put into its text, separated by commas.")
    timestamp_unit: str = _f(
        "auto",
        "Unit of numeric times; auto recognises it by their size, unknown: they only give an order.",
        choices=["auto", "unknown", "seconds", "milliseconds", "microseconds", "nanoseconds"],
    )
    on_broken_row: str = _f(
        "error",
        "drop: leave out rows without an id or a readable time, count them by reason.",
        choices=["error", "drop"],
    )
    k_core: int = _f(0, "Drop users and items with fewer interactions than this, repeatedly; 0 drops none.")
    split: str = _f(
        "leave_one_out", "How interactions are split.", choices=["leave_one_out", "global_time", "by_users"]
    )
    validation_from: str | None = _f(None, "Of global_time: the moment, a date or a number, that ends the training.")
    test_from: str | None = _f(None, "Of global_time: the moment from which on the test targets are taken.")
    validation_share: float | None = _f(
        None, "Of global_time: share of the interactions, unless --validation_from; of by_users: of the users; 0.1."
    )
    test_share: float | None = _f(None, "The same for the test; 0.1.")
    history_share: float | None = _f(
        None, "Of by_users: share of a measured user's interactions that is the history, the rest are targets; 0.8."
    )
    alignment_fraction: float = _f(
        0.1, "Share of users that the ID encoder never sees; the alignment learns from them."
    )
    language: str | None = _f(
        None, "For the model card: language of the titles, two or three letters (en), several separated by commas."
    )
    data_license: str | None = _f(None, "For the model card: the licence of the data, in words.")


@dataclass
class EncoderArguments:
    """The ID encoder, trained in the same run or loaded."""

    _argument_group_name = "ID encoder"

    id_encoder: str | None = _f(
        None,
        "Folder of a trained ID encoder or of an earlier run, or vectors of any other recommender: a .safetensors, "
        ".npz, .npy or .parquet file. Trained now if not given.",
    )
    trust_id_encoder: bool = _f(
        False, "Take an ID encoder although it does not prove what it was trained on; files of vectors need it."
    )
    user_vectors: str | None = _f(None, "File of user vectors beside the item vectors of --id_encoder.")
    trust_user_vectors: bool = _f(
        False, "Also use vectors of users that the ID encoder may not learn from, in validation and test."
    )
    vector_similarity: str | None = _f(
        None, "How vectors from a file score: dot (default), or cosine.", choices=["dot", "cosine"]
    )
    missing_vectors: str = _f(
        "error", "zeros: items without a vector in the file get one of zeros.", choices=["error", "zeros"]
    )
    encoder_type: str = _f(
        "sasrec",
        "Which one is trained. text_sasrec: SASRec over ID vectors and the LLM's states of the titles together; its "
        "opponent is a sasrec.",
        choices=["sasrec", "text_sasrec", "comirec", "gru4rec", "bert4rec"],
    )
    encoder_text_gain: float = _f(10.0, "Of text_sasrec: weight of the likeness of texts beside the learned score.")
    encoder_text_metric: bool = _f(False, "Of text_sasrec: learn in which directions texts must be alike.")
    encoder_id_dropout: float = _f(0.0, "Of text_sasrec: chance that an item is looked up by its text alone.")
    encoder_word_opponent: bool = _f(
        True,
        "Of text_sasrec: train one more opponent, the same encoder over word counts in place of the LLM's states, so "
        "that the verdict tells the LLM from training with texts.",
    )
    encoder_objective: str = _f("cross_entropy", "What it is trained by.", choices=["cross_entropy", "gbce", "bpr"])
    encoder_negatives: int = _f(0, "Negatives drawn a batch; 0: the full catalogue, which only cross_entropy takes.")
    encoder_negative_sampling: str = _f(
        "uniform",
        "How they are drawn; popularity is corrected for under cross_entropy.",
        choices=["uniform", "popularity"],
    )
    encoder_weighted_negatives: bool = _f(
        False, "Under sampled cross_entropy: weigh them so that they stand for the whole catalogue."
    )
    encoder_hidden_size: int = _f(64, "Width of the ID vectors.")
    encoder_layers: int = _f(2, "Transformer blocks or recurrent layers.")
    encoder_heads: int = _f(2, "Attention heads (sasrec, bert4rec).")
    encoder_variant: str = _f("self_attention", "Of comirec.", choices=["self_attention", "dynamic_routing"])
    encoder_interests: int = _f(4, "Interest vectors a user (comirec); each becomes a soft prompt.")
    encoder_block: str = _f(
        "pre_norm",
        "Of sasrec: the paper's, or GPT-2's, with which this job's other defaults were chosen.",
        choices=["original", "pre_norm"],
    )
    encoder_intermediate_size: int = _f(
        0, "Width inside the feed-forward parts; 0: that of the ID vectors (sasrec), 4 times it (pre_norm, bert4rec)."
    )
    encoder_dropout: float = _f(0.3, "Dropout.")
    encoder_attention_dropout: float = _f(
        0.0, "Dropout of attention weights (sasrec, bert4rec); any makes attention several times slower on CPUs."
    )
    encoder_max_history: int = _f(50, "Latest items read.")
    encoder_epochs: float = _f(14, "Epochs at most.")
    encoder_patience: int = _f(5, "Epochs without a better validation NDCG@10 before training stops.")
    encoder_refit: bool = _f(
        False,
        "Train both encoders anew at the end, on validation targets too but for those that gains are fitted on, for "
        "the number of epochs that was best.",
    )
    encoder_batch_size: int = _f(64, "Sequences a batch.")
    encoder_learning_rate: float = _f(4e-3, "Learning rate.")
    encoder_lr_scheduler: str = _f(
        "constant_with_warmup", "Learning rate schedule; cosine falls to 0 over all the epochs, linear likewise."
    )
    encoder_warmup_steps: int = _f(20, "Steps of warm-up.")
    encoder_weight_decay: float = _f(0.0, "Weight decay.")


@dataclass
class AlignmentArguments:
    """Backbone, prompts and the alignment between ID vectors and text."""

    _argument_group_name = "backbone and alignment"

    backbone: str = _f(DEFAULT_BACKBONE, "Causal LM: a Hub id, a folder, or an address of an earlier run.")
    backbone_revision: str | None = _f(None, "Its revision on the Hub.")
    backbone_dtype: str = _f(
        "auto",
        "Of the frozen backbone. auto: bfloat16 on GPUs, and on CPUs that have it if a short trial finds it faster.",
        choices=["auto", "bfloat16", "float32"],
    )
    shard_backbone: str = _f(
        "none",
        "Its weights spread over the processes: fsdp2, on their devices; fsdp2_offload, in main memory; zero3, by "
        "DeepSpeed. What a configuration of `accelerate launch` says is taken.",
        choices=["none", *SHARDINGS],
    )
    fp32: bool = _f(False, "Same as --backbone_dtype float32; all else is float32 anyway.")
    soft_prompt_position: str = _f(
        "after_text",
        "before_text: the paper's layout; after_text: the text runs once, without gradient.",
        choices=["before_text", "after_text"],
    )
    score: str = _f(
        "encoder_plus_llm",
        "encoder_plus_llm: the ID encoder's score plus what the LLM adds; trained_head: the LLM's states through "
        "trained heads; dot_product: the paper's; both: the first and the last, one by one.",
        choices=["encoder_plus_llm", "trained_head", "dot_product", "both"],
    )
    use_soft_prompts: bool = _f(True, "False: the LLM reads text only (ablation).")
    item_side: str = _f(
        "both",
        "What the LLM reads of an item: its text and its soft prompts, the text alone, or with id the soft prompts "
        "alone (not under encoder_plus_llm, which compares texts).",
        choices=["both", "text", "id"],
    )
    use_id_vectors: bool = _f(True, "False: no reparameterization, plain prefix tuning (ablation).")
    context_length: int = _f(4, "Learnable vectors a layer before the ID vectors; 0 leaves them out (ablation).")
    layer_specific_projectors: bool = _f(True, "False: one projector for all layers (ablation).")
    alignment_weight: float = _f(0.1, "Weight of the per-layer InfoNCE; 0 leaves it out (ablation).")
    alignment_temperature: float = _f(0.1, "Its temperature.")
    score_dim: int = _f(64, "Width of the trained heads under encoder_plus_llm.")
    text_layers: list[float] | None = _f(
        None,
        "Of which layers items' text states are taken: 0 is the token embeddings, 1 the last layer, 0.67 two thirds "
        "of the way. Default: 1; under --encoder_type text_sasrec 0 0.67.",
    )
    text_dim: int = _f(128, "Width that each of these layers' states are whitened to.")
    text_ridge: float = _f(0.05, "Share of the mean variance added to every direction before whitening.")
    pooled_history: int = _f(
        10, "Latest items whose text states are pooled under encoder_plus_llm; 0 leaves them out."
    )
    objective: str = _f(
        "bpr",
        "What the alignment learns by, over the items of a batch: the paper's BPR, softmax, or gBCE.",
        choices=["bpr", "cross_entropy", "gbce"],
    )
    objective_temperature: float = _f(1.0, "Its temperature: scores are divided by it in the objective.")
    alignment_negatives: int = _f(
        0,
        "Further items drawn evenly for each batch, beside the other samples' targets (sampled softmax); -1: the "
        "whole catalogue, which then passes the LLM at every step.",
    )
    gather_negatives: bool = _f(
        True,
        "In several processes: the negatives are the targets of the whole batch, as in one process of the same batch; "
        "false: of each process's own part.",
    )
    popularity_correction: bool = _f(True, "Correct in-batch negatives for how often items are drawn.")
    max_history_items: int = _f(5, "Titles in the user's prompt.")
    max_title_tokens: int = _f(24, "A longer title is cut.")
    max_text_tokens: int = _f(192, "Oldest titles are left out until the prompt fits.")
    history_block: int = _f(
        1,
        "Titles leave the prompt in blocks of this many; half of --max_history_items lets one text serve as many "
        "positions of a history.",
    )
    every_position: bool = _f(
        False,
        "Draw whole users for the alignment, so that one pass over a text serves all its positions; sets "
        "--history_block to half of --max_history_items unless given.",
    )
    text_states_gib: float = _f(
        0.0,
        "Under after_text: keep the texts' states in files of at most this size, so that further epochs, seeds and "
        "ablations need not run the texts; 0 keeps none.",
    )
    text_states_folder: str | None = _f(
        None, "Where they are kept; by default in the user's cache, shared by all runs."
    )
    alignment_samples: float = _f(
        384, "Samples drawn for the alignment: a count, a fraction of all below 1 (0.1 is a tenth), or 0 for all."
    )
    full_run: bool = _f(False, "Align on all samples (same as --alignment_samples 0).")
    denoise: bool = _f(
        False, "Drop samples whose target title shares no word with its history's titles (the paper's denoising)."
    )
    user_diversity: bool = _f(True, "Draw samples evenly over history lengths.")
    item_diversity: bool = _f(True, "Draw samples evenly over target popularity.")
    gain_users: int = _f(
        256, "Validation targets that the gains of the LLM's parts are fitted on; 0 keeps what the training found."
    )
    alignment_map: bool = _f(
        False, "Draw the items' and users' representations (t-SNE) after every epoch, with numbers beside the picture."
    )
    dry_run: bool = _f(
        False,
        "Say what the run will take (time, memory, disk) and stop: tokens are counted, the LLM's speed is tried.",
    )
    eval_users: int = _f(0, "Evaluate on this many test users, drawn with the seed; 0 takes all.")
    exclude_seen: bool = _f(True, "False: the items of a user's history stay in the ranking (ComiRec's protocol).")
    encode_batch_size: int = _f(64, "Texts a batch where nothing is trained.")
    include_backbone: bool = _f(False, "Save the backbone's weights too (a full folder).")
    license: str | None = _f(
        None,
        "For the model card: the licence of the model, as the Hub names it (apache-2.0).",
    )
    overwrite_output_dir: bool = _f(False, "Replace a folder that is there already, once the run has succeeded.")

    def __post_init__(self) -> None:
        if self.alignment_samples == int(self.alignment_samples):
            self.alignment_samples = int(self.alignment_samples)  # a count reads as one in the saved arguments
        if self.alignment_negatives < -1:
            raise ValueError(
                "--alignment_negatives must be a count, or -1 for the whole catalogue, got "
                f"{self.alignment_negatives}."
            )
        if self.item_side == "id" and (self.score in ("encoder_plus_llm", "both") or not self.use_soft_prompts):
            raise ValueError(
                f"--item_side id leaves an item's text out: --score {self.score} compares texts, and without soft "
                "prompts nothing would say which item it is. Give --score trained_head or dot_product, and no "
                "--use_soft_prompts false."
            )
        if self.every_position and self.history_block == 1:
            self.history_block = max(1, self.max_history_items // 2)


@dataclass
class RARecTrainingArguments(TrainingArguments):
    """`TrainingArguments` with this job's defaults: few steps, a module that learns from zero, no checkpoints in a
    short run."""

    _argument_group_name = "alignment training (all fields of transformers' TrainingArguments)"

    output_dir: str = _f("outputs/rarec", "The folder that the run leaves.")
    num_train_epochs: float = _f(1.0, "Epochs over the alignment samples.")
    per_device_train_batch_size: int = _f(16, "Samples a batch; the others' targets are the negatives.")
    learning_rate: float = _f(1e-3, "Learning rate of the alignment module.")
    lr_scheduler_type: str = _f("cosine", "Learning rate schedule.")
    warmup_steps: float = _f(5, "Steps of warm-up.")
    logging_steps: float = _f(4, "Steps between log lines.")
    save_strategy: str = _f("no", "When to save checkpoints.")
    metric_for_best_model: str = _f(
        "ndcg@10",
        "What --load_best_model_at_end, --save_strategy best and --early_stopping_patience go by: any metric of the "
        "evaluation.",
    )
    early_stopping_patience: int = _f(
        0, "Stop after this many evaluations (--eval_strategy) without a better one; 0 never stops early."
    )
    recommendation_samples: int = _f(
        0, "Users whose recommendations are written down after every evaluation (--eval_strategy); 0 writes none."
    )
    remove_unused_columns: bool = _f(False, "Must stay false: the collator needs every column.")
    dataloader_pin_memory: bool = _f(False, "Pinned memory for transfers to a GPU.")
    report_to: str = _f("none", "Where to log.")

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
