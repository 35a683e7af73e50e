"""EASE: a linear model of every item by all others, in closed form; hard to beat on dense data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .baselines import require_fitted, seen_matrix

BLOCK = 1024  # rows that are handled at once; bounds the memory beyond the one matrix


class EASE:
    """
    Scores `X B`, where B minimises `|X - X B|^2 + regularization |B|^2` with an empty diagonal: with
    `P = (X^T X + regularization I)^-1` it is `B_ij = -P_ij / P_jj` off the diagonal. X is the binary user-item matrix;
    order and repeats of a history do not count, an empty one scores 0 for all items (one large tie).

    One dense float32 matrix of `n_items^2` is held: 2.0 GiB for 23,000 items, 8 GiB for 46,000. Fitting takes about
    `n_items^3` multiplications, a few minutes for 23,000 items on two cores.

    Source: Steck (2019), Embarrassingly Shallow Autoencoders for Sparse Data, the closed-form solution.

    Args:
        regularization (`float`, *optional*, defaults to 250): The ridge; sparser data want more of it.
        memory_gib (`float`, *optional*, defaults to 8): The most that the matrix may take.

    Raises:
        ValueError: A parameter out of range, a catalogue that does not fit, or the model is called before `fit`.
    """

    def __init__(self, regularization: float = 250.0, memory_gib: float = 8.0) -> None:
        if not regularization > 0 or not memory_gib > 0:
            raise ValueError(
                f"Expected `regularization` > 0 and `memory_gib` > 0, got {regularization} and {memory_gib}."
            )
        self.regularization, self.memory_gib = regularization, memory_gib
        self.weights: np.ndarray | None = None  # (n_items, n_items), B

    def fit(self, histories: Sequence[np.ndarray], n_items: int) -> EASE:
        from scipy.linalg import lapack

        needed = 4 * n_items**2 / 2**30
        if needed > self.memory_gib:
            raise ValueError(
                f"EASE over {n_items:,} items needs {needed:,.1f} GiB for its weights, `memory_gib` allows "
                f"{self.memory_gib:g}. Leave out this baseline, allow more, or drop rare items by a k-core filter."
            )
        seen = seen_matrix(histories, n_items)
        by_item = seen.T.tocsr()
        matrix = np.empty((n_items, n_items), dtype=np.float32, order="F")  # LAPACK's order: all steps are in place
        blocks = [slice(start, min(start + BLOCK, n_items)) for start in range(0, n_items, BLOCK)]
        for block in blocks:
            matrix[:, block] = (by_item[block] @ seen).toarray().T
        matrix[np.diag_indices(n_items)] += np.float32(self.regularization)
        matrix, failed = lapack.spotrf(matrix, overwrite_a=1)  # the Cholesky factor, as an upper triangle
        if not failed:
            matrix, failed = lapack.spotri(matrix, overwrite_c=1)  # the inverse from it, likewise
        if failed:
            raise ValueError(
                f"The item matrix could not be inverted in float32 (LAPACK says {failed}); give a larger "
                f"`regularization` than {self.regularization:g}."
            )
        for block in blocks:  # the lower triangle
            matrix[block, : block.start] = matrix[: block.start, block].T
            corner = np.triu(matrix[block, block])
            matrix[block, block] = corner + np.triu(corner, 1).T
        diagonal = matrix.diagonal().copy()
        for block in blocks:
            matrix[:, block] /= -diagonal[block]
        matrix[np.diag_indices(n_items)] = 0
        self.weights = matrix
        return self

    def __call__(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        require_fitted(self, self.weights)
        return np.asarray(seen_matrix(histories, len(self.weights)) @ self.weights)


__all__ = ["EASE"]
