from __future__ import annotations

import math

import pytest
import torch

from rarec_hf.objectives import OBJECTIVES, bpr, cross_entropy, gbce, layerwise_info_nce


def softplus(x):
    return math.log(1 + math.exp(x))


def test_bpr_by_hand():
    scores = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]])
    targets = torch.tensor([0, 1])
    negatives = torch.tensor([[False, True, True], [True, False, True]])
    # -ln sigmoid(d) = softplus(-d) for the differences 1.5, 3; 1, -2
    expected = (softplus(-1.5) + softplus(-3) + softplus(-1) + softplus(2)) / 4
    assert bpr(scores, targets, negatives).item() == pytest.approx(expected, rel=1e-6)


def test_bpr_counts_only_the_negatives():
    scores = torch.tensor([[2.0, 0.5, 100.0], [0.0, 1.0, 3.0]])
    negatives = torch.tensor([[False, True, False], [False, False, False]])
    value = bpr(scores, torch.tensor([0, 1]), negatives)
    assert value.item() == pytest.approx(softplus(-1.5), rel=1e-6)


def test_bpr_pulls_the_target_up_and_the_negative_down():
    scores = torch.zeros(1, 3, requires_grad=True)
    bpr(scores, torch.tensor([1]), torch.tensor([[True, False, False]])).backward()
    assert scores.grad.tolist() == [[0.5, -0.5, 0.0]]


def test_bpr_survives_large_differences():
    value = bpr(torch.tensor([[0.0, 1000.0]]), torch.tensor([0]), torch.tensor([[False, True]]))
    assert value.item() == pytest.approx(1000.0)


def test_bpr_of_a_batch_without_any_negative_is_zero():
    scores = torch.ones(2, 1, requires_grad=True)
    loss = bpr(scores, torch.zeros(2, dtype=torch.long), torch.zeros(2, 1, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert scores.grad.abs().sum() == 0.0


def test_info_nce_by_hand():
    """Two layers of different width; cosines of layer 1: [[1, 0], [0.6, 0.8]], of layer 2: all equal."""
    first = torch.tensor([[2.0, 0.0], [3.0, 4.0]])
    second = torch.ones(2, 3)
    text = torch.tensor([[5.0, 0.0], [0.0, 0.1]])
    a, b = math.exp(1 / 0.5), math.exp(0 / 0.5)
    c, d = math.exp(0.6 / 0.5), math.exp(0.8 / 0.5)
    layer_1 = (-math.log(a / (a + b)) - math.log(d / (c + d))) / 2
    layer_2 = math.log(2)
    value = layerwise_info_nce([first, second], [text, torch.ones(2, 3)], temperature=0.5)
    assert value.item() == pytest.approx((layer_1 + layer_2) / 2, rel=1e-5)


def test_info_nce_leaves_out_rows_that_show_the_same():
    prompts = [torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])]
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    # rows 0 and 1 have one negative (row 2), row 2 has two
    high, low = math.exp(1), math.exp(0)
    expected = (2 * -math.log(high / (high + low)) - math.log(high / (high + 2 * low))) / 3
    assert layerwise_info_nce(prompts, prompts, 1.0, same).item() == pytest.approx(expected, rel=1e-5)
    everything = layerwise_info_nce(prompts, prompts, 1.0)
    assert everything.item() > expected + 0.3


def test_info_nce_gives_no_gradient_to_text_that_has_none():
    prompts = torch.randn(3, 4, requires_grad=True)
    layerwise_info_nce([prompts], [torch.randn(3, 4)], 0.1).backward()
    assert prompts.grad.abs().sum() > 0


def test_info_nce_of_another_number_of_layers_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        layerwise_info_nce([torch.ones(2, 2)] * 2, [torch.ones(2, 2)], 0.1)


def test_every_objective_of_the_config_is_there():
    assert OBJECTIVES["bpr"] is bpr


def test_cross_entropy_by_hand():
    """Only the target and its negatives are in the sum."""
    scores = torch.tensor([[1.0, 2.0, 0.5, 9.0]])
    negatives = torch.tensor([[True, False, True, False]])
    expected = math.log(sum(map(math.exp, (1.0, 2.0, 0.5)))) - 2.0
    assert cross_entropy(scores, torch.tensor([1]), negatives).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_gbce_by_hand(rate):
    """beta = a (t (1 - 1/a) + 1/a) is 1 at full sampling (plain binary cross-entropy) and small for few negatives."""
    scores, negatives = torch.tensor([[1.0, 2.0, 0.5, 9.0]]), torch.tensor([[True, False, True, False]])

    def log_sigmoid(x):
        return -math.log(1 + math.exp(-x))

    beta = rate * (0.75 * (1 - 1 / rate) + 1 / rate)
    expected = -(beta * log_sigmoid(2.0) + log_sigmoid(-1.0) + log_sigmoid(-0.5))
    value = gbce(scores, torch.tensor([1]), negatives, sampling_rate=rate)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert beta == pytest.approx(1.0 if rate == 1.0 else 0.325)
