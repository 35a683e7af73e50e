"""BERT4Rec (Sun et al., 2019, arXiv 1904.06690): attention in both directions over a history with masked items."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_id_encoders import BERT4RecConfig
from .id_encoder import IDEncoderModel
from .modeling_sasrec import transformer_blocks


class BERT4RecModel(IDEncoderModel):
    """
    The user vector is the state at a mask put behind the history. Positions are counted from the end, the mask being
    the first, so that a history reads the same whatever its length.
    """

    config_class = BERT4RecConfig
    base_model_prefix = "bert4rec"

    def __init__(self, config: BERT4RecConfig) -> None:
        super().__init__(config)
        self.mask_embedding = nn.Parameter(torch.empty(config.hidden_size))
        self.position_embeddings = nn.Embedding(config.max_history + 1, config.hidden_size)
        self.embedding_norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = transformer_blocks(config, norm_first=False)
        self.transform = nn.Sequential(
            nn.Linear(config.hidden_size, config.hidden_size), nn.GELU(), nn.LayerNorm(config.hidden_size)
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.normal_(self.mask_embedding, std=self.config.initializer_range)

    def states(self, windows: Tensor, masked: Tensor) -> Tensor:
        """
        Args:
            windows (`torch.LongTensor` of shape `(batch, length)`): item indices, right-padded with -1.
            masked (`torch.BoolTensor` of shape `(batch, length)`): where the mask stands instead of an item or of
                padding.

        Returns:
            `(batch, length, hidden_size)`.
        """
        real = (windows >= 0) | masked
        embedded = torch.where(masked.unsqueeze(-1), self.mask_embedding, self.look_up(windows.clamp(min=0)))
        place = (real.sum(1, keepdim=True) - 1 - torch.arange(windows.shape[1], device=windows.device)).clamp(min=0)
        hidden = self.dropout(self.embedding_norm(embedded + self.position_embeddings(place)))
        return self.transform(self.blocks(hidden, src_key_padding_mask=~real))

    def user_vectors(self, history: Tensor, users: Tensor | None = None) -> Tensor:
        self.embedded(history)  # its checks
        length = (history >= 0).sum(1)
        windows = nn.functional.pad(history, (0, 1), value=-1)
        masked = torch.zeros_like(windows, dtype=torch.bool).scatter(1, length.unsqueeze(1), True)
        # Fused attention would refuse rows of padding only; there are none, as each row has its mask
        return (self.states(windows, masked)[masked] * (length > 0).unsqueeze(-1)).unsqueeze(1)

    def position_vectors(self, history: Tensor) -> Tensor:
        """Each prefix is a pass of its own: what is read in both directions cannot be shared between them."""
        batch, length = history.shape
        ends = torch.arange(1, length + 1, device=history.device)
        prefixes = history.unsqueeze(1).expand(-1, length, -1)
        prefixes = prefixes.masked_fill(torch.arange(length, device=history.device) >= ends.view(1, -1, 1), -1)
        vectors = self.user_vectors(prefixes.reshape(batch * length, length))
        return vectors.view(batch, length, 1, -1)

    def training_vectors(self, history: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The masked items of the windows, each a history and the label of its last position (the Cloze task)."""
        self.embedded(history)
        windows = torch.cat([history[:, :1], torch.where(labels != -100, labels, -1)], 1)
        length = (windows >= 0).sum(1, keepdim=True)
        if not bool((length > 1).any()):
            raise ValueError("No label is given (all are -100): a batch needs histories of at least two items.")
        real, chance = windows >= 0, torch.rand(windows.shape, device=windows.device)
        masked = (chance < self.config.mask_probability) & real
        last = torch.arange(windows.shape[1], device=windows.device) == length - 1
        only_last = torch.rand(len(windows), 1, device=windows.device) < self.config.last_item_share
        # A window without any mask would teach nothing: its last item is masked
        masked = torch.where(only_last | ~masked.any(1, keepdim=True), last & (length > 1), masked)
        return self.states(windows, masked)[masked].unsqueeze(1), windows[masked]


__all__ = ["BERT4RecConfig", "BERT4RecModel"]
