"""Items as points in the plane, and where others stand among them."""

from __future__ import annotations

import numpy as np

from ..evaluation.alignment_map import METHODS, project, unit_vectors

NEIGHBOURS = 5


class ItemMap:
    """
    A map of items, computed once and the same for the same seed.

    Further vectors are placed on it without moving it: by the same two principal components (`"pca"`), or at the mean
    of the points of the nearest items, the nearer the heavier (`"tsne"`, which has no such projection).

    Args:
        vectors (`np.ndarray` of shape `(n, width)`): of the items drawn; compared by their cosine.
        items (`np.ndarray` of shape `(n,)`): their item indices.
        method (`str`): `"tsne"` or `"pca"`.

    Raises:
        ValueError: an unknown method, fewer than 3 items, or numbers that are not finite.
    """

    def __init__(self, vectors: np.ndarray, items: np.ndarray, method: str = "tsne", seed: int = 0) -> None:
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {list(METHODS)}, got {method!r}.")
        if len(vectors) != len(items) or len(items) < 3:
            raise ValueError(f"A map needs a vector for each of at least 3 items, got {len(vectors)} of {len(items)}.")
        self.items, self.method = np.asarray(items), method
        self._unit = unit_vectors(vectors)
        if method == "pca":
            from sklearn.decomposition import PCA

            self._pca = PCA(2, random_state=seed).fit(self._unit)
            points = self._pca.transform(self._unit)
        else:
            points = project(self._unit, method, seed)
        # One measure for both axes, so that distances stay what they are
        self._low, self._span = points.min(0), float(np.ptp(points, axis=0).max()) or 1.0
        self._margin = (1 - np.ptp(points, axis=0) / self._span) / 2
        self.points = self._scaled(points)
        self._at = {int(item): n for n, item in enumerate(self.items)}

    @staticmethod
    def draw(n_items: int, most: int = 2000, seed: int = 0) -> np.ndarray:
        """Item indices, ascending: all of a small catalogue, `most` drawn with the seed of a larger one."""
        if n_items <= most:
            return np.arange(n_items)
        return np.sort(np.random.default_rng(seed).choice(n_items, most, replace=False))

    def place(self, vectors: np.ndarray, items: np.ndarray | None = None) -> np.ndarray:
        """
        Points `(n, 2)` within 0..1 of vectors `(n, width)`; with `items`, those that are drawn stand where they are
        drawn.
        """
        if not len(vectors):
            return np.empty((0, 2))
        unit = unit_vectors(vectors)
        points = self._scaled(self._pca.transform(unit)) if self.method == "pca" else self._among_neighbours(unit)
        for n, item in enumerate(() if items is None else items):
            if int(item) in self._at:
                points[n] = self.points[self._at[int(item)]]
        return np.clip(points, 0.0, 1.0)

    def _among_neighbours(self, unit: np.ndarray) -> np.ndarray:
        cosine = unit @ self._unit.T
        k = min(NEIGHBOURS, len(self.items))
        nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        weights = np.exp(10 * np.take_along_axis(cosine, nearest, 1))
        weights /= weights.sum(1, keepdims=True)
        return np.einsum("nk,nkd->nd", weights, self.points[nearest])

    def _scaled(self, points: np.ndarray) -> np.ndarray:
        return (points - self._low) / self._span + self._margin


__all__ = ["ItemMap"]
