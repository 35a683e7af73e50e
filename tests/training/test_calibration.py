"""Gains are recovered from targets that were drawn by known ones."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rarec_hf.scoring import DotProductScore, EncoderPlusLLMScore
from rarec_hf.training.calibration import fit_gains

N_USERS, N_ITEMS, DIM = 3000, 40, 8


def made(text_gain: float, readout_gain: float, temperature: float = 1.0):
    """A model of given representations, and targets drawn by softmax of temperature * (F + gains . cosines)."""
    torch.manual_seed(0)
    head = EncoderPlusLLMScore(hidden_size=16, text_dim=DIM, score_dim=DIM)

    def unit(n):
        return torch.nn.functional.normalize(torch.randn(n, DIM), dim=-1)

    users, items = torch.cat([unit(N_USERS), unit(N_USERS)], 1), torch.cat([unit(N_ITEMS), unit(N_ITEMS)], 1)
    vectors, item_vectors = torch.randn(N_USERS, 1, 4), torch.randn(N_ITEMS, 4)
    encoder = SimpleNamespace(
        item_vectors=lambda: item_vectors, scores=lambda u, i: (u @ i.T).amax(1), takes_users=False
    )
    truth = encoder.scores(vectors, item_vectors) + text_gain * users[:, :DIM] @ items[:, :DIM].T
    truth = temperature * (truth + readout_gain * users[:, DIM:] @ items[:, DIM:].T)
    histories = [[n % N_ITEMS] for n in range(N_USERS)]
    truth[torch.arange(N_USERS), torch.arange(N_USERS) % N_ITEMS] = -torch.inf  # seen items are never targets
    targets = torch.multinomial(truth.softmax(-1), 1).flatten().numpy()
    model = SimpleNamespace(
        score_head=head,
        config=SimpleNamespace(score="encoder_plus_llm"),
        id_encoder=encoder,
        represent_users=lambda h, **_: (users, vectors),
        catalogue_items=lambda: items,
    )
    return model, Data(histories, targets)


class Data:
    def __init__(self, histories, targets):
        self.histories, self.targets = histories, SimpleNamespace(targets=np.asarray(targets))

    def __len__(self):
        return len(self.histories)


@pytest.mark.parametrize(("text", "readout", "temperature"), [(4.0, 0.0, 1.0), (0.0, 3.0, 1.0), (4.0, 2.0, 0.5)])
def test_gains_are_recovered_whatever_the_temperature(text, readout, temperature):
    model, data = made(text, readout, temperature)
    assert fit_gains(model, data, progress=False) == pytest.approx((text, readout), abs=0.6)
    assert model.score_head.get_gains() == pytest.approx((text, readout), abs=0.6)


def test_a_part_that_misleads_gets_no_gain():
    model, data = made(-4.0, 3.0)
    text, readout = fit_gains(model, data, progress=False)
    assert text == 0.0 and readout > 2.0


@pytest.mark.parametrize("own", [0.0, 1e-3, 1.0])
def test_an_encoder_that_holds_the_text_too(own):
    """As one over text vectors does. Less of the text than it holds is wanted, and next to nothing of what is its own:
    no weight may turn negative and take the others with it."""
    model, data = made(4.0, 2.0)
    users, vectors = model.represent_users(None)
    items, scores = model.catalogue_items(), model.id_encoder.scores
    inner = 10 * users[:, :DIM] @ items[:, :DIM].T

    def fitted(noise: float) -> tuple[float, float]:
        rows = torch.arange(N_USERS, dtype=torch.float).unsqueeze(1)  # which rows are asked for
        model.represent_users = lambda h, **_: (users, rows)
        model.id_encoder.scores = lambda u, i: (
            inner[u[:, 0].long()] - own * scores(vectors[u[:, 0].long()], i) + noise * torch.randn(len(u), N_ITEMS)
        )
        torch.manual_seed(0)
        return fit_gains(model, data, progress=False)

    text, readout = fitted(0.0)
    assert 0 <= text < 2e4 and 2.5 < readout < 2e4
    assert fitted(1e-6) == pytest.approx((text, readout), rel=0.01, abs=0.01)
    total = inner + text * users[:, :DIM] @ items[:, :DIM].T + readout * users[:, DIM:] @ items[:, DIM:].T
    truth = 4 * users[:, :DIM] @ items[:, :DIM].T + 2 * users[:, DIM:] @ items[:, DIM:].T
    assert torch.corrcoef(torch.stack([total.flatten(), truth.flatten()]))[0, 1] > 0.99


def test_an_encoder_against_which_the_targets_were_drawn_is_left_behind():
    model, data = made(4.0, 0.0)
    scores = model.id_encoder.scores
    model.id_encoder.scores = lambda u, i: -scores(u, i)
    text, readout = fit_gains(model, data, progress=False)
    assert text > 1000 and readout < text / 100  # F has about a thousandth of the text's part


def test_an_encoder_that_says_nothing_leaves_the_others_their_gains():
    model, data = made(4.0, 2.0)
    model.id_encoder.scores = lambda u, i: torch.zeros(len(u), len(i))
    text, readout = fit_gains(model, data, progress=False)
    assert text > 1 and readout == pytest.approx(text / 2, rel=0.3)


def test_gains_are_fitted_by_the_rule_of_the_ranking():
    """Targets are never of the history, and an encoder that puts the history first is only right where that is left
    out."""
    model, data = made(4.0, 2.0)
    own, scores = torch.arange(N_USERS) % N_ITEMS, model.id_encoder.scores
    rows = torch.arange(N_USERS, dtype=torch.float).unsqueeze(1)
    vectors = model.represent_users(None)[1]
    users = model.represent_users(None)[0]
    model.represent_users = lambda h, **_: (users, rows)

    def repeating(u, i):
        found = scores(vectors[u[:, 0].long()], i)
        found[torch.arange(len(u)), own[u[:, 0].long()]] = 20.0
        return found

    model.id_encoder.scores = repeating
    assert fit_gains(model, data, progress=False) == pytest.approx((4, 2), abs=0.6)
    text, _ = fit_gains(model, data, progress=False, exclude_seen=False)
    assert text > 10  # the encoder is worth less


def test_what_cannot_be_fitted_is_refused():
    model, data = made(0.0, 0.0)
    with pytest.raises(ValueError, match="no validation targets"):
        fit_gains(model, Data([], []))
    model.score_head = DotProductScore(4, 1, 1)
    with pytest.raises(ValueError, match="has no gains to fit"):
        fit_gains(model, data)
