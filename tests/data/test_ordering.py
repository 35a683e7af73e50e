from __future__ import annotations

import numpy as np
import pytest

from rarec_hf.data.ordering import first_rows, renumber, stable_groups, stable_order

EXTREME = np.array([2**63 - 1, -(2**63), 0, -(2**63)])


@pytest.mark.parametrize(
    "keys",
    [
        [np.array([3, 1, 3, 1, 2])],
        [np.array([1, 1, 0, 0, 1], dtype=np.int32), np.array([5, 4, 9, 9, 4])],
        [np.array([1, 1, 0, 0], dtype=np.int8), EXTREME],  # too wide for one number with the row
        [EXTREME, np.array([1, 1, 0, 0])],
        [np.array([0, 0, 0, 1]), np.array([0.5, 0.25, 0.5, 0.0])],  # fractions
        [np.array([2, 1, 2]), np.array([0.5, 0.5, 0.5]), np.array([1, 1, 0])],
        [np.array([2**64 - 1, 0], dtype=np.uint64)],
        [np.array([], dtype=np.int64)],
        [np.array([7])],
    ],
)
def test_order_is_that_of_lexsort_and_groups_are_equal_neighbours(keys):
    order, same = stable_groups(*keys)
    assert order.tolist() == np.lexsort(keys[::-1]).tolist() == stable_order(*keys).tolist()
    expected = [all(key[a] == key[b] for key in keys) for a, b in zip(order, order[1:], strict=False)]
    assert same.tolist() == expected


def test_random_keys_agree_with_lexsort():
    rng = np.random.default_rng(0)
    for scale in (3, 2**20, 2**40, 2**62):
        keys = [rng.integers(-scale, scale, 500) // rng.integers(1, scale) for _ in range(3)]
        order, same = stable_groups(*keys)
        assert (order == np.lexsort(keys[::-1])).all()
        assert (same == np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)).all()


def test_ties_in_the_leading_bits_are_ordered_by_the_bits_that_did_not_fit():
    times = np.array([-5, 2**63 - 1, 2**63 - 2, -5, 2**63 - 1, -(2**63)])
    order, same = stable_groups(np.zeros(6, dtype=np.int32), times, np.array([0.5, -1e300, -0.0, 0.5, 0.0, 1.0]))
    assert order.tolist() == [5, 0, 3, 2, 1, 4] and same.tolist() == [False, True, False, False, False]


def test_first_rows_and_renumber():
    codes = np.array([2, -1, 0, 2, 0], dtype=np.int32)
    assert first_rows(codes, 4).tolist() == [2, 5, 0, 5]
    new, old = renumber(codes, 4)
    assert new.tolist() == [0, -1, 1, 0, 1] and old.tolist() == [2, 0] and new.dtype == np.int32
    assert renumber(np.array([], dtype=np.int64), 0)[0].tolist() == []
