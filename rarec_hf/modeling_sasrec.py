"""SASRec (Kang and McAuley, 2018, arXiv 1808.09781): causal self-attention over a history."""

from __future__ import annotations

from torch import Tensor, nn

from .configuration_id_encoders import SASRecConfig
from .id_encoder import IDEncoderModel


def transformer_blocks(config: SASRecConfig, norm_first: bool) -> nn.TransformerEncoder:
    """The blocks that a config with the fields of [`SASRecConfig`] describes, batch first."""
    block = nn.TransformerEncoderLayer(
        config.hidden_size,
        config.num_attention_heads,
        dim_feedforward=config.intermediate_size or 4 * config.hidden_size,
        dropout=config.dropout,
        activation="gelu",
        batch_first=True,
        norm_first=norm_first,
    )
    block.self_attn.dropout = config.attention_dropout
    return nn.TransformerEncoder(block, config.num_hidden_layers, enable_nested_tensor=False)


class OriginalBlock(nn.Module):
    """x' = LN(x) + attention(LN(x), x, x); then with y = LN(x'): y + W_2 relu(W_1 y + b_1) + b_2 (section 3.2, and the
    authors' code for where the norms stand)."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size or config.hidden_size
        self.attention_norm = nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(
            size, config.num_attention_heads, dropout=config.attention_dropout, batch_first=True
        )
        self.feed_forward_norm = nn.LayerNorm(size)
        self.feed_forward = nn.Sequential(
            nn.Linear(size, inner),
            nn.Dropout(config.dropout),
            nn.ReLU(),
            nn.Linear(inner, size),
            nn.Dropout(config.dropout),
        )

    def forward(self, hidden: Tensor, causal: Tensor) -> Tensor:
        queries = self.attention_norm(hidden)
        read, _ = self.attention(queries, hidden, hidden, attn_mask=causal, is_causal=True, need_weights=False)
        hidden = self.feed_forward_norm(queries + read)
        return hidden + self.feed_forward(hidden)


class SASRecModel(IDEncoderModel):
    """Causal self-attention over a history of item indices; the item embeddings are also the output weights."""

    config_class = SASRecConfig
    base_model_prefix = "sasrec"

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__(config)
        self.position_embeddings = nn.Embedding(config.max_history, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = (
            nn.ModuleList(OriginalBlock(config) for _ in range(config.num_hidden_layers))
            if config.block == "original"
            else transformer_blocks(config, norm_first=True)
        )
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def states(self, history: Tensor) -> Tensor:
        """States `(batch, length, hidden_size)` after each item of right-padded histories `(batch, length)`."""
        embedded, length = self.embedded(history), history.shape[1]
        hidden = self.dropout(embedded * self.config.hidden_size**0.5 + self.position_embeddings.weight[:length])
        causal = nn.Transformer.generate_square_subsequent_mask(length, device=history.device, dtype=hidden.dtype)
        if self.config.block == "pre_norm":
            return self.norm(self.blocks(hidden, mask=causal, is_causal=True))
        for block in self.blocks:
            hidden = block(hidden, causal)
        return self.norm(hidden)

    def position_vectors(self, history: Tensor) -> Tensor:
        return self.states(history).unsqueeze(2)


__all__ = ["SASRecConfig", "SASRecModel"]
