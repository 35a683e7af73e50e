from __future__ import annotations

import numpy as np
import pytest
import torch

from rarec_hf.top_k import best_items


def brute(scores, k, seen=None):
    scores = scores.clone()
    for row, items in enumerate(seen or []):
        scores[row, list(items)] = float("-inf")
    values, items = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], items[:, :k]


@pytest.mark.parametrize("at_once", [7, 40, 300, 10**6])
@pytest.mark.parametrize("k", [1, 5, 30, 200])
@pytest.mark.parametrize("distinct", [3, 40, 10**6])
def test_best_items_are_those_of_a_stable_sort(at_once, k, distinct):
    """Whatever the pieces; with few distinct values ties stand on both sides of every cut."""
    generator = torch.Generator().manual_seed(k)
    scores = torch.randint(0, distinct, (9, 83), generator=generator).float()
    rng = np.random.default_rng(0)
    seen = [rng.choice(83, rng.integers(0, 20), replace=False).tolist() for _ in range(9)]
    for excluded in (None, seen):
        values, items = best_items(lambda u, i: scores[u, i], 9, 83, k, excluded, scores_at_once=at_once)
        expected_values, expected = brute(scores, min(k, 83), excluded)
        assert torch.equal(values, expected_values)
        real = values > float("-inf")
        assert torch.equal(items[real], expected[real])


def test_scores_given_are_not_changed_and_few_exist_at_a_time():
    scores, sizes = torch.randn(50, 1000), []

    def score(users, items):
        sizes.append(scores[users, items].numel())
        return scores[users, items]

    before = scores.clone()
    best_items(score, 50, 1000, 3, [[1, 2]] * 50, scores_at_once=500)
    assert torch.equal(scores, before)
    assert max(sizes) <= 1000 and len(sizes) >= 50


def test_no_users_and_nonsense():
    values, items = best_items(lambda u, i: torch.zeros(0, 5), 0, 5, 3)
    assert values.shape == items.shape == (0, 3)
    with pytest.raises(ValueError, match="`k` must be at least 1"):
        best_items(lambda u, i: torch.zeros(1, 5), 1, 5, 0)
    with pytest.raises(ValueError, match="user 1 of 2 are not numbers"):
        best_items(lambda u, i: torch.tensor([[0.0, 1.0], [0.0, float("nan")]])[u, i], 2, 2, 1)
    with pytest.raises(ValueError, match="user 0 of 1 are not numbers"):  # in a later piece
        best_items(lambda u, i: torch.tensor([[0.0, 1.0, float("nan")]])[u, i], 1, 3, 1, scores_at_once=1)
