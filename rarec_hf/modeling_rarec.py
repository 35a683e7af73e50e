"""
`RARecForSequentialRecommendation`: a frozen causal LM that recommends with what an ID encoder already knows (arXiv
2402.04527).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .activation_checkpointing import ActivationCheckpointingMixin
from .backbone_probe import BackboneRefused, base_model_of, measure_backbone
from .backbone_source import set_direction
from .catalogue_rows import pieces
from .checkpoint_folder import CheckpointFolderMixin
from .configuration_rarec import RARecConfig
from .id_encoders import ID_ENCODERS
from .joint_passes import finish_passes, share_passes
from .joint_recommendation import JointRecommendationMixin
from .new_items import NewItemsMixin
from .objectives import OBJECTIVES, checked_negatives
from .processes import PartialState, gathered_rows
from .reading import ReadingMixin
from .scoring import SCORES, TrainedHeads
from .soft_prompt import SoftPromptGenerator

if TYPE_CHECKING:
    from typing import Self


@dataclass
class RARecOutput(ModelOutput):
    """
    Args:
        loss (`torch.FloatTensor`, *optional*): ranking loss plus `alignment_weight` times the alignment loss, when
            targets are given.
        scores (`torch.FloatTensor` of shape `(batch, n_items)`): each user against the items given.
        ranking_loss, alignment_loss (`torch.FloatTensor`, *optional*): its parts, without gradient.
        user_states (`torch.FloatTensor` of shape `(batch, hidden_size)`), item_states (`(n_items, hidden_size)`):
            readout states.
    """

    loss: Tensor | None = None
    scores: Tensor | None = None
    ranking_loss: Tensor | None = None
    alignment_loss: Tensor | None = None
    user_states: Tensor | None = None
    item_states: Tensor | None = None


class RARecForSequentialRecommendation(
    ReadingMixin,
    JointRecommendationMixin,
    NewItemsMixin,
    CheckpointFolderMixin,
    ActivationCheckpointingMixin,
    PreTrainedModel,
):
    """
    Wraps any causal LM and an ID encoder, both frozen. For users and for items apart, ID vectors become per-layer
    soft prompts that enter the LLM as cached keys and values beside a hard prompt; only projectors, contextual
    instruction and score heads learn.

    Args:
        config ([`RARecConfig`]): `text_config` and `id_encoder_config` must be set.
        language_model (`PreTrainedModel`, *optional*): the backbone with its weights; made from `text_config` with
            random ones otherwise.
        id_encoder (`PreTrainedModel`, *optional*): likewise from `id_encoder_config`.
    """

    config_class = RARecConfig
    base_model_prefix = "rarec"
    main_input_name = "user_text_ids"
    accepts_loss_kwargs = False
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(
        self,
        config: RARecConfig,
        language_model: PreTrainedModel | None = None,
        id_encoder: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(config)
        if config.text_config is None or config.id_encoder_config is None:
            raise ValueError("RARecConfig needs `text_config` and `id_encoder_config`; or use `from_backbone(...)`.")
        if language_model is None:
            set_direction(config.text_config, config.bidirectional)
            language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.language_model = language_model
        self.id_encoder = id_encoder or ID_ENCODERS[config.id_encoder_config.model_type](config.id_encoder_config)
        self.spec = measure_backbone(self.language_model, config.bidirectional)
        if config.soft_prompt_position == "after_text" and self.spec.after_text:
            raise BackboneRefused(
                f"Backbone type `{language_model.config.model_type}` cannot read soft prompts after the text: "
                f"{self.spec.after_text}. Set `soft_prompt_position='before_text'`."
            )
        hidden_size = config.text_config.get_text_config(decoder=True).hidden_size
        self.score_head = SCORES[config.score](hidden_size, config.text_dim, config.score_dim, len(config.text_layers))
        self.soft_prompts = nn.ModuleDict()
        if config.use_soft_prompts:
            id_dim = config.id_encoder_config.hidden_size if config.use_id_vectors else 0
            for side in ("user", "item") if config.item_soft_prompts else ("user",):
                self.soft_prompts[side] = SoftPromptGenerator(
                    self.spec.shapes, id_dim, config.context_length, config.layer_specific_projectors
                )
        self.register_buffer("id_scale", torch.ones(()))
        share_passes(self.backbone)
        self.processor, self._catalogue = None, None
        self.language_model.requires_grad_(False)
        self.id_encoder.requires_grad_(False)
        self.post_init()
        self.register_load_state_dict_post_hook(_forget_representations)  # as a Trainer that loads the best weights
        # Slim by default: Trainer checkpoints and `save_pretrained` leave out what the backbone's own address holds
        self._keys_to_ignore_on_save = {key for key in self.state_dict() if key.startswith("language_model.")}
        self.train(False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, SoftPromptGenerator):
            if module.projector is not None:
                init.normal_(module.projector.weight, std=std)
                init.zeros_(module.projector.bias)
            if module.context is not None:
                init.normal_(module.context, std=std)
        elif isinstance(module, TrainedHeads):
            init.normal_(module.user_head.weight, std=std)
            init.normal_(module.item_head.weight, std=std)
            module.reset()

    @classmethod
    def from_backbone(
        cls, language_model: PreTrainedModel, id_encoder: PreTrainedModel, **config: Any
    ) -> RARecForSequentialRecommendation:
        """A new model around a loaded backbone and a trained ID encoder; `config` are fields of [`RARecConfig`]."""
        if unknown := sorted(config.keys() - {field.name for field in fields(RARecConfig)}):
            raise TypeError(f"RARecConfig has no field {unknown}.")  # it would keep and ignore them
        vectors = id_encoder.item_vectors().detach()
        if not bool(torch.isfinite(vectors).all()):
            bad = (~torch.isfinite(vectors)).any(1).nonzero().flatten().tolist()
            raise ValueError(
                f"The ID encoder's vectors of {len(bad)} items are not finite, the first item indices: {bad[:5]}."
            )
        parts = {"text_config": language_model.config, "id_encoder_config": id_encoder.config}
        model = cls(RARecConfig(**parts, **config), language_model, id_encoder)
        # The projectors see ID vectors of unit mean square, whatever scale the ID encoder works in
        model.id_scale.copy_(id_encoder.prompt_vectors(vectors).float().pow(2).mean().sqrt().clamp(min=1e-8))
        return model

    # modes -----------------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """
        The frozen parts stay in evaluation mode, unless activation checkpointing needs the backbone's training mode.
        """
        super().train(mode)
        self.id_encoder.eval()
        self.language_model.train(mode and self._checkpointing)
        return self

    # forward ---------------------------------------------------------------------------------------------------------

    @property
    def backbone(self) -> nn.Module:
        """The LLM without its language-modelling head, which is never computed."""
        return base_model_of(self.language_model)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def forward(
        self,
        user_text_ids: Tensor,
        user_text_mask: Tensor,
        user_readout_ids: Tensor,
        history: Tensor,
        item_text_ids: Tensor,
        item_text_mask: Tensor,
        item_readout_ids: Tensor,
        items: Tensor,
        targets: Tensor | None = None,
        negatives: Tensor | None = None,
        item_log_q: Tensor | None = None,
        users: Tensor | None = None,
        user_text_rows: Tensor | None = None,
        user_text_ends: Tensor | None = None,
        own_rows: tuple[int, int] | None = None,
    ) -> RARecOutput:
        """
        Scores a batch of users against a batch of items; inputs as [`RARecProcessor`] makes them.

        Args:
            history (`torch.LongTensor` of shape `(batch, length)`): item indices for the ID encoder, right-padded with
                -1.
            items (`torch.LongTensor` of shape `(n_items,)`): item indices, each once.
            targets (`torch.LongTensor` of shape `(batch,)`, *optional*): which of `items` each user chose; gives a
                loss.
            negatives (`torch.BoolTensor` of shape `(batch, n_items)`, *optional*): which items are negatives; all but
                the target otherwise.
            item_log_q (`torch.FloatTensor` of shape `(n_items,)`, *optional*): log of each item's chance to be in a
                batch, for `popularity_correction`.
            users (`torch.LongTensor` of shape `(batch,)`, *optional*): user indices, -1 for an unknown user, for an ID
                encoder with a table of users; not for samples from the middle of a history.
            user_text_rows, user_text_ends (`torch.LongTensor` of shape `(batch,)`, *optional*): every position of a
                history from one text: which of the user texts each user reads, and how many of its tokens.
            own_rows (`tuple[int, int]`, *optional*): users and items given are this process's part of a batch, and the
                first so many of them count; `targets`, `negatives`, `item_log_q`, scores and losses are of the whole,
                gradients flow into the part. Every process of `accelerate launch` must call this.
        """
        n_items = self.id_encoder.config.n_items
        if len(strange := items[(items < 0) | (items >= n_items)]):  # below 0 they would silently count from the end
            raise ValueError(f"Item indices must be within 0..{n_items - 1}, got {int(strange[0])}.")
        wants_text = self.score_head.uses_text
        with torch.no_grad():
            user_vectors = self.id_encoder.user_vectors(history, users)
            item_vectors = self.id_encoder.item_vectors()[items]
        user = self.read(
            "user",
            user_text_ids,
            user_text_mask,
            user_readout_ids,
            user_vectors,
            False,
            user_text_rows,
            user_text_ends,
            n_own=own_rows and own_rows[0],
        )
        item = self.read(
            "item",
            item_text_ids,
            item_text_mask,
            item_readout_ids,
            item_vectors.unsqueeze(1),
            wants_text,
            n_own=own_rows and own_rows[1],
        )
        finish_passes()  # a training step exchanges gradients next
        text = self.score_head.text(item.text_state) if wants_text else None
        represented = self.score_head.user(user.state, self.pooled_text(history) if wants_text else None)
        sides = (represented, user_vectors), (self.score_head.item(item.state, text), item_vectors)
        if own_rows is not None:
            process = PartialState()
            sides = [[gathered_rows(t, n, process) for t in side] for side, n in zip(sides, own_rows, strict=True)]
        (represented, user_vectors), (items_represented, item_vectors) = sides
        scores = self.combine(represented, items_represented, user_vectors, item_vectors)
        output = RARecOutput(scores=scores, user_states=user.state, item_states=item.state)
        if targets is None:
            return output
        negatives = checked_negatives(scores, targets, negatives)
        logits = scores * (self.score_head.objective_scale / self.config.objective_temperature)
        if self.config.popularity_correction and item_log_q is not None:
            logits = logits - item_log_q
        output.loss = ranking = OBJECTIVES[self.config.objective](
            logits,
            targets,
            negatives,
            sampling_rate=(scores.shape[1] - 1) / max(1, self.config.id_encoder_config.n_items - 1),
        )
        output.ranking_loss = ranking.detach()
        if user.alignment_loss is not None:
            of_items = 0.0 if item.alignment_loss is None else item.alignment_loss
            alignment = user.alignment_loss + of_items
            output.loss, output.alignment_loss = ranking + self.config.alignment_weight * alignment, alignment.detach()
        if self.training:
            self.forget_representations()
        return output

    def combine(self, users: Tensor, items: Tensor, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Scores `(batch, n)` from the LLM's representations and, where the score has it, the ID encoder's vectors."""
        scores = users @ items.T
        return (
            scores + self.id_encoder.scores(user_vectors, item_vectors).float()
            if self.score_head.uses_encoder
            else scores
        )

    def combine_all(
        self, users: Tensor, items: Tensor, user_vectors: Tensor, item_vectors: Tensor, n_items: int | None = None
    ) -> Tensor:
        """
        `combine` over a catalogue, piece by piece: to the bit what processes with a part of it each compute.

        Args:
            n_items (`int`, *optional*): of the whole, where only some pieces of it are given.
        """
        parts = pieces(n_items or len(items), range(len(items)))
        return torch.cat([self.combine(users, items[p], user_vectors, item_vectors[p]) for p in parts], 1)


def _forget_representations(model: RARecForSequentialRecommendation, incompatible_keys: Any) -> None:
    model.forget_representations()


__all__ = ["RARecForSequentialRecommendation", "RARecOutput"]
