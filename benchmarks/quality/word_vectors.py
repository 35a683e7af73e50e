"""Text vectors that need no language model: the strongest directions of TF-IDF."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rarec_hf.evaluation import TitleTfidf


def word_vectors(texts: Sequence[str], width: int) -> Tensor:
    """
    Vectors `(len(texts), width)` of length 1, or narrower where there are fewer words or texts: the truncated singular
    value decomposition of the TF-IDF that [`TitleTfidf`] scores with. A text without a word gets zeros.
    """
    from sklearn.decomposition import TruncatedSVD

    words = TitleTfidf().fit(texts).vectors
    reduced = TruncatedSVD(min(width, min(words.shape) - 1), random_state=0).fit_transform(words)
    return torch.nn.functional.normalize(torch.from_numpy(reduced).float(), dim=-1)


__all__ = ["word_vectors"]
