"""Rows of vectors and the ids they belong to: matched by value, and what cannot be used is named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from .ids import id_texts

logger = logging.get_logger(__name__)

MISSING = ("error", "zeros")


def distinct_ids(ids: Sequence, name: str, what: str) -> list[str]:
    """
    [`id_texts`], each id once.

    Args:
        name (`str`), what (`str`): how errors name the list and one of its ids, such as `"item_ids"` and `"item"`.

    Raises:
        ValueError: ids stand more than once; names the first few. Also what `id_texts` refuses.
    """
    texts = id_texts(ids, name)
    if len(set(texts)) != len(texts):
        seen: set[str] = set()
        twice = sorted({text for text in texts if text in seen or seen.add(text)})
        raise ValueError(
            f"{len(twice)} {what} ids stand more than once, the first: {twice[:5]}. Ids are compared by value, 5 and "
            "'5' are one; keep one row of each."
        )
    return texts


def as_floats(vectors: np.ndarray | Tensor, n_ids: int, what: str) -> Tensor:
    """
    Vectors as `torch.float32` of shape `(n_ids, width)`.

    Raises:
        ValueError: another number of rows or dimensions, or no floating-point numbers.
    """
    if not isinstance(vectors, Tensor):
        vectors = np.asarray(vectors)
        if vectors.dtype.kind == "f":
            vectors = torch.from_numpy(np.array(vectors, dtype=np.float32))  # a writable copy in native byte order
    if vectors.ndim != 2 or len(vectors) != n_ids or not vectors.shape[1]:
        raise ValueError(
            f"Expected {what} vectors of shape ({n_ids}, width), a row for each id, got {tuple(vectors.shape)}."
        )
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point():
        raise ValueError(f"Expected {what} vectors of floating-point numbers, got {vectors.dtype}.")
    return vectors.detach().float().cpu()


def rows_of_catalogue(ids: list[str], vectors: Tensor, wanted: list[str], missing: str, strict: bool) -> Tensor:
    """
    The rows of the wanted items, in their order: `(len(wanted), width)`. Rows of other items are counted and named in
    a warning.

    Args:
        missing (`str`): `"zeros"` gives zeros to wanted items without a row, with a warning.
        strict (`bool`): refuse rows of other items.

    Raises:
        ValueError: wanted items without a row, or rows of other items under `strict`.
    """
    rows = {item: row for row, item in enumerate(ids)}
    if extra := sorted(rows.keys() - set(wanted)):
        message = f"{len(extra)} of {len(ids)} vectors are of items outside the catalogue, the first: {extra[:5]}."
        if strict:
            raise ValueError(f"{message} Remove them, or leave `strict` out.")
        logger.warning("%s They are left out.", message)
    if absent := [item for item in wanted if item not in rows]:
        message = f"{len(absent)} of {len(wanted)} items of the catalogue have no vector, the first: {absent[:5]}."
        if missing == "error" or len(absent) == len(wanted):
            raise ValueError(
                f"{message} Ids of the vectors look like {ids[:3]}. Give these items a vector, leave them out of the "
                'data, or let them have zeros: `missing="zeros"` (`--missing_vectors zeros`).'
            )
        logger.warning("%s They get zeros.", message)
    places = torch.tensor([rows.get(item, -1) for item in wanted])
    return torch.where((places >= 0).unsqueeze(1), vectors[places.clamp(min=0)], 0.0)


def check_rows(vectors: Tensor, ids: list[str], what: str, missing: str) -> None:
    """
    Refuses vectors that are not finite and, unless `missing` is `"zeros"`, those of all zeros.

    Raises:
        ValueError: counts them and names the first few ids.
    """
    zeros = 'They say nothing; leave them out, or allow them: `missing="zeros"` (`--missing_vectors zeros`).'
    for problem, bad, mend in (
        ("not finite", ~torch.isfinite(vectors).all(1), "Train the model again, with a lower learning rate."),
        ("all zeros", ~vectors.any(1) if missing == "error" else torch.zeros(len(vectors), dtype=torch.bool), zeros),
    ):
        if bool(bad.any()):
            named = [ids[row] for row in bad.nonzero().flatten()[:5].tolist()]
            raise ValueError(f"The vectors of {int(bad.sum())} {what} are {problem}, the first: {named}. {mend}")


__all__ = ["MISSING", "as_floats", "check_rows", "distinct_ids", "rows_of_catalogue"]
