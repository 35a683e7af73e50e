"""
SASRec (Kang and McAuley, 2018, arXiv 1808.09781) as a small `PreTrainedModel`: the ID encoder whose vectors become
soft prompts.
"""

# No `from __future__ import annotations` here: `strict` checks a field only where its annotation is a type, not a
# string.

from dataclasses import dataclass

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

LOGITS_AT_ONCE = 4 * 2**20


@strict
class SASRecConfig(PreTrainedConfig):
    """
    Args:
        n_items (`int`): size of the catalogue; item indices are 0..n_items-1.
        hidden_size (`int`): width of the ID vectors.
        num_hidden_layers (`int`): transformer blocks.
        num_attention_heads (`int`): attention heads of a block.
        max_history (`int`): how many of the latest items are read.
        dropout (`float`): on embeddings, attention and feed-forward outputs, in training.
        training_data (`str`, *optional*): digest of the (user, position) pairs it was trained on. The alignment
            refuses an encoder that has seen its targets, and this is how it knows.
        catalogue (`str`, *optional*): digest of the item ids in catalogue order; vectors of another catalogue are
            refused.
    """

    model_type = "rarec_sasrec"

    n_items: int = 1
    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    max_history: int = 50
    dropout: float | int = 0.3
    initializer_range: float | int = 0.02
    training_data: str | None = None
    catalogue: str | None = None

    def validate_sizes(self):
        if self.n_items < 1 or self.max_history < 1:
            raise ValueError(
                f"`n_items` and `max_history` must be at least 1, got {self.n_items} and {self.max_history}."
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` ({self.hidden_size}) must be a multiple of `num_attention_heads` "
                f"({self.num_attention_heads})."
            )


@dataclass
class IDEncoderOutput(ModelOutput):
    """
    Args:
        loss (`torch.FloatTensor`, *optional*): mean full cross-entropy over the catalogue, when labels are given.
        user_vectors (`torch.FloatTensor` of shape `(batch, interests, hidden_size)`): one vector an interest (SASRec:
            one).
    """

    loss: Tensor | None = None
    user_vectors: Tensor | None = None


class SASRecModel(PreTrainedModel):
    """
    Causal self-attention over a history of item indices; the item embeddings are also the output weights.

    Histories are `(batch, length)` item indices, oldest first, padded on the right with -1, so that the causal mask
    alone keeps padding out.
    """

    config_class = SASRecConfig
    base_model_prefix = "sasrec"
    main_input_name = "history"
    accepts_loss_kwargs = False

    def __init__(self, config: SASRecConfig):
        super().__init__(config)
        self.item_embeddings = nn.Embedding(config.n_items, config.hidden_size)
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
        if history.dim() != 2 or history.shape[1] == 0:
            raise ValueError(f"Expected histories of shape (batch, length >= 1), got {tuple(history.shape)}.")
        if history.shape[1] > self.config.max_history:
            raise ValueError(
                f"Histories of {history.shape[1]} items exceed `max_history` ({self.config.max_history}); cut them."
            )
        lowest, highest = int(history.min()), int(history.max())
        if lowest < -1 or highest >= self.config.n_items:
            raise ValueError(
                f"Item indices must be within 0..{self.config.n_items - 1} (-1 pads), got {lowest}..{highest}."
            )
        if bool(((history[:, 1:] >= 0) & (history[:, :-1] < 0)).any()):
            raise ValueError("Histories must be padded on the right: a padding (-1) stands before an item.")
        length = history.shape[1]
        hidden = self.item_embeddings(history.clamp(min=0)) * (history >= 0).unsqueeze(-1)
        hidden = self.dropout(hidden * self.config.hidden_size**0.5 + self.position_embeddings.weight[:length])
        causal = nn.Transformer.generate_square_subsequent_mask(length, device=history.device, dtype=hidden.dtype)
        return self.norm(self.blocks(hidden, mask=causal, is_causal=True))  # (batch, length, hidden)

    def user_vectors(self, history: Tensor) -> Tensor:
        """User vectors `(batch, 1, hidden_size)`: the state after the latest item; zeros for an empty history."""
        length = (history >= 0).sum(1)
        hidden = self.states(history)
        last = hidden[torch.arange(len(hidden), device=hidden.device), (length - 1).clamp(min=0)]
        return (last * (length > 0).unsqueeze(-1)).unsqueeze(1)

    def item_vectors(self) -> Tensor:
        """Item vectors `(n_items, hidden_size)`."""
        return self.item_embeddings.weight

    def scores(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """
        Scores `(batch, n)` of items `(n, hidden_size)` for users `(batch, interests, hidden_size)`: the best interest
        counts.
        """
        return (user_vectors @ item_vectors.T).amax(1)

    def forward(self, history: Tensor, labels: Tensor | None = None) -> IDEncoderOutput:
        """
        Args:
            history (`torch.LongTensor` of shape `(batch, length)`): item indices, right-padded with -1.
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*): the next item at each position; -100
                where there is none.
        """
        if labels is None:
            return IDEncoderOutput(user_vectors=self.user_vectors(history))
        hidden = self.states(history)
        mask = labels != -100
        if not bool(mask.any()):
            raise ValueError("No label is given (all are -100): a batch needs histories of at least two items.")
        return IDEncoderOutput(loss=full_cross_entropy(hidden[mask], self.item_vectors(), labels[mask]))


def full_cross_entropy(states: Tensor, item_vectors: Tensor, targets: Tensor) -> Tensor:
    """
    Mean cross-entropy of `targets` `(n,)` over the full catalogue, from states `(n, hidden)` and item vectors
    `(n_items, hidden)`.

    Worked out a few MiB of logits at a time: on CPUs, fresh blocks of hundreds of MiB cost more than the arithmetic.
    """
    rows = max(1, LOGITS_AT_ONCE // len(item_vectors))
    total = states.new_zeros(())
    for part, target in zip(states.split(rows), targets.split(rows), strict=True):
        total = total + nn.functional.cross_entropy((part @ item_vectors.T).float(), target, reduction="sum")
    return total / max(1, len(targets))


__all__ = ["IDEncoderOutput", "SASRecConfig", "SASRecModel", "full_cross_entropy"]
