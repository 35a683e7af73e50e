"""Stable orders of large integer columns, by sorts of packed 64-bit numbers."""

from __future__ import annotations

import numpy as np

__all__ = ["first_rows", "renumber", "stable_groups", "stable_order"]


def stable_order(*keys: np.ndarray) -> np.ndarray:
    """
    The order that `np.lexsort` gives: rows by the first key, equal ones by the second, and so on, then as they stand.

    Args:
        keys (`np.ndarray` of shape `(n,)`): one or more, the most significant first.

    Returns:
        `np.ndarray` of shape `(n,)`, int64.
    """
    return stable_groups(*keys)[0]


def stable_groups(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    [`stable_order`], and which rows then equal the one before them.

    Integer keys and the row number share one 64-bit number as far as they fit, so that a plain sort of numbers does
    what a stable sort of positions would; numpy sorts the former several times faster. Other keys take the slow way.

    Returns:
        the order of shape `(n,)`, and a mask of shape `(n - 1,)` (`(0,)` for no rows).
    """
    n_rows, waiting, order, packed = len(keys[0]), list(keys), None, None
    row_bits = max(n_rows - 1, 0).bit_length()
    room = 1 << (63 - row_bits)  # how many values the keys of one pass may have together
    while waiting and n_rows:
        packed, size, n_packed = None, 1, 0
        while waiting and waiting[-1].dtype.kind in "iu":
            low, high = int(waiting[-1].min()), int(waiting[-1].max())
            if size * (high - low + 1) > room:
                break
            # a 64-bit copy of the key, moved to begin at 0
            key = np.subtract(waiting.pop(), low, dtype=np.int64, casting="unsafe")
            key = key if order is None else key[order]
            packed, size = key if packed is None else key * size + packed, size * (high - low + 1)
            n_packed += 1
        if packed is None:
            key = waiting.pop()
            order = np.argsort(key, kind="stable") if order is None else order[np.argsort(key[order], kind="stable")]
            continue
        if not (packed[1:] >= packed[:-1]).all():
            packed <<= row_bits
            packed |= np.arange(n_rows)
            packed.sort()
            places = packed & ((1 << row_bits) - 1)
            packed >>= row_bits
            order = places if order is None else order[places]
    order = np.arange(n_rows) if order is None else order
    if packed is not None and n_packed == len(keys):
        return order, packed[1:] == packed[:-1]
    same = np.ones(max(n_rows - 1, 0), dtype=bool)
    for key in keys:
        key = key[order]
        same &= key[1:] == key[:-1]
    return order, same


def first_rows(codes: np.ndarray, n: int) -> np.ndarray:
    """
    The first row of each code 0..n-1, `len(codes)` where a code has none; rows of code -1 count for none.

    Returns:
        `np.ndarray` of shape `(n,)`, int64.
    """
    first = np.full(n + 1, len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of several writes to one place the last one stays
    return first[:n]


def renumber(codes: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Codes 0..n-1 to codes in the order of first appearance; -1 stays.

    Returns:
        the new codes of shape `(n_rows,)`, int32 where that is enough, and the old code of each new one.
    """
    first = first_rows(codes, n)
    begins = np.zeros(len(codes) + 1, dtype=bool)
    begins[first] = True
    old = codes[np.flatnonzero(begins[:-1])].astype(np.int64)
    new = np.full(n + 1, -1, dtype=np.int32 if n < 2**31 else np.int64)
    new[old] = np.arange(len(old))
    return new[codes], old
