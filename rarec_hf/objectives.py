"""Training objectives: ranking over the pairs of a batch, and the per-layer alignment of soft prompts with text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def bpr_in_batch(scores: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """
    BPR over in-batch pairs: the mean of -ln sigmoid(y_ui+ - y_ui-) (RA-Rec, L_p; Rendle et al., 2009).

    Args:
        scores (`torch.FloatTensor` of shape `(batch, n_items)`): each user against the items of the batch.
        targets (`torch.LongTensor` of shape `(batch,)`): column of each user's target.
        negatives (`torch.BoolTensor` of shape `(batch, n_items)`): which columns are negatives of which user.

    Returns:
        The mean over pairs; zero for a batch without any negative, such as a last batch of one sample.
    """
    if not bool(negatives.any()):
        return scores.sum() * 0.0
    positive = scores.gather(1, targets.unsqueeze(1))  # (batch, 1)
    return -nn.functional.logsigmoid(positive - scores)[negatives].mean()


OBJECTIVES = {"bpr": bpr_in_batch}


def layerwise_info_nce(
    pooled_values: Sequence[Tensor], text_values: Sequence[Tensor], temperature: float, same: Tensor | None = None
) -> Tensor:
    """
    The alignment losses L_ua and L_ia: at every layer an InfoNCE between a row's soft prompt and its own text,
    other rows as negatives.

    The paper compares soft prompts with hidden states, which differ in width and meaning. Both sides are taken where
    they are comparable: the projected values p^l, pooled over the row's ID vectors, against the values that the frozen
    backbone makes of the hard prompt alone, averaged over its tokens (the value projection of the mean text state).
    The contextual instruction is the same in every row and left out.

    Args:
        pooled_values: per layer `(batch, heads * value_dim)`.
        text_values: per layer the same shape, without gradient.
        temperature (`float`): tau.
        same (`torch.BoolTensor` of shape `(batch, batch)`, *optional*): rows that show the same thing and so are not
            negatives.
    """
    losses = []
    for prompt, text in zip(pooled_values, text_values, strict=True):
        prompt, text = nn.functional.normalize(prompt.float(), dim=-1), nn.functional.normalize(text.float(), dim=-1)
        similarity = prompt @ text.to(prompt.device).T / temperature  # (batch, batch)
        if same is not None:
            others = same.to(prompt.device) & ~torch.eye(len(same), dtype=torch.bool, device=prompt.device)
            similarity = similarity.masked_fill(others, float("-inf"))
        losses.append(nn.functional.cross_entropy(similarity, torch.arange(len(prompt), device=prompt.device)))
    return torch.stack([loss.to(losses[0].device) for loss in losses]).mean()


__all__ = ["OBJECTIVES", "bpr_in_batch", "layerwise_info_nce"]
