"""Baselines every recommender should be read beside: popularity, item neighbours, and words of the titles.

Each is fitted once and is then a `Scorer`: called with a batch of histories it returns dense float32 scores of shape
(n, n_items). None of them takes seen items out; the evaluator does that, alike for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .ranks import flatten_histories

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BLOCK = 2048  # items whose neighbours are found at once; bounds the memory of the co-occurrence counts


class Popularity:
    """Every user gets the same scores: how often each item occurs in the training histories."""

    def __init__(self) -> None:
        self.counts: np.ndarray | None = None  # (n_items,)

    def fit(self, histories: Sequence[np.ndarray], n_items: int) -> Popularity:
        _, items = flatten_histories(histories, n_items)
        self.counts = np.bincount(items, minlength=n_items).astype(np.float32)
        return self

    def __call__(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        require_fitted(self, self.counts)
        return np.tile(self.counts, (len(histories), 1))


class ItemKNN:
    """
    Items whose users overlap with those of the history's items.

    Two items are as similar as the cosine of their columns in the binary user-item matrix; a candidate's score is the
    sum of its similarities to the items of the history, the item `a` places before the last weighted by `decay**a`.
    An empty history scores 0 for all items (one large tie). The defaults were chosen on validation targets of a dense
    (MovieLens) and a sparse (Amazon Clothing) data set.

    Args:
        neighbours (`int`, *optional*, defaults to 100): Most similar items kept for each item of a history.
        shrinkage (`float`, *optional*, defaults to 10): Added to the cosine's denominator, against similarities that
            rest on one or two users.
        decay (`float`, *optional*, defaults to 0.7): Weight of an item relative to the one after it, in (0, 1].

    Raises:
        ValueError: A parameter is out of its range, or the model is called before `fit`.
    """

    def __init__(self, neighbours: int = 100, shrinkage: float = 10.0, decay: float = 0.7) -> None:
        if neighbours < 1 or not shrinkage >= 0:
            raise ValueError(f"Expected `neighbours` >= 1 and `shrinkage` >= 0, got {neighbours} and {shrinkage}.")
        _require_decay(decay)
        self.neighbours, self.shrinkage, self.decay = neighbours, shrinkage, decay
        self.similarities = None  # scipy CSR (n_items, n_items); row i holds the neighbours of item i

    def fit(self, histories: Sequence[np.ndarray], n_items: int) -> ItemKNN:
        from scipy import sparse

        seen = seen_matrix(histories, n_items)
        by_item = seen.T.tocsr()  # (n_items, users)
        norms = np.sqrt(np.diff(by_item.indptr)).astype(np.float32)
        blocks = []
        for start in range(0, n_items, BLOCK):
            block = (by_item[start : start + BLOCK] @ seen).tocsr()  # (block, n_items) users in common
            own, other = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr)), block.indices
            block.data /= norms[own] * norms[other] + np.float32(self.shrinkage)
            block.data[own == other] = 0  # an item is not its own neighbour
            blocks.append(_keep_largest(block, self.neighbours))
        self.similarities = sparse.vstack(blocks, format="csr")
        return self

    def __call__(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        require_fitted(self, self.similarities)
        weights = _recency_weights(histories, self.similarities.shape[0], self.decay)
        return (weights @ self.similarities).toarray()


class TitleTfidf:
    """
    Items whose titles share rare words with the titles of the recent history.

    An item is the TF-IDF vector of its text, a user the recency-weighted sum of the last titles' vectors, the score
    their dot product. An empty history, or one of titles without any word, scores 0 for all items (one large tie).

    Args:
        last (`int`, *optional*, defaults to 10): Most recent items of the history that are read.
        decay (`float`, *optional*, defaults to 0.7): Weight of an item relative to the one after it, in (0, 1].

    Raises:
        ValueError: A parameter is out of its range, no text holds a word, or the model is called before `fit`.
    """

    def __init__(self, last: int = 10, decay: float = 0.7) -> None:
        if last < 1:
            raise ValueError(f"Expected `last` >= 1, got {last}.")
        _require_decay(decay)
        self.last, self.decay = last, decay
        self.vectors = None  # scipy CSR (n_items, words)

    def fit(self, texts: Sequence[str]) -> TitleTfidf:
        """`texts`: one per item in catalogue order, its title and, if wanted, its attributes."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        # Also single characters: a title such as "M" or "9" is not empty.
        vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True, dtype=np.float32)
        if not any(any(character.isalnum() for character in text) for text in texts):
            raise ValueError(f"None of the {len(texts)} item texts holds a word; TF-IDF needs titles.")
        self.vectors = vectorizer.fit_transform(texts)
        self._by_word = self.vectors.T.tocsr()  # (words, n_items)
        return self

    def __call__(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        require_fitted(self, self.vectors)
        recent = [np.asarray(history)[-self.last :] for history in histories]
        weights = _recency_weights(recent, self.vectors.shape[0], self.decay)
        return (weights @ self.vectors @ self._by_word).toarray()


def seen_matrix(histories: Sequence[np.ndarray], n_items: int) -> csr_array:
    """CSR `(n, n_items)` float32: 1 where the item stands in the history, however often."""
    from scipy import sparse

    rows, items = flatten_histories(histories, n_items)
    ones = np.ones(len(rows), dtype=np.float32)
    matrix = sparse.csr_array((ones, (rows, items)), shape=(len(histories), n_items))  # repeats are summed
    matrix.data[:] = 1
    return matrix


def _recency_weights(histories: Sequence[np.ndarray], n_items: int, decay: float) -> csr_array:
    """CSR `(n, n_items)`: `decay**a` at the item seen `a` places before the last, summed where an item repeats."""
    from scipy import sparse

    rows, items = flatten_histories(histories, n_items)
    ends = np.cumsum(np.bincount(rows, minlength=len(histories)))
    age = ends[rows] - 1 - np.arange(len(rows))
    weights = np.power(float(decay), age).astype(np.float32)
    return sparse.csr_array((weights, (rows, items)), shape=(len(histories), n_items))


def _keep_largest(matrix: csr_array, keep: int) -> csr_array:
    """The CSR matrix with only the `keep` largest values of each row; among equal ones the smaller column stays."""
    for row in np.flatnonzero(np.diff(matrix.indptr) > keep):
        values = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]  # a view
        values[values < np.partition(values, -keep)[-keep]] = 0
    matrix.eliminate_zeros()
    matrix.sort_indices()  # not before: most of a row is gone by now
    for row in np.flatnonzero(np.diff(matrix.indptr) > keep):  # the last value kept occurs more than once
        values = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]
        values[np.flatnonzero(values == values.min())[keep - len(values) :]] = 0
    matrix.eliminate_zeros()
    return matrix


def _require_decay(decay: float) -> None:
    if not 0 < decay <= 1:
        raise ValueError(f"Expected `decay` in (0, 1], got {decay}; 1 weighs the whole history alike.")


def require_fitted(scorer: object, state: object) -> None:
    if state is None:
        raise ValueError(f"{type(scorer).__name__} has not been fitted; call `.fit(...)` first.")


__all__ = ["ItemKNN", "Popularity", "TitleTfidf", "require_fitted", "seen_matrix"]
