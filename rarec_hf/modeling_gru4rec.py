"""GRU4Rec (Hidasi et al., 2016, arXiv 1511.06939): a recurrent network over a history."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_id_encoders import GRU4RecConfig
from .id_encoder import IDEncoderModel


class GRU4RecModel(IDEncoderModel):
    """Gated recurrent layers over item embeddings, which are also the output weights."""

    config_class = GRU4RecConfig
    base_model_prefix = "gru4rec"

    def __init__(self, config: GRU4RecConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)
        self.gru = nn.GRU(config.hidden_size, config.hidden_size, config.num_hidden_layers, batch_first=True)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.GRU):
            for name, parameter in module.named_parameters():
                if "weight" in name:
                    init.normal_(parameter, std=self.config.hidden_size**-0.5)
                else:
                    init.zeros_(parameter)

    def position_vectors(self, history: Tensor) -> Tensor:
        states, _ = self.gru(self.dropout(self.embedded(history)))
        return self.dropout(states).unsqueeze(2)


__all__ = ["GRU4RecConfig", "GRU4RecModel"]
