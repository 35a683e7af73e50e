"""SASRec (Kang and McAuley, 2018, arXiv 1808.09781): causal self-attention over a history."""

# No `from __future__ import annotations` here: `strict` checks a field only where its annotation is a type, not a
# string.

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import initialization as init

from .id_encoder import IDEncoderConfig, IDEncoderModel


@strict
class SASRecConfig(IDEncoderConfig):
    """
    Fields of [`IDEncoderConfig`], and

    Args:
        num_hidden_layers (`int`): transformer blocks.
        num_attention_heads (`int`): attention heads of a block.
    """

    model_type = "rarec_sasrec"

    num_hidden_layers: int = 2
    num_attention_heads: int = 2

    def validate_heads(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` ({self.hidden_size}) must be a multiple of `num_attention_heads` "
                f"({self.num_attention_heads})."
            )


class SASRecModel(IDEncoderModel):
    """Causal self-attention over a history of item indices; the item embeddings are also the output weights."""

    config_class = SASRecConfig
    base_model_prefix = "sasrec"

    def __init__(self, config: SASRecConfig):
        super().__init__(config)
        self.position_embeddings = nn.Embedding(config.max_history, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        block = nn.TransformerEncoderLayer(
            config.hidden_size,
            config.num_attention_heads,
            dim_feedforward=4 * config.hidden_size,
            dropout=config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(block, config.num_hidden_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, nn.MultiheadAttention):
            init.normal_(module.in_proj_weight, std=self.config.initializer_range)
            init.zeros_(module.in_proj_bias)

    def states(self, history: Tensor) -> Tensor:
        """States `(batch, length, hidden_size)` after each item of right-padded histories `(batch, length)`."""
        embedded, length = self.embedded(history), history.shape[1]
        hidden = self.dropout(embedded * self.config.hidden_size**0.5 + self.position_embeddings.weight[:length])
        causal = nn.Transformer.generate_square_subsequent_mask(length, device=history.device, dtype=hidden.dtype)
        return self.norm(self.blocks(hidden, mask=causal, is_causal=True))

    def position_vectors(self, history: Tensor) -> Tensor:
        return self.states(history).unsqueeze(2)


__all__ = ["SASRecConfig", "SASRecModel"]
