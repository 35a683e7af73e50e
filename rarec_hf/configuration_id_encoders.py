"""Configurations of the ID encoders, apart from their models and from what only models need."""

# No `from __future__ import annotations` here: `strict` checks a field only where its annotation is a type, not a
# string.

import math

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .ids import shown
from .objectives import OBJECTIVES

COMIREC_VARIANTS = ("self_attention", "dynamic_routing")
SIMILARITIES = ("dot", "cosine")


def check_finite(config: PreTrainedConfig) -> None:
    """
    Refuses fields of a config that are no finite numbers: comparisons with NaN let them pass every other check.

    Raises:
        ValueError: names the field.
    """
    for name, value in vars(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"`{name}` must be a finite number, got {value}.")


@strict
class IDEncoderConfig(PreTrainedConfig):
    """
    Args:
        n_items (`int`): size of the catalogue; item indices are 0..n_items-1.
        hidden_size (`int`): width of the ID vectors.
        max_history (`int`): how many of the latest items are read.
        dropout (`float`): in training.
        objective (`str`): what it is trained by: `"cross_entropy"` over the full catalogue, or over the sampled
            negatives of a batch, where `"gbce"` and `"bpr"` can be had too.
        weighted_negatives (`bool`): under sampled cross-entropy, weigh the drawn items so that together they stand for
            the whole catalogue: the sum over them estimates the full softmax's. Otherwise a target is told apart from
            the few that were drawn.
        training_data (`str`, *optional*): digest of the (user, position) pairs it was trained on. The alignment
            refuses an encoder that has seen its targets, and this is how it knows.
        catalogue (`str`, *optional*): digest of the item ids in catalogue order; vectors of another catalogue are
            refused.
    """

    n_items: int = 1
    hidden_size: int = 64
    max_history: int = 50
    dropout: float | int = 0.3
    initializer_range: float | int = 0.02
    objective: str = "cross_entropy"
    weighted_negatives: bool = False
    training_data: str | None = None
    catalogue: str | None = None

    def validate_catalogue(self) -> None:
        if self.n_items < 1 or self.max_history < 1:
            raise ValueError(
                f"`n_items` and `max_history` must be at least 1, got {self.n_items} and {self.max_history}."
            )
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "interests"):
            if getattr(self, name, 1) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name, 0) <= 1:
                raise ValueError(f"`{name}` must be within 0..1, got {getattr(self, name)}.")
        check_finite(self)
        if self.weighted_negatives and self.objective != "cross_entropy":
            raise ValueError(f"`weighted_negatives` belongs to 'cross_entropy', the objective is {self.objective!r}.")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"`objective` must be one of {sorted(OBJECTIVES)}, got {self.objective!r}.")


@strict
class SASRecConfig(IDEncoderConfig):
    """
    Fields of [`IDEncoderConfig`], and

    Args:
        num_hidden_layers (`int`): transformer blocks.
        num_attention_heads (`int`): attention heads of a block.
        block (`str`): `"original"`, the paper's: queries are normalised and added to what attention gives, keys and
            values are not normalised, the feed-forward part is as wide as the vectors; or `"pre_norm"`, as in GPT-2.
        intermediate_size (`int`, *optional*): hidden width of a block's feed-forward part; if not given,
            `hidden_size` for `"original"` and 4 times `hidden_size` for `"pre_norm"`.
        attention_dropout (`float`): of attention weights. Above 0 it keeps PyTorch from its fused attention on CPUs,
            which is about four times slower.
    """

    model_type = "rarec_sasrec"

    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    block: str = "original"
    intermediate_size: int | None = None
    attention_dropout: float | int = 0.0

    def validate_heads(self) -> None:
        if self.block not in ("original", "pre_norm"):
            raise ValueError(f"`block` must be 'original' or 'pre_norm', got {self.block!r}.")
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` ({self.hidden_size}) must be a multiple of `num_attention_heads` "
                f"({self.num_attention_heads})."
            )


@strict
class TextSASRecConfig(SASRecConfig):
    """
    Fields of [`SASRecConfig`], and

    Args:
        text_dim (`int`): width of the items' text vectors.
        text_gain (`float`): weight of the cosine between the history's texts and an item's; 0 leaves it out.
        pooled_history (`int`): how many of the latest items have their texts pooled there.
        pooling_decay (`float`): weight of an item relative to the next more recent one.
        text_metric (`bool`): learn in which directions of the text vectors items must be alike, instead of the plain
            cosine; the gain is learnt too and starts at `text_gain`.
        id_dropout (`float`): in training, the chance that an item's ID vector is left out where the item is looked up,
            so that its text vector learns to stand alone, as it must for items with few interactions.
    """

    model_type = "rarec_text_sasrec"

    text_dim: int = 256
    text_gain: float | int = 10.0
    pooled_history: int = 10
    pooling_decay: float | int = 0.8
    text_metric: bool = False
    id_dropout: float | int = 0.0

    def validate_texts(self) -> None:
        if not 0 <= self.id_dropout < 1:
            raise ValueError(f"Expected 0 <= `id_dropout` < 1, got {self.id_dropout}.")
        if self.text_dim < 1 or self.pooled_history < 1 or self.text_gain < 0 or not 0 < self.pooling_decay <= 1:
            raise ValueError(
                "Expected `text_dim` and `pooled_history` of at least 1, `text_gain` of at least 0 and 0 < "
                f"`pooling_decay` <= 1, got {self.text_dim}, {self.pooled_history}, {self.text_gain} and "
                f"{self.pooling_decay}."
            )


@strict
class ComiRecConfig(IDEncoderConfig):
    """
    Fields of [`IDEncoderConfig`], and

    Args:
        variant (`str`): `"self_attention"` (ComiRec-SA) or `"dynamic_routing"` (ComiRec-DR).
        interests (`int`): interest vectors a user; each becomes a soft prompt.
        attention_size (`int`): hidden width of the self-attention's scoring; the paper's is 4 times `hidden_size`.
        routing_iterations (`int`): of dynamic routing.
    """

    model_type = "rarec_comirec"

    variant: str = "self_attention"
    interests: int = 4
    attention_size: int = 256
    routing_iterations: int = 3

    def validate_interests(self) -> None:
        if self.variant not in COMIREC_VARIANTS:
            raise ValueError(f"`variant` must be one of {list(COMIREC_VARIANTS)}, got {self.variant!r}.")
        if min(self.interests, self.attention_size, self.routing_iterations) < 1:
            raise ValueError("`interests`, `attention_size` and `routing_iterations` must be at least 1.")


@strict
class GRU4RecConfig(IDEncoderConfig):
    """
    Fields of [`IDEncoderConfig`], and

    Args:
        num_hidden_layers (`int`): recurrent layers.
    """

    model_type = "rarec_gru4rec"

    num_hidden_layers: int = 1


@strict
class BERT4RecConfig(SASRecConfig):
    """
    Fields of [`SASRecConfig`] without `block`, and

    Args:
        mask_probability (`float`): share of a window's items that are masked in training (section 3.6).
        last_item_share (`float`): share of the windows in which only the last item is masked, as it is when
            recommending (the authors' code adds such samples).
    """

    model_type = "rarec_bert4rec"

    mask_probability: float | int = 0.2
    last_item_share: float | int = 0.1

    def validate_masks(self) -> None:
        if not 0 < self.mask_probability < 1 or not 0 <= self.last_item_share <= 1:
            raise ValueError(
                "Expected 0 < `mask_probability` < 1 and 0 <= `last_item_share` <= 1, got "
                f"{self.mask_probability} and {self.last_item_share}."
            )


@strict
class ItemVectorsConfig(IDEncoderConfig):
    """
    Fields of [`IDEncoderConfig`], and

    Args:
        n_users (`int`): rows of the table of user vectors; 0: there is none.
        recency_decay (`float`): weight of an item relative to the next more recent one in a user's mean.
        similarity (`str`): how a user vector scores an item: `"dot"`, or `"cosine"` for vectors that were trained for
            it; a user's mean is then one of vectors of length 1.
    """

    model_type = "rarec_item_vectors"

    max_history: int = 50
    dropout: float | int = 0.0
    n_users: int = 0
    recency_decay: float | int = 0.9
    similarity: str = "dot"

    def validate_vectors(self) -> None:
        if not 0 < self.recency_decay <= 1:
            raise ValueError(f"Expected 0 < `recency_decay` <= 1, got {self.recency_decay}.")
        if self.similarity not in SIMILARITIES:
            raise ValueError(f"`similarity` must be one of {list(SIMILARITIES)}, got {self.similarity!r}.")
        if self.n_users < 0:
            raise ValueError(f"`n_users` must be at least 0, got {self.n_users}.")


ID_ENCODER_CONFIGS: dict[str, type[IDEncoderConfig]] = {
    config.model_type: config
    for config in (SASRecConfig, TextSASRecConfig, ComiRecConfig, GRU4RecConfig, BERT4RecConfig, ItemVectorsConfig)
}


def id_encoder_config(fields: dict) -> IDEncoderConfig:
    """The config that `fields`, with their `model_type`, describe."""
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or model_type not in ID_ENCODER_CONFIGS:
        raise ValueError(
            f"`id_encoder_config`: Unknown ID encoder type {shown(model_type)}; "
            f"known are {sorted(ID_ENCODER_CONFIGS)}."
        )
    return ID_ENCODER_CONFIGS[model_type](**fields)


__all__ = [
    "COMIREC_VARIANTS",
    "ID_ENCODER_CONFIGS",
    "SIMILARITIES",
    "BERT4RecConfig",
    "ComiRecConfig",
    "GRU4RecConfig",
    "IDEncoderConfig",
    "ItemVectorsConfig",
    "SASRecConfig",
    "TextSASRecConfig",
    "check_finite",
    "id_encoder_config",
]
