"""The gains of the LLM's parts, fitted on validation targets: what it adds may not be more than it is worth."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from ..modeling_rarec import RARecForSequentialRecommendation
from .ranking_trainer import RankingDataset


def fit_gains(
    model: RARecForSequentialRecommendation,
    data: RankingDataset,
    batch_size: int = 64,
    progress: bool = True,
    process: PartialState | None = None,
) -> tuple[float, float]:
    """
    Sets the two gains of `"encoder_plus_llm"` to those under which the targets are likeliest.

    In-batch pairs teach which of a few items a user prefers, not how much the answer should weigh beside the encoder
    among a whole catalogue. So the weights w of w_0 F + w_t cos_t + w_h cos_h are fitted by full cross-entropy, a
    convex problem of three numbers, and the gains are w_t / w_0 and w_h / w_0, at least 0. Needs an indexed catalogue.

    Args:
        data: histories with targets that neither the encoder nor the alignment was trained on.
        process: reads its share of the histories; every process of `accelerate launch` must call this, and fits alike.

    Returns:
        the gains of text and readout states.

    Raises:
        ValueError: the model has another score, or `data` is empty.
    """
    head = model.score_head
    if not head.uses_encoder:
        raise ValueError(f"Score {model.config.score!r} has no gains to fit.")
    if not len(data):
        raise ValueError("There are no validation targets to fit the gains on.")
    head.set_gains(1.0, 1.0)
    histories = [data.histories[row] for row in range(len(data))]
    known = data.targets.users if model.id_encoder.takes_users else None
    users, vectors = model.represent_users(histories, progress=progress, users=known, process=process)
    items, item_vectors = model.catalogue_items().to(users.device), model.id_encoder.item_vectors().detach()
    targets = torch.as_tensor(np.asarray(data.targets.targets), device=users.device)

    def parts(rows: slice) -> Tensor:
        """(3, batch, n_items): the encoder's scores and both cosines."""
        encoder = model.id_encoder.scores(vectors[rows], item_vectors).float()
        return torch.stack([encoder, *head.parts(users[rows], items)])

    def unseen(rows: slice) -> Tensor:
        """-inf where an item is in the history, as in the ranking."""
        mask = users.new_zeros(len(targets[rows]), len(items))
        for place, history in enumerate(histories[rows]):
            mask[place, torch.as_tensor(np.asarray(history, dtype=np.int64))] = float("-inf")
        return mask.scatter(1, targets[rows].unsqueeze(1), 0.0)

    batches = [slice(start, start + batch_size) for start in range(0, len(data), batch_size)]
    weights = torch.tensor([1.0, 0.0, 0.0], device=users.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = 0.0
        for rows in batches:
            scores = (weights.view(3, 1, 1) * parts(rows)).sum(0) + unseen(rows)
            loss = torch.nn.functional.cross_entropy(scores, targets[rows], reduction="sum") / len(data)
            loss.backward()
            total = total + loss.detach()
        return total

    optimizer.step(closure)
    encoder, text, readout = weights.tolist()
    scale = max(encoder, 1e-3)
    head.set_gains(max(text / scale, 0.0), max(readout / scale, 0.0))
    return head.get_gains()


__all__ = ["fit_gains"]
