"""Stable orders of large integer columns, by sorts of packed 64-bit numbers."""

from __future__ import annotations

import numpy as np

__all__ = ["distinct", "first_rows", "renumber", "stable_groups", "stable_order"]


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

    As many leading bits of the keys as fit share one 64-bit number with the row number, so that a plain sort of these
    does what a stable sort of positions would; numpy sorts the former several times faster. Only rows that tie in
    these bits are sorted once more, by the bits that did not fit.

    Returns:
        the order of shape `(n,)`, and a mask of shape `(n - 1,)` (`(0,)` for no rows).
    """
    n_rows = len(keys[0])
    if not n_rows:
        return np.arange(0), np.zeros(0, dtype=bool)
    row_bits = (n_rows - 1).bit_length()
    room, waiting = 64 - row_bits, list(keys)
    rest: list[np.ndarray] = []
    packed = np.zeros(n_rows, dtype=np.uint64)
    while waiting and not rest:
        key = _from_zero(waiting.pop(0))
        bits = int(key.max()).bit_length()
        left_out = max(bits - room, 0)
        if left_out:
            rest = [key & np.uint64((1 << left_out) - 1)]
            key >>= np.uint64(left_out)
        if room:
            packed <<= np.uint64(bits - left_out)
            packed |= key
        room -= bits - left_out
    rest += waiting
    del key

    if (packed[1:] >= packed[:-1]).all():
        order = np.arange(n_rows)
    else:
        packed <<= np.uint64(row_bits)
        packed |= np.arange(n_rows, dtype=np.uint64)
        packed.sort()
        order = (packed & np.uint64((1 << row_bits) - 1)).view(np.int64)
        packed >>= np.uint64(row_bits)
    same = packed[1:] == packed[:-1]
    if not rest or not same.any():
        return order, same

    del packed
    like_before, like_next = np.append(False, same), np.append(same, False)
    places = np.flatnonzero(like_before | like_next)
    rows = order[places]
    group = np.cumsum(~like_before[places])  # fewer bits than what these rows have in common
    order_of_tied, same_of_tied = stable_groups(group, *(key[rows] for key in rest))
    order[places] = rows[order_of_tied]
    same[:] = False
    same[places[1:][same_of_tied] - 1] = True
    return order, same


def _from_zero(key: np.ndarray) -> np.ndarray:
    """A copy as unsigned 64-bit numbers in the same order, the least of them 0."""
    if key.dtype.kind == "f":
        bits = (key.astype(np.float64) + 0.0).view(np.int64)  # -0.0 becomes 0.0, its equal
        bits ^= (bits >> 63) & np.int64(2**63 - 1)  # of negative numbers the larger bits are the lesser number
        key = bits
    least = key.min()
    numbers = key.astype(np.uint64)
    numbers -= least.astype(np.uint64)  # modulo 2 ** 64, where any distance of two numbers fits
    return numbers


def distinct(codes: np.ndarray) -> np.ndarray:
    """The distinct numbers among small ones (0 or more), ascending; a table of counts is sooner than a hash."""
    return np.flatnonzero(np.bincount(codes))


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
