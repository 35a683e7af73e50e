from __future__ import annotations

import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModel

from rarec_hf import SASRecConfig, SASRecModel


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_later_item_changes_no_earlier_state(make_encoder):
    encoder = make_encoder()
    first, second = torch.tensor([[3, 1, 4, 1, 5]]), torch.tensor([[3, 1, 4, 9, 2]])
    for mode in (torch.no_grad(), torch.enable_grad()):  # torch has a fast path of its own without gradients
        with mode:
            one, other = encoder.states(first), encoder.states(second)
            close(one[:, :3], other[:, :3])
            assert (one[:, 3:] - other[:, 3:]).abs().amax(-1).min() > 0.1


def test_an_earlier_item_and_its_place_count(make_encoder):
    encoder = make_encoder()
    histories = torch.tensor([[3, 1, 4], [2, 1, 4], [1, 3, 4]])
    vectors = encoder.user_vectors(histories)[:, 0]
    assert min((vectors[a] - vectors[b]).abs().max() for a, b in ((0, 1), (0, 2), (1, 2))) > 0.1


def test_padding_and_batch_change_no_user_vector(make_encoder):
    encoder = make_encoder()
    rows = [[3, 1, 4, 1, 5], [7], [2, 6]]
    alone = torch.cat([encoder.user_vectors(torch.tensor([row])) for row in rows])
    padded = torch.tensor([row + [-1] * (8 - len(row)) for row in rows])
    close(encoder.user_vectors(padded), alone)
    close(encoder.user_vectors(padded.flip(0)), alone.flip(0))
    close(encoder.states(padded)[0, :5], encoder.states(torch.tensor([rows[0]]))[0])


def test_user_vector_is_the_state_after_the_latest_item(make_encoder):
    encoder, history = make_encoder(), torch.tensor([[3, 1, -1], [2, 6, 7]])
    states, vectors = encoder.states(history), encoder.user_vectors(history)
    assert vectors.shape == (2, 1, 16)
    assert torch.equal(vectors[0, 0], states[0, 1])
    assert torch.equal(vectors[1, 0], states[1, 2])


def test_empty_history_gives_zeros(make_encoder):
    vectors = make_encoder().user_vectors(torch.tensor([[-1, -1], [3, -1]]))
    assert torch.equal(vectors[0], torch.zeros(1, 16))
    assert vectors[1].abs().sum() > 0


def test_full_cross_entropy_by_hand(make_encoder):
    encoder = make_encoder()
    history, labels = torch.tensor([[3, 1, 4], [7, -1, -1]]), torch.tensor([[1, 4, 11], [0, -100, -100]])
    states, weights = encoder.states(history).detach(), encoder.item_vectors().detach()
    losses = []
    for row, column, label in ((0, 0, 1), (0, 1, 4), (0, 2, 11), (1, 0, 0)):
        logits = [float(states[row, column] @ weights[item]) for item in range(12)]
        losses.append(math.log(sum(math.exp(x - max(logits)) for x in logits)) + max(logits) - logits[label])
    loss = encoder(history, labels=labels).loss
    assert loss.item() == pytest.approx(sum(losses) / 4, rel=1e-5)
    loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in encoder.parameters())


def test_scores_take_the_best_interest(make_encoder):
    encoder = make_encoder()
    users = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    assert encoder.scores(users, items).tolist() == [[1.0, 2.0, -1.0]]


def test_it_learns_who_follows_whom(make_encoder):
    torch.manual_seed(0)
    encoder = SASRecModel(SASRecConfig(n_items=12, hidden_size=16, max_history=8, dropout=0.0))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.02)
    history = torch.tensor([[(start + step) % 12 for step in range(8)] for start in range(12)])
    for _ in range(60):
        loss = encoder(history, labels=(history + 1) % 12).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.eval()
    scores = encoder.scores(encoder.user_vectors(torch.tensor([[4, 5, 6], [11, -1, -1]])), encoder.item_vectors())
    assert scores.argmax(1).tolist() == [7, 0]


def test_dropout_is_for_training_only(make_encoder):
    encoder, history = make_encoder(dropout=0.5), torch.tensor([[1, 2, 3]])
    assert torch.equal(encoder.user_vectors(history), encoder.user_vectors(history))
    encoder.train()
    assert not torch.equal(encoder.user_vectors(history), encoder.user_vectors(history))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([[1, 12]], r"within 0\.\.11.*got 1\.\.12"),
        ([[1, -2]], r"within 0\.\.11.*got -2\.\.1"),
        ([[1] * 9], r"9 items exceed `max_history` \(8\)"),
        ([[]], "length >= 1"),
    ],
)
def test_histories_out_of_range_are_refused(make_encoder, history, message):
    with pytest.raises(ValueError, match=message):
        make_encoder().user_vectors(torch.tensor(history, dtype=torch.long))


def test_impossible_sizes_are_refused():
    with pytest.raises(StrictDataclassError, match="multiple of `num_attention_heads`"):
        SASRecConfig(n_items=3, hidden_size=10, num_attention_heads=3)
    with pytest.raises(StrictDataclassError, match="`n_items`"):
        SASRecConfig(n_items=0)


def test_save_and_load(make_encoder, tmp_path):
    encoder = make_encoder()
    encoder.config.training_data, encoder.config.catalogue = "digest", "another"
    encoder.save_pretrained(tmp_path)
    history = torch.tensor([[3, 1, 4, -1]])
    for again in (SASRecModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(again) is SASRecModel
        assert torch.equal(again.user_vectors(history), encoder.user_vectors(history))
        assert (again.config.training_data, again.config.catalogue) == ("digest", "another")
