"""User vectors from a table: through scores, recommendations, evaluation, training and a saved folder."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from rarec_hf import ItemVectorsModel, RARecForSequentialRecommendation
from rarec_hf.evaluation import rank_targets
from rarec_hf.training.id_encoder import encoder_scorer

N_ITEMS = 12
HISTORIES = [[1, 2, 3], [4], [5, 6]]
VECTORS = np.random.default_rng(0).normal(size=(N_ITEMS, 4))
USERS = {"user_ids": ["ann", "bob"], "user_vectors": 3 * np.random.default_rng(1).normal(size=(2, 4))}


@pytest.fixture
def encoder():
    return ItemVectorsModel.from_vectors([f"i{n}" for n in range(N_ITEMS)], VECTORS, max_history=8, **USERS)


@pytest.fixture
def model(trained, encoder):
    return trained(encoder=encoder)


def scores_of_encoder(rows) -> np.ndarray:
    return np.asarray(rows) @ VECTORS.T


def test_the_encoders_scores(encoder):
    scorer = encoder_scorer(encoder)
    assert scorer.takes_users and not encoder_scorer(ItemVectorsModel.from_vectors([1, 2], VECTORS[:2])).takes_users
    mean = scores_of_encoder([(0.81 * VECTORS[1] + 0.9 * VECTORS[2] + VECTORS[3]) / 2.71, VECTORS[4]])
    np.testing.assert_allclose(scorer(HISTORIES[:2]), mean, atol=1e-5)
    known = scorer(HISTORIES[:2], np.array([1, -1]))
    np.testing.assert_allclose(known, [*scores_of_encoder(USERS["user_vectors"][1:]), mean[1]], atol=1e-5)
    ranks = rank_targets(
        scorer, HISTORIES[:2], [0, 0], N_ITEMS, users=np.array([0, 1]), exclude_seen=False, progress=False
    )
    expected = scores_of_encoder(USERS["user_vectors"])
    assert ranks.greater.tolist() == (expected > expected[:, :1]).sum(1).tolist()


def test_the_models_scores(model):
    scorer = model.scorer()
    assert scorer.takes_users
    plain, known = scorer(HISTORIES), scorer(HISTORIES, users=[-1, 0, 1])
    assert np.array_equal(plain, model.score_histories(HISTORIES)) and np.allclose(plain[0], known[0], atol=1e-4)
    assert not np.allclose(plain[1:], known[1:])
    # alone or together, whatever the order in which lengths are computed
    alone = [
        model.score_histories([history], users=[user])[0] for history, user in zip(HISTORIES, [-1, 0, 1], strict=True)
    ]
    np.testing.assert_allclose(known, alone, atol=1e-4)
    represented, vectors = model.represent_users(HISTORIES, users=[-1, 0, 1])
    torch.testing.assert_close(vectors[1:, 0], torch.tensor(USERS["user_vectors"]).float())
    again = model.combine(represented, model._catalogue.items, vectors, model.id_encoder.item_vectors())
    np.testing.assert_allclose(known, again.detach(), atol=1e-4)


def test_known_users_are_recommended_to_also_from_a_folder(model, make_backbone, tmp_path, caplog):
    histories = [["i1", "i2"], ["i1", "i2"], ["i1", "i2"]]
    with caplog.at_level(logging.INFO, "rarec_hf"):
        answers = model.recommend(histories, k=12, batch_size=2, user_ids=["bob", "new", "ann"])
    assert "1 of 3 users have no vector, the first: ['new']." in caplog.messages
    assert answers[1].item_ids == model.recommend(["i1", "i2"], k=12).item_ids  # the mean of the history
    assert answers[0].scores != answers[1].scores != answers[2].scores
    expected = model.score_histories([[1, 2]], users=[1])[0]
    assert answers[0].scores == pytest.approx(np.sort(np.delete(expected, [1, 2]))[::-1].tolist(), abs=1e-4)
    assert model.recommend(["i1", "i2"], k=12, user_ids="bob").item_ids == answers[0].item_ids

    model.save_pretrained(tmp_path)
    again = RARecForSequentialRecommendation.from_pretrained(tmp_path, language_model=make_backbone())
    loaded = again.recommend(histories, k=12, batch_size=2, user_ids=["bob", "new", "ann"])
    assert [a.item_ids for a in loaded] == [a.item_ids for a in answers]


def test_user_ids_that_cannot_be_meant(model, trained):
    with pytest.raises(ValueError, match="Expected 2 user ids"):
        model.recommend([["i1"], ["i2"]], user_ids=["ann"])
    with pytest.raises(ValueError, match="has no user vectors; leave out"):
        trained().recommend(["i1"], user_ids="ann")
    with pytest.raises(ValueError, match="one user for each of 2 histories, got 1"):
        model.processor.user_inputs([[1], [2]], 8, users=[0])


def test_a_batch_says_whose_it_is(model, make_batch):
    batch = make_batch(HISTORIES)
    assert "users" not in batch
    users = model.processor.user_inputs(HISTORIES, 8, users=np.array([0, -1, 1]))["users"]
    assert users.tolist() == [0, -1, 1] and users.dtype == torch.long
    plain, known = model(**batch).scores, model(**batch, users=users).scores
    assert torch.allclose(plain[1], known[1], atol=1e-4) and not torch.allclose(plain[0], known[0])
