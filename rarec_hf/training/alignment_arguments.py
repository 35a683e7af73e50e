"""Parameters of the main job: backbone, prompts and alignment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..backbone_source import DEFAULT_BACKBONE
from .launched_sharding import SHARDINGS


def option(default: Any, text: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class AlignmentArguments:
    """Backbone, prompts and the alignment between ID vectors and text."""

    _argument_group_name = "backbone and alignment"

    backbone: str = option(DEFAULT_BACKBONE, "Causal LM: a Hub id, a folder, or an address of an earlier run.")
    backbone_revision: str | None = option(None, "Its revision on the Hub.")
    backbone_dtype: str = option(
        "auto",
        "Of the frozen backbone. auto: bfloat16 on GPUs, and on CPUs that have it if a short trial finds it faster.",
        choices=["auto", "bfloat16", "float32"],
    )
    shard_backbone: str = option(
        "none",
        "Its weights spread over the processes: fsdp2, on their devices; fsdp2_offload, in main memory; zero3, by "
        "DeepSpeed. What a configuration of `accelerate launch` says is taken.",
        choices=["none", *SHARDINGS],
    )
    fp32: bool = option(False, "Same as --backbone_dtype float32; all else is float32 anyway.")
    soft_prompt_position: str = option(
        "after_text",
        "before_text: the paper's layout; after_text: the text runs once, without gradient.",
        choices=["before_text", "after_text"],
    )
    score: str = option(
        "encoder_plus_llm",
        "encoder_plus_llm: the ID encoder's score plus what the LLM adds; trained_head: the LLM's states through "
        "trained heads; dot_product: the paper's; both: the first and the last, one by one.",
        choices=["encoder_plus_llm", "trained_head", "dot_product", "both"],
    )
    use_soft_prompts: bool = option(True, "False: the LLM reads text only (ablation).")
    item_side: str = option(
        "both",
        "What the LLM reads of an item: its text and its soft prompts, the text alone, or with id the soft prompts "
        "alone (not under encoder_plus_llm, which compares texts).",
        choices=["both", "text", "id"],
    )
    use_id_vectors: bool = option(True, "False: no reparameterization, plain prefix tuning (ablation).")
    context_length: int = option(4, "Learnable vectors a layer before the ID vectors; 0 leaves them out (ablation).")
    layer_specific_projectors: bool = option(True, "False: one projector for all layers (ablation).")
    alignment_weight: float = option(0.1, "Weight of the per-layer InfoNCE; 0 leaves it out (ablation).")
    alignment_temperature: float = option(0.1, "Its temperature.")
    score_dim: int = option(64, "Width of the trained heads under encoder_plus_llm.")
    text_layers: list[float] | None = option(
        None,
        "Of which layers items' text states are taken: 0 is the token embeddings, 1 the last layer, 0.67 two thirds "
        "of the way. Default: 1; under --encoder_type text_sasrec 0 0.67.",
    )
    text_dim: int = option(128, "Width that each of these layers' states are whitened to.")
    text_ridge: float = option(0.05, "Share of the mean variance added to every direction before whitening.")
    pooled_history: int = option(
        10, "Latest items whose text states are pooled under encoder_plus_llm; 0 leaves them out."
    )
    objective: str = option(
        "bpr",
        "What the alignment learns by, over the items of a batch: the paper's BPR, softmax, or gBCE.",
        choices=["bpr", "cross_entropy", "gbce"],
    )
    objective_temperature: float = option(1.0, "Its temperature: scores are divided by it in the objective.")
    alignment_negatives: int = option(
        0,
        "Further items drawn evenly for each batch, beside the other samples' targets (sampled softmax); -1: the "
        "whole catalogue, which then passes the LLM at every step.",
    )
    gather_negatives: bool = option(
        True,
        "In several processes: the negatives are the targets of the whole batch, as in one process of the same batch; "
        "false: of each process's own part.",
    )
    popularity_correction: bool = option(True, "Correct in-batch negatives for how often items are drawn.")
    max_history_items: int = option(5, "Titles in the user's prompt.")
    max_title_tokens: int = option(24, "A longer title is cut.")
    max_text_tokens: int = option(192, "Oldest titles are left out until the prompt fits.")
    history_block: int = option(
        1,
        "Titles leave the prompt in blocks of this many; half of --max_history_items lets one text serve as many "
        "positions of a history.",
    )
    every_position: bool = option(
        False,
        "Draw whole users for the alignment, so that one pass over a text serves all its positions; sets "
        "--history_block to half of --max_history_items unless given.",
    )
    text_states_gib: float = option(
        0.0,
        "Under after_text: keep the texts' states in files of at most this size, so that further epochs, seeds and "
        "ablations need not run the texts; 0 keeps none.",
    )
    text_states_folder: str | None = option(
        None, "Where they are kept; by default in the user's cache, shared by all runs."
    )
    alignment_samples: float = option(
        384, "Samples drawn for the alignment: a count, a fraction of all below 1 (0.1 is a tenth), or 0 for all."
    )
    full_run: bool = option(False, "Align on all samples (same as --alignment_samples 0).")
    denoise: bool = option(
        False, "Drop samples whose target title shares no word with its history's titles (the paper's denoising)."
    )
    user_diversity: bool = option(True, "Draw samples evenly over history lengths.")
    item_diversity: bool = option(True, "Draw samples evenly over target popularity.")
    gain_users: int = option(
        256, "Validation targets that the gains of the LLM's parts are fitted on; 0 keeps what the training found."
    )
    alignment_map: bool = option(
        False, "Draw the items' and users' representations (t-SNE) after every epoch, with numbers beside the picture."
    )
    dry_run: bool = option(
        False,
        "Say what the run will take (time, memory, disk) and stop: tokens are counted, the LLM's speed is tried.",
    )
    eval_users: int = option(0, "Evaluate on this many test users, drawn with the seed; 0 takes all.")
    exclude_seen: bool = option(True, "False: the items of a user's history stay in the ranking (ComiRec's protocol).")
    encode_batch_size: int = option(64, "Texts a batch where nothing is trained.")
    include_backbone: bool = option(False, "Save the backbone's weights too (a full folder).")
    license: str | None = option(
        None,
        "For the model card: the licence of the model, as the Hub names it (apache-2.0).",
    )
    overwrite_output_dir: bool = option(False, "Replace a folder that is there already, once the run has succeeded.")

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


__all__ = ["AlignmentArguments", "option"]
