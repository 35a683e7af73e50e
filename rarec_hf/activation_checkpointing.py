"""Recomputing the backbone's blocks in the backward pass without losing the soft prompts."""

from __future__ import annotations

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_layout import Columns, run_backbone


class ActivationCheckpointingMixin:
    """Activation checkpointing of `RARecForSequentialRecommendation`."""

    supports_gradient_checkpointing = True
    _checkpointing = False

    def activation_checkpointing_enable(self, activation_checkpointing_kwargs: dict | None = None, **kwargs) -> None:
        """
        Recomputes the backbone's blocks in the backward pass, soft prompts kept.

        Stock checkpointing drops the cache, and with it the soft prompts, inside every block. The cache layers used
        here store nothing, so blocks may be recomputed with them.

        Raises:
            ValueError: re-entrant checkpointing was asked for, the backbone has no checkpointing of that kind, or it
                uses dropout (its training mode would then differ from its evaluation mode).
        """
        if (activation_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError(
                "Soft prompts share one graph among the layers: activation checkpointing needs `use_reentrant=False`."
            )
        blocks = [m for m in self.language_model.modules() if isinstance(m, GradientCheckpointingLayer)]
        if not blocks:
            raise ValueError(
                f"Backbone type `{self.language_model.config.model_type}` has no blocks that support checkpointing."
            )
        if not all(hasattr(block, "_can_checkpoint_with_cache") for block in blocks):
            raise ValueError(
                "This version of transformers cannot checkpoint blocks that read a cache; use transformers >= 5.23."
            )
        self.language_model.activation_checkpointing_enable({"use_reentrant": False}, **kwargs)
        for module in self.language_model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module._can_checkpoint_with_cache = True
            elif getattr(module, "gradient_checkpointing", False):
                module.gradient_checkpointing = False  # model-level switches (gpt2) drop the cache for all blocks
        self._check_no_dropout()
        self._checkpointing = True
        self.train(self.training)

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict | None = None, **kwargs) -> None:
        """The older name of `activation_checkpointing_enable`."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **kwargs)

    def activation_checkpointing_disable(self) -> None:
        self.language_model.activation_checkpointing_disable()
        self._checkpointing = False
        self.train(self.training)

    gradient_checkpointing_disable = activation_checkpointing_disable

    @torch.no_grad()
    def _check_no_dropout(self) -> None:
        ids = torch.tensor([[1, 2, 3, 2]], device=self.device)
        states = []
        for mode in (True, False):
            self.language_model.train(mode)
            states.append(run_backbone(self.backbone, self.spec, ids, Columns.text(torch.ones_like(ids)))[0])
        if not torch.allclose(states[0], states[1], atol=1e-5):
            self.language_model.activation_checkpointing_disable()
            raise ValueError(
                "The backbone behaves differently in training mode (dropout), which checkpointing needs. Load it with its "
                "dropout probabilities set to 0 in its config."
            )


__all__ = ["ActivationCheckpointingMixin"]
