"""SASRec over ID vectors and what the items' texts say together, as UniSRec (arXiv 2206.05941) and its like do."""

# No `from __future__ import annotations` here: `strict` checks a field only where its annotation is a type, not a
# string.

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import initialization as init

from .modeling_sasrec import SASRecConfig, SASRecModel


@strict
class TextSASRecConfig(SASRecConfig):
    """
    Fields of [`SASRecConfig`], and

    Args:
        text_dim (`int`): width of the items' text vectors.
        text_gain (`float`): weight of the cosine between the history's texts and an item's; 0 leaves it out.
        pooled_history (`int`): how many of the latest items have their texts pooled there.
        pooling_decay (`float`): weight of an item relative to the next more recent one.
    """

    model_type = "rarec_text_sasrec"

    text_dim: int = 256
    text_gain: float | int = 10.0
    pooled_history: int = 10
    pooling_decay: float | int = 0.8

    def validate_texts(self):
        if self.text_dim < 1 or self.pooled_history < 1 or self.text_gain < 0 or not 0 < self.pooling_decay <= 1:
            raise ValueError(
                "Expected `text_dim` and `pooled_history` of at least 1, `text_gain` of at least 0 and 0 < "
                f"`pooling_decay` <= 1, got {self.text_dim}, {self.pooled_history}, {self.text_gain} and "
                f"{self.pooling_decay}."
            )


class TextSASRecModel(SASRecModel):
    """
    `F(u, i) = h_u . (e_i + W t_i) + g cos(q_u, t_i)`: SASRec whose item vectors are a trained embedding plus a trained
    projection of a frozen text vector t_i, beside the likeness of the texts themselves, q_u being the recency-weighted
    mean of the history's. Both are trained as one score, so that h_u learns what likeness does not say. An item that
    nobody chose yet is where its text puts it.

    Vectors are `[h_u, g q_u]` and `[e_i + W t_i, t_i]`; only the first part becomes soft prompts. The text vectors are
    part of the weights; `set_texts` gives them before training.
    """

    config_class = TextSASRecConfig
    base_model_prefix = "text_sasrec"

    def __init__(self, config: TextSASRecConfig):
        super().__init__(config)
        self.register_buffer("texts", torch.zeros(config.n_items, config.text_dim))
        self.text_projection = nn.Linear(config.text_dim, config.hidden_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if module is getattr(self, "text_projection", None):
            init.normal_(module.weight, std=0.1)  # text vectors have length 1, so theirs is the weights' columns'

    @torch.no_grad()
    def set_texts(self, texts: Tensor) -> None:
        """
        Gives the items' text vectors `(n_items, text_dim)`, best centred; they are made of length 1.

        Raises:
            ValueError: of another shape, or not finite.
        """
        if texts.shape != self.texts.shape or not bool(torch.isfinite(texts).all()):
            raise ValueError(
                f"Expected finite text vectors of shape {tuple(self.texts.shape)}, one an item, got "
                f"{tuple(texts.shape)}."
            )
        self.texts.copy_(nn.functional.normalize(texts.float(), dim=-1))

    @torch.no_grad()
    def add_items(self, nearest: Tensor, texts: Tensor) -> None:
        if texts.shape[1] != self.config.text_dim:
            raise ValueError(
                f"The ID encoder reads text vectors of width {self.config.text_dim}, the new items' have "
                f"{texts.shape[1]}: it was trained on other text vectors than this model's."
            )
        super().add_items(nearest, texts)
        self.texts = torch.cat([self.texts, texts.to(self.texts)])

    def look_up(self, items: Tensor) -> Tensor:
        return super().look_up(items) + self.text_projection(self.texts[items])

    def candidate_vectors(self, items: Tensor) -> Tensor:
        return torch.cat([self.look_up(items), self.texts[items]], -1)

    def item_vectors(self) -> Tensor:
        return torch.cat([self.item_embeddings.weight + self.text_projection(self.texts), self.texts], -1)

    def position_vectors(self, history: Tensor) -> Tensor:
        states = self.states(history)
        texts = self.texts[history.clamp(min=0)] * (history >= 0).unsqueeze(-1)
        at = torch.arange(history.shape[1], device=history.device)
        age = at.unsqueeze(1) - at
        used = (age >= 0) & (age < self.config.pooled_history)
        weights = torch.where(used, float(self.config.pooling_decay) ** age.clamp(min=0), 0.0)
        pooled = nn.functional.normalize(weights @ texts, dim=-1)
        return torch.cat([states, self.config.text_gain * pooled], -1).unsqueeze(2)

    def prompt_vectors(self, vectors: Tensor) -> Tensor:
        return vectors[..., : self.config.hidden_size]


__all__ = ["TextSASRecConfig", "TextSASRecModel"]
