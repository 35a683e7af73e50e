"""Several scorers as one, with weights fitted on validation targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .evaluator import Scorer
from .ranks import flatten_histories

MOST_SCORES = 2**28  # kept while weights are fitted: 1 GiB in fp32


class Blend:
    """
    `sum_p w_p * scorer_p`, a scorer itself.

    Args:
        scorers (`list[Scorer]`): each histories in, scores `(n, n_items)` out; none that takes users.
        weights (`list[float]`): one a scorer.
    """

    def __init__(self, scorers: Sequence[Scorer], weights: Sequence[float]) -> None:
        if len(scorers) != len(weights) or not scorers:
            raise ValueError(f"Expected one weight a scorer, got {len(weights)} for {len(scorers)}.")
        self.scorers, self.weights = list(scorers), [float(weight) for weight in weights]

    def __call__(self, histories: Sequence[np.ndarray]) -> Tensor:
        return sum(
            weight * torch.as_tensor(scorer(histories)).float()
            for scorer, weight in zip(self.scorers, self.weights, strict=True)
        )

    @classmethod
    def fit(
        cls,
        scorers: Sequence[Scorer],
        histories: Sequence[np.ndarray],
        targets: Sequence[int] | np.ndarray,
        batch_size: int = 256,
        exclude_seen: bool = True,
    ) -> Blend:
        """
        The weights, none below 0, under which the targets are likeliest among the full catalogue (softmax of the
        scores): a convex problem with one number a scorer. Uses as many of the rows, from the first on, as fit the
        memory of 2**28 scores.

        Args:
            histories, targets: what no scorer was trained on.
        """
        scores = _all_scores(scorers, histories, targets, batch_size, exclude_seen)  # (parts, n, n_items)
        labels = torch.as_tensor(np.asarray(targets[: scores.shape[1]]), dtype=torch.long)
        weights = fit_weights(lambda rows: scores[:, rows], labels, spread(scores), batch_size)
        return cls(scorers, weights.tolist())


def spread(scores: Tensor) -> Tensor:
    """The standard deviation of each part of `(parts, n, n_items)`, without what -inf in the first one leaves out."""
    finite = torch.isfinite(scores[0])
    return torch.stack([part[finite].std() for part in scores]).clamp(min=1e-12)


def fit_weights(parts: Callable[[slice], Tensor], labels: Tensor, scale: Tensor, batch_size: int = 256) -> Tensor:
    """
    Weights `(parts,)`, none below 0, that minimise the cross-entropy of `labels` `(n,)` under the weighted sum of
    scores: a convex problem, also where parts say much the same.

    Args:
        parts (`Callable`): the scores `(parts, rows, n_items)` of a slice of rows, of which -inf in the first part
            leaves an item out. Asked for again and again; nothing is kept.
        scale (`torch.FloatTensor` of shape `(parts,)`): about each part's standard deviation, for the search.
    """
    active = torch.ones(len(scale), dtype=torch.bool, device=scale.device)
    while True:
        weights = _unbounded(parts, active, labels, scale[active], batch_size)
        if bool((weights >= 0).all()) or len(weights) == 1:
            break
        # One at a time: without the most harmful part another one's weight may turn out positive
        worst = active.nonzero().flatten()[(weights * scale[active]).argmin()]
        active[worst] = False
    found = torch.zeros_like(scale)
    found[active] = weights.clamp(min=0)
    return found


def _unbounded(
    parts: Callable[[slice], Tensor], active: Tensor, labels: Tensor, scale: Tensor, batch_size: int
) -> Tensor:
    weights = torch.ones_like(scale, requires_grad=True)  # in units of 1 / scale
    optimizer = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = torch.zeros((), device=scale.device)
        for start in range(0, len(labels), batch_size):
            rows = slice(start, start + batch_size)
            some = parts(rows)
            left_out, some = torch.isneginf(some[0]), some[active]
            mixed = torch.einsum("p,pni->ni", weights / scale, some.masked_fill(left_out, 0.0))
            mixed = mixed.masked_fill(left_out, float("-inf"))
            loss = torch.nn.functional.cross_entropy(mixed, labels[rows], reduction="sum") / len(labels)
            loss.backward()
            total += loss.detach()
        return total

    optimizer.step(closure)
    return (weights / scale).detach()


def _all_scores(
    scorers: Sequence[Scorer],
    histories: Sequence[np.ndarray],
    targets: Sequence[int] | np.ndarray,
    batch_size: int,
    exclude_seen: bool,
) -> Tensor:
    parts, n = [], len(histories)
    if n == 0:
        raise ValueError("There are no targets to fit the weights on.")
    start = 0
    while start < n:
        some = [np.asarray(histories[row]) for row in range(start, min(n, start + batch_size))]
        scores = torch.stack([torch.as_tensor(scorer(some)).float() for scorer in scorers])
        if exclude_seen:
            rows, items = flatten_histories(some, scores.shape[2])
            seen = torch.zeros(scores.shape[1:], dtype=torch.bool)
            seen[torch.as_tensor(rows), torch.as_tensor(items)] = True
            seen[torch.arange(len(some)), torch.as_tensor(np.asarray(targets[start : start + len(some)]))] = False
            scores = scores.masked_fill(seen, float("-inf"))
        parts.append(scores)
        start += len(some)
        if (start + batch_size) * scores.shape[2] * len(scorers) > MOST_SCORES:
            break
    return torch.cat(parts, 1)


__all__ = ["Blend", "fit_weights", "spread"]
