from __future__ import annotations

import pytest
import torch

from rarec_hf.scoring import GAIN_UNIT, SCORES, DotProductScore, EncoderPlusLLMScore, TrainedHeadScore


@pytest.fixture
def head():
    torch.manual_seed(0)
    made = EncoderPlusLLMScore(hidden_size=6, text_dim=4, score_dim=3)
    torch.nn.init.normal_(made.user_head.weight)
    torch.nn.init.normal_(made.item_head.weight)
    made.reset()
    return made


def crowded_states(n=400):
    """Like a frozen LLM's: a large common part, and directions of very different variance."""
    torch.manual_seed(1)
    mixing = torch.randn(6, 6) * torch.tensor([5.0, 3.0, 1.0, 0.5, 0.2, 0.1])
    return torch.randn(n, 6) @ mixing.T + 50 * torch.ones(6)


def test_whitening_whitens(head):
    states = crowded_states()
    head.fit_whitening(states, ridge=0.0)
    white = ((states - head.text_mean[0]) @ head.text_whitening[0]).double()
    torch.testing.assert_close(white.mean(0), torch.zeros(4, dtype=torch.double), atol=1e-3, rtol=0)
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(4, dtype=torch.double), atol=1e-2, rtol=0)


def test_whitening_keeps_the_directions_of_largest_variance(head):
    states = crowded_states()
    head.fit_whitening(states, ridge=0.0)
    centred = states - states.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    kept = head.text_whitening[0] / head.text_whitening[0].norm(dim=0)
    overlap = (directions[:4] @ kept).pow(2).sum()  # 4 where both span the same space
    assert overlap.item() == pytest.approx(4.0, abs=1e-3)


def test_ridge_damps_directions_that_hardly_vary(head):
    """Variances l become l / (l + ridge * mean l)."""
    states = crowded_states()
    head.fit_whitening(states, ridge=0.5)
    white = (states - head.text_mean[0]) @ head.text_whitening[0]
    variance = torch.linalg.eigvalsh(
        (states - states.mean(0)).T.double() @ (states - states.mean(0)).double() / len(states)
    )
    expected = variance / (variance + 0.5 * variance.mean())
    torch.testing.assert_close(white.pow(2).mean(0).double(), expected[-4:], atol=1e-3, rtol=0)


def test_whitening_of_equal_texts_stays_finite(head):
    head.fit_whitening(torch.ones(5, 6))
    assert bool(torch.isfinite(head.text(torch.ones(2, 6))).all())
    with pytest.raises(ValueError, match="at least 2 items, got 1"):
        head.fit_whitening(torch.ones(1, 6))


def test_text_vectors_have_length_one_and_spread_out(head):
    states = crowded_states()
    cosine = torch.nn.functional.cosine_similarity(states[:200], states[200:])
    assert cosine.mean() > 0.8  # the narrow cone
    head.fit_whitening(states)
    text = head.text(states)
    torch.testing.assert_close(text.norm(dim=1), torch.ones(400))
    assert (text[:200] * text[200:]).sum(1).mean().abs() < 0.1


def test_it_starts_by_adding_nothing(head):
    users = head.user(torch.randn(3, 6), torch.randn(3, 4))
    items = head.item(torch.randn(5, 6), torch.randn(5, 4))
    assert users.shape == (3, head.width)
    assert items.shape == (5, head.width)
    assert torch.equal(users @ items.T, torch.zeros(3, 5))
    (users @ items.T)[0, 1].backward()  # and learns all the same
    assert head.gains.grad.abs().min() > 0


def test_score_by_hand(head):
    with torch.no_grad():
        head.gains.copy_(torch.tensor([2.0, 0.5]))
        head.user_head.weight.normal_()
    state_u, state_i = torch.randn(1, 6) * 9 + 4, torch.randn(1, 6)
    pooled, text = torch.randn(1, 4), torch.randn(1, 4)

    def normed(x):
        return (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()

    expected = 2 * GAIN_UNIT * (pooled @ text.T)
    a, b = normed(state_u) @ head.user_head.weight.T, normed(state_i) @ head.item_head.weight.T
    expected = expected + 0.5 * GAIN_UNIT * torch.nn.functional.cosine_similarity(a, b).view(1, 1)
    score = head.user(state_u, pooled) @ head.item(state_i, text).T
    torch.testing.assert_close(score, expected, atol=1e-4, rtol=1e-4)


def test_gains_are_set_and_read_in_the_scale_of_the_score(head):
    head.set_gains(4.0, 0.5)
    assert head.get_gains() == pytest.approx((4.0, 0.5))
    user, item = head.user(torch.randn(1, 6), torch.eye(4)[:1]), head.item(torch.randn(1, 6), torch.eye(4)[:1])
    assert user[:, :4].norm().item() == pytest.approx(4.0) and user[:, 4:].norm().item() == pytest.approx(0.5)
    assert item[:, 4:].norm().item() == pytest.approx(1.0)


def test_dot_product_is_the_papers(head):
    score = DotProductScore(hidden_size=6, text_dim=4, score_dim=3)
    u, i = torch.randn(2, 6), torch.randn(3, 6)
    assert torch.equal(score.user(u, None) @ score.item(i, None).T, u @ i.T)
    assert score.width == 6
    assert score.objective_scale == 1 / 6
    assert not list(score.parameters())
    assert not score.uses_encoder


def test_the_names_of_the_config():
    assert SCORES == {
        "dot_product": DotProductScore,
        "trained_head": TrainedHeadScore,
        "encoder_plus_llm": EncoderPlusLLMScore,
    }


def test_each_layer_is_whitened_for_itself_and_weighs_the_same():
    first, second = crowded_states(), crowded_states().flip(1) * 100
    one, two = EncoderPlusLLMScore(6, 4, 3), EncoderPlusLLMScore(6, 4, 3, n_text_layers=2)
    assert (two.text_dim, two.width) == (8, 11)
    one.fit_whitening(first)
    both = torch.cat([first, second], 1)
    two.fit_whitening(both)
    text = two.text(both)
    torch.testing.assert_close(text.norm(dim=1), torch.ones(len(text)))
    torch.testing.assert_close(text[:, :4] * 2**0.5, one.text(first), atol=1e-4, rtol=0)
    torch.testing.assert_close(text[:, 4:].norm(dim=1), torch.full((len(text),), 0.5**0.5))


def test_trained_heads_by_hand():
    torch.manual_seed(0)
    head = TrainedHeadScore(hidden_size=6, text_dim=4, score_dim=3)
    u, i = torch.randn(2, 6), torch.randn(3, 6)

    def normed(x):
        return (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    a, b = normed(u) @ head.user_head.weight.T, normed(i) @ head.item_head.weight.T
    cosine = torch.nn.functional.cosine_similarity(a.unsqueeze(1), b.unsqueeze(0), dim=-1)
    torch.testing.assert_close(head.user(u, None) @ head.item(i, None).T, 16 * cosine, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        head.log_scale.fill_(torch.tensor(2.0).log())
    torch.testing.assert_close(head.user(u, None) @ head.item(i, None).T, 32 * cosine, atol=1e-4, rtol=1e-4)
