"""Several scorers as one, with weights fitted on validation targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .evaluator import Scorer
from .ranks import flatten_histories

MOST_SCORES = 2**28  # kept while weights are fitted: 1 GiB in fp32
SEARCH = {"maxiter": 200, "ftol": 1e-9, "gtol": 1e-6}  # what fp32 sums of losses can tell


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
    """
    The standard deviation of each part of `(parts, n, n_items)`, without what -inf in the first one leaves out; 1 for
    a part that scores everything alike.
    """
    finite = torch.isfinite(scores[0])
    values = scores[:, finite]
    alike = values.amax(1) == values.amin(1)  # a rounded mean leaves a deviation
    return torch.where(alike, 1.0, values.std(1).clamp(min=1e-12))


def fit_weights(parts: Callable[[slice], Tensor], labels: Tensor, scale: Tensor, batch_size: int = 256) -> Tensor:
    """
    Weights `(parts,)`, none below 0, that minimise the cross-entropy of `labels` `(n,)` under the weighted sum of
    scores: a convex problem, also where parts say much the same.

    Args:
        parts (`Callable`): the scores `(parts, rows, n_items)` of a slice of rows, of which -inf in the first part
            leaves an item out. Asked for again and again; nothing is kept.
        scale (`torch.FloatTensor` of shape `(parts,)`): about each part's standard deviation ([`spread`]), for the
            search.
    """
    from scipy.optimize import minimize

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean cross-entropy and its gradient, at weights in units of 1 / scale."""
        weights = torch.tensor(at, dtype=torch.float32, device=scale.device, requires_grad=True)
        total = 0.0
        for start in range(0, len(labels), batch_size):
            rows = slice(start, start + batch_size)
            some = parts(rows)
            left_out = torch.isneginf(some[0])
            mixed = torch.einsum("p,pni->ni", weights / scale, some.masked_fill(left_out, 0.0))
            mixed = mixed.masked_fill(left_out, float("-inf"))
            of_rows = torch.nn.functional.cross_entropy(mixed, labels[rows], reduction="sum") / len(labels)
            of_rows.backward()
            total += float(of_rows.detach())
        return total, weights.grad.double().cpu().numpy()

    found = minimize(
        loss, np.ones(len(scale)), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(scale), options=SEARCH
    )
    return torch.tensor(found.x, dtype=torch.float32, device=scale.device) / scale


def seen_beside(histories: Sequence[np.ndarray], targets: Sequence[int] | np.ndarray | Tensor, n_items: int) -> Tensor:
    """Which items `(n, n_items)` the ranking leaves out beside each target: those of the history but the target."""
    rows, items = flatten_histories(histories, n_items)
    seen = torch.zeros(len(histories), n_items, dtype=torch.bool)
    seen[torch.as_tensor(rows), torch.as_tensor(items)] = True
    seen[torch.arange(len(histories)), torch.as_tensor(np.asarray(targets))] = False
    return seen


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
            seen = seen_beside(some, targets[start : start + len(some)], scores.shape[2])
            scores = scores.masked_fill(seen, float("-inf"))
        parts.append(scores)
        start += len(some)
        if (start + batch_size) * scores.shape[2] * len(scorers) > MOST_SCORES:
            break
    return torch.cat(parts, 1)


__all__ = ["Blend", "fit_weights", "seen_beside", "spread"]
