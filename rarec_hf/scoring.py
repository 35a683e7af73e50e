"""
What a score is made of: the paper's dot product of last states, states through a trained head, or the ID encoder's own
score plus what the LLM adds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import initialization as init

# A cosine must weigh several logits to matter beside an ID encoder's; in this unit a gain gets there at the heads'
# learning rate.
GAIN_UNIT = 32.0


class DotProductScore(nn.Module):
    """
    The paper's score y_ui = h_u^L . h_i^L of the last layer's last-token states. It has no parameters.

    Raw products of 576-wide states are in the hundreds, where a sigmoid is flat; the objective sees them divided by
    the width, which changes no ranking.
    """

    uses_encoder, uses_text, user_side = False, False, ()

    def __init__(self, hidden_size: int, text_dim: int, score_dim: int, n_text_layers: int = 1) -> None:
        super().__init__()
        self.width, self.objective_scale = hidden_size, 1.0 / hidden_size

    def user(self, state: Tensor, pooled_text: Tensor | None) -> Tensor:
        return state

    def item(self, state: Tensor, text: Tensor | None) -> Tensor:
        return state


class TrainedHeads(nn.Module):
    """Heads A and B on the readout states of both sides; what they give has length 1."""

    def __init__(self, hidden_size: int, score_dim: int) -> None:
        super().__init__()
        self.state_norm = nn.LayerNorm(hidden_size, elementwise_affine=False)
        self.user_head = nn.Linear(hidden_size, score_dim, bias=False)
        self.item_head = nn.Linear(hidden_size, score_dim, bias=False)

    def user_readout(self, state: Tensor) -> Tensor:
        return nn.functional.normalize(self.user_head(self.state_norm(state)), dim=-1)

    def item_readout(self, state: Tensor) -> Tensor:
        return nn.functional.normalize(self.item_head(self.state_norm(state)), dim=-1)


class TrainedHeadScore(TrainedHeads):
    """
    `y_ui = s cos(A h_u, B h_i)`: both towers' readout states through trained heads, without the ID encoder's score. s
    is learnt and starts at 16, where a softmax over a batch is neither flat nor sharp.
    """

    uses_encoder, uses_text, objective_scale = False, False, 1.0
    user_side = ("log_scale", "user_head")

    def __init__(self, hidden_size: int, text_dim: int, score_dim: int, n_text_layers: int = 1) -> None:
        super().__init__(hidden_size, score_dim)
        self.width = score_dim
        self.log_scale = nn.Parameter(torch.zeros(()))

    @torch.no_grad()
    def reset(self) -> None:
        init.zeros_(self.log_scale)

    def user(self, state: Tensor, pooled_text: Tensor | None) -> Tensor:
        return 16 * self.log_scale.exp() * self.user_readout(state)

    def item(self, state: Tensor, text: Tensor | None) -> Tensor:
        return self.item_readout(state)


class EncoderPlusLLMScore(TrainedHeads):
    """
    The LLM's part of `y_ui = F(u, i) + g_t cos(q_u, t_i) + g_h cos(A h_u, B h_i)`, F being the ID encoder's own score.

    t_i is the item's text state from the frozen LLM (mean over tokens), centred and whitened layer by layer; q_u is
    the recency-weighted mean of the history's; h_u and h_i are the readout states that the soft prompts steer. Both
    gains start at zero, so that an untrained model ranks exactly as its ID encoder and learns only what the text adds;
    cosines bound what a short training can do wrong. Whitening answers the narrow cone that a frozen LLM's states
    crowd in.
    """

    uses_encoder, uses_text, objective_scale = True, True, 1.0
    user_side = ("gains", "user_head")  # what item representations do not depend on

    def __init__(self, hidden_size: int, text_dim: int, score_dim: int, n_text_layers: int = 1) -> None:
        super().__init__(hidden_size, score_dim)
        of_layer = min(text_dim, hidden_size)
        self.text_dim = n_text_layers * of_layer
        self.width = self.text_dim + score_dim
        self.register_buffer("text_mean", torch.zeros(n_text_layers, hidden_size))
        self.register_buffer("text_whitening", torch.eye(hidden_size, of_layer).repeat(n_text_layers, 1, 1))
        self.gains = nn.Parameter(torch.zeros(2))  # of text and readout states, in units of GAIN_UNIT

    @torch.no_grad()
    def reset(self) -> None:
        init.zeros_(self.gains)

    @torch.no_grad()
    def set_gains(self, text: float, readout: float) -> None:
        """Sets g_t and g_h, in the score's own scale."""
        self.gains.copy_(torch.tensor([text, readout]) / GAIN_UNIT)

    def get_gains(self) -> tuple[float, float]:
        """g_t and g_h, in the score's own scale."""
        text, readout = (self.gains.detach() * GAIN_UNIT).tolist()
        return text, readout

    @torch.no_grad()
    def fit_whitening(self, text_states: Tensor, ridge: float = 0.1) -> None:
        """
        Centres text states `(n, n_layers * hidden)` of items, keeps each layer's directions of largest variance and
        whitens these; uses no interactions.

        Args:
            ridge (`float`): share of the mean variance added to every direction, against the noise of directions that
                hardly vary.
        """
        if len(text_states) < 2:
            raise ValueError(f"Whitening needs the text states of at least 2 items, got {len(text_states)}.")
        width = self.text_whitening.shape[2]
        layers = text_states.double().unflatten(1, self.text_mean.shape).unbind(1)
        for states, mean, whitening in zip(layers, self.text_mean, self.text_whitening, strict=True):
            centred = states - states.mean(0)
            variance, directions = torch.linalg.eigh(centred.T @ centred / len(states))  # ascending
            variance = variance.clamp(min=0)
            floor = max(ridge * variance.mean().item(), torch.finfo(torch.float32).tiny)
            mean.copy_(states.mean(0))
            whitening.copy_(directions[:, -width:] * (variance + floor).rsqrt()[-width:])

    def text(self, text_state: Tensor) -> Tensor:
        """Text states `(n, n_layers * hidden)` -> `(n, text_dim)`, each layer centred, whitened and of one length, the
        whole of length 1."""
        centred = text_state.unflatten(1, self.text_mean.shape) - self.text_mean
        whitened = torch.einsum("nlh,lhw->nlw", centred, self.text_whitening)
        return nn.functional.normalize(nn.functional.normalize(whitened, dim=-1).flatten(1), dim=-1)

    def user(self, state: Tensor, pooled_text: Tensor) -> Tensor:
        """`(batch, width)` from readout states and the pooled text `(batch, text_dim)` of the history."""
        readout = self.user_readout(state)
        text_gain, readout_gain = GAIN_UNIT * self.gains
        return torch.cat([text_gain * pooled_text, readout_gain * readout], -1)

    def item(self, state: Tensor, text: Tensor) -> Tensor:
        """`(n, width)` from readout states `(n, hidden)` and text vectors `(n, text_dim)`."""
        return torch.cat([text, self.item_readout(state)], -1)

    def parts(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """What text and readout add, each `(batch, n)`, to the scores of users' and items' representations."""
        of_text, of_readout = slice(self.text_dim), slice(self.text_dim, None)
        return users[:, of_text] @ items[:, of_text].T, users[:, of_readout] @ items[:, of_readout].T


SCORES = {
    "dot_product": DotProductScore,
    "trained_head": TrainedHeadScore,
    "encoder_plus_llm": EncoderPlusLLMScore,
}


__all__ = ["GAIN_UNIT", "SCORES", "DotProductScore", "EncoderPlusLLMScore", "TrainedHeadScore", "TrainedHeads"]
