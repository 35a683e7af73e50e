"""A blend is found by the likelihood of validation targets."""

import numpy as np
import pytest
import torch

from rarec_hf.evaluation import Blend, rank_targets, summarize
from rarec_hf.evaluation.blend import fit_weights, spread

N_ITEMS = 40


class Table:
    """A scorer whose scores depend on the last item of a history."""

    def __init__(self, scores):
        self.scores = scores

    def __call__(self, histories):
        return self.scores[[history[-1] for history in histories]]


@pytest.fixture
def world():
    """Targets drawn from softmax(2 a + 0.5 b)."""
    rng = np.random.default_rng(0)
    a, b, noise = (rng.normal(size=(N_ITEMS, N_ITEMS)).astype(np.float32) for _ in range(3))
    histories = [np.array([rng.integers(N_ITEMS)]) for _ in range(6000)]
    logits = 2 * a + 0.5 * b
    np.fill_diagonal(logits, -np.inf)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = np.array([rng.choice(N_ITEMS, p=chances[history[0]]) for history in histories])
    return a, b, noise, histories, targets


def test_it_finds_the_weights_that_made_the_targets(world):
    a, b, noise, histories, targets = world
    blend = Blend.fit([Table(a), Table(b * 1000), Table(noise)], histories, targets)
    np.testing.assert_allclose(np.array(blend.weights) * [1, 1000, 1], [2, 0.5, 0], atol=0.12)


def test_a_part_that_harms_gets_no_weight(world):
    a, b, _, histories, targets = world
    blend = Blend.fit([Table(-a), Table(b)], histories, targets)
    assert blend.weights[0] == 0 and blend.weights[1] > 0.2
    alone = Blend.fit([Table(-a)], histories, targets)
    assert alone.weights == [0]


def test_the_blend_ranks_better_than_its_parts(world):
    a, b, _, histories, targets = world
    parts = [Table(a), Table(b)]
    blend = Blend.fit(parts, histories[:3000], targets[:3000])
    values = [
        summarize(rank_targets(s, histories[3000:], targets[3000:], N_ITEMS, progress=False))["mrr"]
        for s in (blend, *parts)
    ]
    assert values[0] > values[1] > values[2]


def test_seen_items_do_not_count(world):
    a, _, _, histories, targets = world
    loud = a.copy()
    np.fill_diagonal(loud, 1000.0)  # the item just seen
    blend = Blend.fit([Table(loud)], histories, targets)
    assert blend.weights[0] == pytest.approx(Blend.fit([Table(a)], histories, targets).weights[0], rel=1e-3)
    assert Blend.fit([Table(loud)], histories, targets, exclude_seen=False).weights[0] < 0.5


def test_memory_bounds_how_many_targets_are_used(world, monkeypatch):
    a, _, _, histories, targets = world
    monkeypatch.setattr("rarec_hf.evaluation.blend.MOST_SCORES", 500 * N_ITEMS)
    used = []
    Blend.fit([lambda h: (used.append(len(h)), Table(a)(h))[1]], histories, targets, batch_size=100)
    assert sum(used) == 500


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="no targets"):
        Blend.fit([Table(np.zeros((2, 2)))], [], [])
    with pytest.raises(ValueError, match="one weight a scorer"):
        Blend([Table(np.zeros((2, 2)))], [1, 2])


def test_weights_are_at_the_least_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 200, 12, generator=generator)
    labels = (scores[0] + 0.3 * scores[1] + torch.randn(200, 12, generator=generator)).argmax(1)
    found = fit_weights(lambda rows: scores[:, rows], labels, torch.ones(2))

    def loss(weights):
        return torch.nn.functional.cross_entropy((weights.view(2, 1, 1) * scores).sum(0), labels)

    assert found.min() > 0
    for step in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert loss(found) < loss(found + torch.tensor(step))


@pytest.mark.parametrize("seed", range(12))
def test_bounded_weights_are_at_the_least_cross_entropy_too(seed):
    """Nothing is gained by a step that keeps weights from falling below 0."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(3, 60, 12, generator=generator) @ torch.randn(12, 12, generator=generator)  # alike
    parts[1] += parts[0] - 2 * parts[2]
    labels = torch.randint(0, 12, (60,), generator=generator)
    found = fit_weights(lambda rows: parts[:, rows], labels, spread(parts), batch_size=25)
    weights = found.clone().requires_grad_()
    torch.nn.functional.cross_entropy((weights.view(3, 1, 1) * parts).sum(0), labels).backward()
    slopes = weights.grad / spread(parts)
    assert (found >= 0).all()
    assert (slopes[found > 0].abs() < 1e-3).all() and (slopes[found == 0] > -1e-3).all()


def test_a_part_that_scores_everything_alike_changes_nothing():
    scores = torch.randn(2, 200, 12, generator=torch.Generator().manual_seed(0))
    scores[1] = 0.37
    assert spread(scores)[1] == 1
    labels = (scores[0] + torch.randn(200, 12, generator=torch.Generator().manual_seed(1))).argmax(1)
    weight = fit_weights(lambda rows: scores[:, rows], labels, spread(scores))
    alone = fit_weights(lambda rows: scores[:1, rows], labels, spread(scores[:1]))
    assert weight.tolist() == pytest.approx([alone[0].item(), 1.0], rel=5e-3)
