"""The gains of the LLM's parts, fitted on validation targets: what it adds may not be more than it is worth."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from ..evaluation.blend import fit_weights, seen_beside, spread
from ..modeling_rarec import RARecForSequentialRecommendation
from .ranking_trainer import RankingDataset


def fit_gains(
    model: RARecForSequentialRecommendation,
    data: RankingDataset,
    batch_size: int = 64,
    progress: bool = True,
    process: PartialState | None = None,
    exclude_seen: bool = True,
) -> tuple[float, float]:
    """
    Sets the two gains of `"encoder_plus_llm"` to those under which the targets are likeliest.

    In-batch pairs teach which of a few items a user prefers, not how much the answer should weigh beside the encoder
    among a whole catalogue. So the weights w of w_0 F + w_t cos_t + w_h cos_h, none below 0, are fitted by full
    cross-entropy ([`fit_weights`]), and the gains are w_t / w_0 and w_h / w_0. Needs an indexed catalogue.

    Args:
        data: histories with targets that neither the encoder nor the alignment was trained on.
        process: reads its share of the histories; every process of `accelerate launch` must call this, and fits alike.
        exclude_seen (`bool`): a history's items do not stand beside its target, as in the ranking.

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
    chosen = np.asarray(data.targets.targets)
    targets = torch.as_tensor(chosen, device=users.device)

    def parts(rows: slice) -> Tensor:
        """(3, rows, n_items): the encoder's scores, -inf for items that the ranking leaves out, and both cosines."""
        encoder = model.id_encoder.scores(vectors[rows], item_vectors).float()
        if exclude_seen:
            seen = seen_beside(histories[rows], chosen[rows], encoder.shape[1]).to(encoder.device)
            encoder = encoder.masked_fill(seen, float("-inf"))
        return torch.stack([encoder, *head.parts(users[rows], items)])

    scale = spread(parts(slice(0, batch_size))).detach()
    weights = fit_weights(parts, targets, scale, batch_size)
    of_rest = (weights * scale)[1:].max()
    # An encoder that adds nothing gets no weight, but it stays in the score: with a thousandth of what the rest has
    of_encoder = torch.maximum(weights[0], 1e-3 * of_rest / scale[0])
    head.set_gains(*((weights[1:] / of_encoder).tolist() if of_rest > 0 else (0.0, 0.0)))
    return head.get_gains()


__all__ = ["fit_gains"]
