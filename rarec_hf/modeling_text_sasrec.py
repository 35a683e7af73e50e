"""SASRec over what an item's text says and its ID vector together, as UniSRec (arXiv 2206.05941) and its like do."""

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
        text_source (`str`): what made them, for people to read.
    """

    model_type = "rarec_text_sasrec"

    text_dim: int = 256
    text_source: str = ""

    def validate_texts(self):
        if self.text_dim < 1:
            raise ValueError(f"`text_dim` must be at least 1, got {self.text_dim}.")


class TextSASRecModel(SASRecModel):
    """
    SASRec whose item vector is `e_i + W t_i`: a trained ID embedding plus a trained projection of a frozen text
    vector. An item that nobody chose yet is where its text puts it.

    The text vectors are part of the weights; [`set_texts`] gives them before training.
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
            # Text vectors have length 1, so their projections are as long as the weights' columns
            init.normal_(module.weight, std=0.1)

    @torch.no_grad()
    def set_texts(self, texts: Tensor) -> None:
        """
        Gives the items' text vectors `(n_items, text_dim)`, best centred and of length 1.

        Raises:
            ValueError: of another shape, or not finite.
        """
        if texts.shape != self.texts.shape or not bool(torch.isfinite(texts).all()):
            raise ValueError(
                f"Expected finite text vectors of shape {tuple(self.texts.shape)}, one an item, got "
                f"{tuple(texts.shape)}."
            )
        self.texts.copy_(texts)

    def look_up(self, items: Tensor) -> Tensor:
        return super().look_up(items) + self.text_projection(self.texts[items])

    def item_vectors(self) -> Tensor:
        return self.item_embeddings.weight + self.text_projection(self.texts)


__all__ = ["TextSASRecConfig", "TextSASRecModel"]
