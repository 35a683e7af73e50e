"""Recomputing the backbone's blocks in the backward pass without losing the soft prompts."""

from __future__ import annotations

from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_layout import Columns
from .backbone_pass import run_backbone
from .model_parts import ModelParts
from .segments import Segment


class ActivationCheckpointingMixin(ModelParts):
    """Activation checkpointing of `RARecForSequentialRecommendation`."""

    supports_gradient_checkpointing = True
    _checkpointing = False

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict | None = None, **kwargs: Any
    ) -> None:
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
        try:
            self._check_recomputing()
        except ValueError:
            self.language_model.activation_checkpointing_disable()
            raise
        self._checkpointing = True
        self.train(self.training)

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict | None = None, **kwargs: Any) -> None:
        """The older name of `activation_checkpointing_enable`."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **kwargs)

    def activation_checkpointing_disable(self) -> None:
        self.language_model.activation_checkpointing_disable()
        self._checkpointing = False
        self.train(self.training)

    gradient_checkpointing_disable = activation_checkpointing_disable

    def _check_recomputing(self) -> None:
        """Recomputed blocks, which run in training mode, must give the states and gradients of evaluation mode."""
        ids = torch.tensor([[1, 2, 3, 2]], device=self.device)
        layers = {
            index: tuple(
                torch.ones(1, s.heads, 1, width, device=self.device).requires_grad_()
                for width in (s.key_dim, s.value_dim)
            )
            for index, s in self.spec.shapes.items()
        }
        leaves = [part for pair in layers.values() for part in pair]
        prompts, states, gradients = Segment(Columns.soft_prompts(1, 1, 0, self.device), layers), [], []
        try:
            for mode in (False, True):
                self.language_model.train(mode)
                columns = Columns.text(torch.ones_like(ids), start=1)
                state, _ = run_backbone(self.backbone, self.spec, ids, columns, [prompts])
                weights = torch.linspace(-1, 1, state.shape[-1], device=state.device)
                with torch.enable_grad():
                    slopes = torch.autograd.grad((state * weights**3).sum(), leaves, allow_unused=True)
                states.append(state.detach())
                gradients.append([torch.zeros(()) if slope is None else slope for slope in slopes])
        except RuntimeError as error:
            raise ValueError(
                f"The blocks of backbone type `{self.language_model.config.model_type}` cannot be recomputed with a "
                f"cache ({error}). Train without activation checkpointing."
            ) from error
        if not torch.allclose(states[0], states[1], atol=1e-5):
            raise ValueError(
                "The backbone behaves differently in training mode (dropout), which checkpointing needs. Load it with "
                "its dropout probabilities set to 0 in its config."
            )
        for one, other in zip(*gradients, strict=True):
            if not torch.allclose(one, other, atol=1e-4 * max(1.0, one.abs().max().item())):
                raise ValueError(
                    "Recomputed blocks give other gradients here. Train without activation checkpointing."
                )


__all__ = ["ActivationCheckpointingMixin"]
