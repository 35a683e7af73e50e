"""Text vectors that need no language model: the strongest directions of TF-IDF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .baselines import TitleTfidf


def word_vectors(texts: Sequence[str], width: int) -> Tensor:
    """
    The texts by their words: the TF-IDF vectors that [`TitleTfidf`] scores with, reduced by a truncated singular value
    decomposition (latent semantic analysis) where there are more than `width` words.

    Args:
        texts (`Sequence[str]`): one per item in catalogue order.
        width (`int`): directions that are kept at most.

    Returns:
        `torch.FloatTensor` of shape `(len(texts), at most width)`, rows of length 1. A text without a word gets zeros.

    Raises:
        ValueError: `width` is below 1, or no text holds a word.
    """
    if width < 1:
        raise ValueError(f"Expected `width` >= 1, got {width}.")
    words: Any = TitleTfidf().fit(texts).vectors  # scipy CSR
    if words.shape[1] <= width:
        reduced = words.toarray()
    else:
        from sklearn.decomposition import TruncatedSVD

        reduced = TruncatedSVD(min(width, len(texts)), random_state=0).fit_transform(words)
    return torch.nn.functional.normalize(torch.from_numpy(reduced).float(), dim=-1)


__all__ = ["word_vectors"]
