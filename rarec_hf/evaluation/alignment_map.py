"""Representations drawn in the plane, as in the paper's figure, and numbers that say what the eye may not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..chart_style import GREY, INK, new_figure, save_png

COLOURS = (
    "#2f6db3",
    "#d9822b",
    "#3f9b62",
    "#9a5fb5",
    "#b8433f",
    "#1f9aa6",
    "#8c6d31",
    "#d774b0",
    "#6f7b87",
    "#a3b53c",
)
METHODS = ("tsne", "pca")


def project(vectors: np.ndarray, method: str = "tsne", seed: int = 0) -> np.ndarray:
    """
    Vectors `(n, width)`, each made of length 1, as points `(n, 2)`.

    Args:
        method (`str`): `"tsne"` (van der Maaten and Hinton, 2008; scikit-learn's, started from the principal
            components) or `"pca"`.

    Raises:
        ValueError: an unknown method, fewer than 3 vectors, or numbers that are not finite.
    """
    vectors = unit_vectors(vectors)
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {list(METHODS)}, got {method!r}.")
    if len(vectors) < 3:
        raise ValueError(f"A map needs at least 3 vectors, got {len(vectors)}.")
    from sklearn.decomposition import PCA

    if method == "pca":
        return PCA(2, random_state=seed).fit_transform(vectors)
    from sklearn.manifold import TSNE

    wide = vectors if vectors.shape[1] <= 50 else PCA(min(50, len(vectors)), random_state=seed).fit_transform(vectors)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    return TSNE(2, init="pca", perplexity=perplexity, random_state=seed).fit_transform(wide)


def plot_alignment(
    representations: Mapping[str, np.ndarray],
    groups: Sequence[str],
    path: str | Path,
    method: str = "tsne",
    users: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> Path:
    """
    One panel a model: the same items, coloured by group, and users where given.

    Args:
        representations (`dict[str, np.ndarray]`): by the model's name, `(n, width)`, row i the same item in each.
        groups (`list[str]`): each item's group, such as its category or popularity; the nine largest get a colour.
        path (`str`): PNG to write, whole or not at all.
        users (`dict[str, np.ndarray]`, *optional*): representations of users in the space of the same model's items;
            drawn as crosses.
    """
    for name, vectors in representations.items():
        if len(vectors) != len(groups):
            raise ValueError(f"Expected one vector of {name!r} for each of {len(groups)} items, got {len(vectors)}.")
    labels, counts = np.unique(np.asarray(groups, dtype=str), return_counts=True)
    shown = labels[np.argsort(-counts, kind="stable")][:9]
    columns = min(2, len(representations))
    n_rows = math.ceil(len(representations) / columns)
    figure = new_figure(5.2 * columns, 4.4 * n_rows + 0.5)
    axes = np.atleast_1d(figure.subplots(n_rows, columns)).ravel()
    for axis, (name, vectors) in zip(axes, representations.items(), strict=False):
        mine = None if users is None else users.get(name)
        both = vectors if mine is None else np.concatenate([vectors, mine])
        points = project(both, method, seed)
        items = points[: len(vectors)]
        rest = ~np.isin(groups, shown)
        if rest.any():
            axis.scatter(*items[rest].T, s=5, color=GREY, alpha=0.5, linewidths=0, label="other")
        for colour, label in zip(COLOURS, shown, strict=False):
            axis.scatter(
                *items[np.asarray(groups) == label].T, s=6, color=colour, alpha=0.75, linewidths=0, label=label
            )
        if mine is not None:
            axis.scatter(*points[len(vectors) :].T, s=12, color=INK, marker="x", linewidths=0.8, label="users")
        axis.set_title(name, loc="left", fontsize=11, parse_math=False)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_color("#d0d5db")
    for axis in axes[len(representations) :]:
        axis.set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, [n[:40] for n in names], loc="outside lower center", ncols=5, frameon=False, fontsize=8, markerscale=2
    )
    return save_png(figure, Path(path))


def neighbour_overlap(vectors: np.ndarray, related: Mapping[int, Sequence[int]], k: int = 10) -> float:
    """
    How well nearest neighbours (cosine) are what users choose together: over the items that have related ones, the
    mean share of an item's `k` nearest neighbours that are related, against the most it could be,
    `min(k, n_related)`.

    Args:
        vectors (`np.ndarray` of shape `(n, width)`): of items.
        related (`dict[int, list[int]]`): the items chosen by the same users, by row of `vectors`.
    """
    if not related:
        raise ValueError("No item has related ones, so there is no overlap to measure.")
    unit, rows = unit_vectors(vectors), np.array(sorted(related))
    shares = []
    for start in range(0, len(rows), 1024):
        some = rows[start : start + 1024]
        similarity = unit[some] @ unit.T
        similarity[np.arange(len(some)), some] = -np.inf
        k_here = min(k, len(unit) - 1)
        nearest = np.argpartition(-similarity, k_here - 1, axis=1)[:, :k_here]
        for row, found in zip(some, nearest, strict=True):
            mine = set(related[row])
            shares.append(len(mine.intersection(found.tolist())) / min(k_here, len(mine)))
    return float(np.mean(shares))


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """
    Linear centred kernel alignment of two representations `(n, width)` of the same rows (Kornblith et al., 2019, eq.
    5 with linear kernels): 1 for the same up to rotation and scale, 0 for unrelated.
    """
    if len(first) != len(second):
        raise ValueError(f"Both must be of the same rows, got {len(first)} and {len(second)}.")
    first, second = (np.asarray(v, dtype=np.float64) - np.mean(v, axis=0, dtype=np.float64) for v in (first, second))
    cross = np.linalg.norm(first.T @ second) ** 2
    return float(cross / (np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)))


def uniformity(vectors: np.ndarray, n_pairs: int = 200_000, seed: int = 0) -> float:
    """
    log of the mean of exp(-2 |x - y|^2) over random pairs of vectors of length 1 (Wang and Isola, 2020): near 0 where
    all crowd in a narrow cone, -4 where pairs stand at right angles.
    """
    unit = unit_vectors(vectors)
    rng = np.random.default_rng(seed)
    first = rng.integers(len(unit), size=n_pairs)
    second = (first + rng.integers(1, len(unit), size=n_pairs)) % len(unit)
    squared = 2 - 2 * np.einsum("nd,nd->n", unit[first], unit[second])
    return float(np.log(np.exp(-2 * squared).mean()))


def chosen_together(sequences: Sequence[np.ndarray], items: np.ndarray, window: int = 3) -> dict[int, list[int]]:
    """
    For `items` (indices), which of them the same users chose within `window` steps, by place in `items`.
    """
    place = {int(item): n for n, item in enumerate(items)}
    related: dict[int, set[int]] = {}
    for sequence in sequences:
        known = [(at, place[int(item)]) for at, item in enumerate(sequence) if int(item) in place]
        for n, (at, a) in enumerate(known):
            for later, b in known[n + 1 :]:
                if later - at > window:
                    break
                if a != b:
                    related.setdefault(a, set()).add(b)
                    related.setdefault(b, set()).add(a)
    return {item: sorted(others) for item, others in related.items()}


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """
    Vectors `(n, width)` made of length 1, float32.

    Raises:
        ValueError: of another shape, or not finite.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"Expected finite vectors of shape (n, width), got {vectors.shape}.")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


__all__ = [
    "chosen_together",
    "linear_cka",
    "neighbour_overlap",
    "plot_alignment",
    "project",
    "uniformity",
    "unit_vectors",
]
