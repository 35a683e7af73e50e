"""Training objectives: ranking among the items of a batch or the catalogue, and aligning soft prompts with text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LOGITS_AT_ONCE = 2**24  # of the full catalogue: 64 MiB in fp32
MOST_ROWS = 256


def checked_negatives(scores: Tensor, targets: Tensor, negatives: Tensor | None = None) -> Tensor:
    """
    The negatives of [`bpr`], all columns but the target if none are given.

    Raises:
        ValueError: `targets` or `negatives` of another shape than the scores ask for, or a target that is no column.
    """
    n_users, n_items = scores.shape
    if targets.shape != (n_users,):
        shape = tuple(targets.shape)
        raise ValueError(f"Expected a target for each of {n_users} users, shape ({n_users},), got {shape}.")
    if bool(((targets < 0) | (targets >= n_items)).any()):
        raise ValueError(
            f"Targets are places in `items`, within 0..{n_items - 1}, got {int(targets.min())}..{int(targets.max())}. "
            "Are they item indices?"
        )
    if negatives is None:
        return torch.arange(n_items, device=targets.device) != targets.unsqueeze(1)
    if negatives.shape != scores.shape:
        raise ValueError(f"Expected `negatives` of shape {tuple(scores.shape)}, got {tuple(negatives.shape)}.")
    return negatives


def bpr(scores: Tensor, targets: Tensor, negatives: Tensor, sampling_rate: float = 1.0) -> Tensor:
    """
    BPR over pairs: the mean of -ln sigmoid(y_ui+ - y_ui-) (RA-Rec, L_p; Rendle et al., 2009).

    Args:
        scores (`torch.FloatTensor` of shape `(batch, n_items)`): each user against the items of the batch.
        targets (`torch.LongTensor` of shape `(batch,)`): column of each user's target.
        negatives (`torch.BoolTensor` of shape `(batch, n_items)`): which columns are negatives of which user.
        sampling_rate (`float`): share of all negatives that stand in the batch; not used here.

    Returns:
        The mean over pairs; zero for a batch without any negative, such as a last batch of one sample.
    """
    if not bool(negatives.any()):
        return scores.sum() * 0.0
    positive = scores.gather(1, targets.unsqueeze(1))  # (batch, 1)
    return -nn.functional.logsigmoid(positive - scores)[negatives].mean()


def cross_entropy(scores: Tensor, targets: Tensor, negatives: Tensor, sampling_rate: float = 1.0) -> Tensor:
    """Softmax cross-entropy of each target against its negatives; arguments as [`bpr`]. Subtract the log of the items'
    chances from `scores` first where negatives were not drawn evenly."""
    candidates = negatives.scatter(1, targets.unsqueeze(1), True)
    return nn.functional.cross_entropy(scores.masked_fill(~candidates, float("-inf")), targets)


def gbce(scores: Tensor, targets: Tensor, negatives: Tensor, sampling_rate: float = 1.0) -> Tensor:
    """
    Generalised binary cross-entropy (Petrov and Macdonald, 2023, arXiv 2308.07192) with calibration t = 0.75: the mean
    over users of -(beta ln sigmoid(y+) + sum ln(1 - sigmoid(y-))), beta = a (t (1 - 1/a) + 1/a), a being the sampling
    rate. Plain binary cross-entropy over few negatives makes every score overconfident. Arguments as [`bpr`].
    """
    t, a = 0.75, sampling_rate
    beta = a * (t * (1 - 1 / a) + 1 / a)
    positive = scores.gather(1, targets.unsqueeze(1)).squeeze(1)
    against = torch.where(negatives, nn.functional.logsigmoid(-scores), 0.0).sum(1)
    return -(beta * nn.functional.logsigmoid(positive) + against).mean()


OBJECTIVES = {"bpr": bpr, "cross_entropy": cross_entropy, "gbce": gbce}


def full_cross_entropy(states: Tensor, item_vectors: Tensor, targets: Tensor) -> Tensor:
    """
    Mean cross-entropy of `targets` `(n,)` over the full catalogue, from states `(n, hidden)` and item vectors
    `(n_items, hidden)`.

    The logits of a few rows exist at a time and the gradients are worked out beside them: memory does not grow with
    `n * n_items` in the backward pass either, and a table of a million items has one gradient, not the two copies that
    PyTorch's own `linear_cross_entropy` (2.13) leaves.
    """
    return _FullCrossEntropy.apply(states, item_vectors, targets)


class _FullCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, item_vectors: Tensor, targets: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[:2]
        state_grad = torch.empty_like(states) if any(wanted) else None
        item_grad = torch.zeros_like(item_vectors) if wanted[1] else None
        rows = max(1, min(MOST_ROWS, LOGITS_AT_ONCE // len(item_vectors)))
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, len(states), rows):
            part, target = states[start : start + rows], targets[start : start + rows].unsqueeze(1)
            logits = (part @ item_vectors.T).float()
            log_sum = logits.logsumexp(1, keepdim=True)
            total += (log_sum - logits.gather(1, target)).sum()
            if state_grad is None:
                continue
            # Softmax less the target's 1 is the gradient of the logits
            logits = logits.sub_(log_sum).exp_()
            logits.scatter_add_(1, target, torch.full_like(target, -1, dtype=logits.dtype))
            logits = logits.to(states.dtype)
            state_grad[start : start + rows] = logits @ item_vectors
            if item_grad is not None:
                item_grad.addmm_(logits.T, part)
        n = max(1, len(states))
        ctx.gradients = [gradient if gradient is None else gradient.div_(n) for gradient in (state_grad, item_grad)]
        return total / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("The gradients of `full_cross_entropy` can be taken once; compute the loss again.")
        (state_grad, item_grad), ctx.gradients = ctx.gradients, None
        return (
            state_grad.mul_(scale) if ctx.needs_input_grad[0] else None,
            item_grad.mul_(scale) if ctx.needs_input_grad[1] else None,
            None,
        )


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


__all__ = [
    "OBJECTIVES",
    "bpr",
    "checked_negatives",
    "cross_entropy",
    "full_cross_entropy",
    "gbce",
    "layerwise_info_nce",
]
