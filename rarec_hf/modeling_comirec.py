"""ComiRec (Cen et al., 2020, arXiv 2005.09347): several interests a user, by self-attention or dynamic routing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_id_encoders import ComiRecConfig
from .id_encoder import IDEncoderModel


class SelfAttentiveInterests(nn.Module):
    """
    V = softmax(W_2 tanh(W_1 (H + P)))^T H (section 3.2), for every prefix of a history at once: a softmax over the
    first t items is a running sum of exponentials over a running sum.
    """

    def __init__(self, config: ComiRecConfig) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(config.max_history, config.hidden_size)
        self.hidden = nn.Linear(config.hidden_size, config.attention_size, bias=False)
        self.weights = nn.Linear(config.attention_size, config.interests, bias=False)

    def forward(self, embedded: Tensor, real: Tensor) -> Tensor:
        placed = embedded + self.position_embeddings.weight[: embedded.shape[1]]
        logits = self.weights(torch.tanh(self.hidden(placed))).masked_fill(~real.unsqueeze(-1), float("-inf"))
        # Relative to the largest so far would change within the sum; relative to the row's largest underflows only
        # where an item weighs nothing beside a later one, so the sums run in double precision
        weight = (logits - logits.amax(1, keepdim=True).clamp(min=-1e30)).double().exp()  # (batch, length, interests)
        sums = (weight.unsqueeze(-1) * embedded.unsqueeze(2)).cumsum(1)
        return (sums / weight.cumsum(1).unsqueeze(-1).clamp(min=1e-300)).to(embedded)


class RoutedInterests(nn.Module):
    """Dynamic routing of items to interest capsules (section 3.1, algorithm 1), for every prefix of a history."""

    def __init__(self, config: ComiRecConfig) -> None:
        super().__init__()
        self.iterations, self.interests = config.routing_iterations, config.interests
        # One transformation an interest and position, as the authors' code has it
        size = config.hidden_size
        self.transform = nn.Parameter(torch.empty(config.max_history, config.interests, size, size))

    def forward(self, embedded: Tensor, real: Tensor) -> Tensor:
        batch, length, _ = embedded.shape
        sent = torch.einsum("lkde,ble->bkld", self.transform[:length], embedded)  # (batch, interests, length, size)
        routed, causal = sent.detach(), torch.ones(length, length, dtype=torch.bool, device=embedded.device).tril()
        # For each prefix t (dim 2), how much of its item l (dim 3) goes to each interest (dim 1)
        logits = embedded.new_zeros(batch, self.interests, length, length)
        seen = (causal & real.unsqueeze(1)).unsqueeze(1)
        for iteration in range(self.iterations):
            last = iteration == self.iterations - 1
            weights = logits.softmax(1).masked_fill(~seen, 0.0)
            capsules = squash(weights @ (sent if last else routed))  # (batch, interests, length, size)
            if not last:
                logits = logits + capsules @ routed.transpose(-1, -2)
        return capsules.transpose(1, 2)


def squash(vectors: Tensor) -> Tensor:
    """Lengths into [0, 1), directions kept."""
    square = vectors.square().sum(-1, keepdim=True)
    return vectors * square / (1 + square) / torch.sqrt(square + 1e-9)


class ComiRecModel(IDEncoderModel):
    """K interest vectors after each item; the best of them scores an item, and the target's is the one that learns."""

    config_class = ComiRecConfig
    base_model_prefix = "comirec"

    def __init__(self, config: ComiRecConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)
        routed = config.variant == "dynamic_routing"
        self.extract = RoutedInterests(config) if routed else SelfAttentiveInterests(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RoutedInterests):
            init.normal_(module.transform, std=self.config.hidden_size**-0.5)

    def position_vectors(self, history: Tensor) -> Tensor:
        return self.extract(self.dropout(self.embedded(history)), history >= 0)


__all__ = ["ComiRecConfig", "ComiRecModel"]
