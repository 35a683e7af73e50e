"""Vectors of another recommender as the ID encoder of a run: matched to the data, and kept from what they know."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from rarec_hf import ItemVectorsModel, RARecForSequentialRecommendation
from rarec_hf.data import save_vectors
from rarec_hf.training.arguments import EncoderArguments, RARecTrainingArguments
from rarec_hf.training.job import prepare_encoders
from rarec_hf.training.loaded_encoder import load_id_encoder
from rarec_hf.training.samples import AlignmentCollator, AlignmentDataset


@pytest.fixture
def vectors(split):
    """Items in reverse order, and users of whom the first is missing and one is unknown to the data."""
    rng = np.random.default_rng(0)
    items, users = split.interactions.items.item_ids[::-1], [*split.interactions.user_ids[:0:-1], "stranger"]
    return items, rng.normal(size=(len(items), 4)), users, rng.normal(size=(len(users), 4))


@pytest.fixture
def file(vectors, tmp_path):
    save_vectors(tmp_path / "vectors.npz", *vectors)
    return str(tmp_path / "vectors.npz")


def test_files_need_trust_and_are_matched_by_id(file, vectors, split):
    with pytest.raises(ValueError, match="vectors.npz does not say what it was trained on.*--trust_id_encoder"):
        load_id_encoder(file, split)
    encoder = load_id_encoder(file, split, trust=True, similarity="cosine", max_history=7)
    torch.testing.assert_close(encoder.item_vectors(), torch.tensor(vectors[1][::-1].copy()).float())
    assert (encoder.config.similarity, encoder.config.max_history) == ("cosine", 7)


def test_users_the_encoder_may_not_learn_from_are_held_back(file, vectors, split, caplog):
    of_user = dict(zip(vectors[2], vectors[3], strict=True))
    expected = np.stack([of_user.get(user, np.zeros(4)) for user in split.interactions.user_ids])
    trusted = load_id_encoder(file, split, True, trust_user_vectors=True).user_embeddings.weight.numpy(force=True)
    np.testing.assert_allclose(trusted, expected, rtol=1e-6)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        encoder = load_id_encoder(file, split, True)
    expected[split.alignment_users] = 0
    np.testing.assert_allclose(encoder.user_embeddings.weight.numpy(force=True), expected, rtol=1e-6)
    n_users = split.interactions.n_users
    n_held = len(split.alignment_users) - (0 in split.alignment_users)
    (message,) = caplog.messages
    assert message.startswith(
        f"User vectors: {n_users - len(split.alignment_users) - (n_held == len(split.alignment_users))} of {n_users}"
    )
    assert f"{n_held} of users whom the ID encoder may not learn from are held back" in message
    assert "1 of users outside the data left out" in message


def test_alignment_samples_never_see_a_users_vector(file, split, make_backbone, make_processor):
    """Of two models that differ in the users' vectors alone, a training batch says the same: the vector of a user has
    seen the whole history, a sample stands in its middle."""
    n_items, samples = split.interactions.n_items, split.alignment_samples()
    data = AlignmentDataset(split.interactions, samples.take(np.arange(len(samples)) < 6))
    processor = make_processor([f"film {n}" for n in range(n_items)])
    batch = AlignmentCollator(processor, 8)([data[row] for row in range(len(data))])
    losses = []
    for trust_user_vectors in (True, False):
        encoder = load_id_encoder(file, split, True, trust_user_vectors=trust_user_vectors)
        torch.manual_seed(0)
        model = RARecForSequentialRecommendation.from_backbone(make_backbone(), encoder, score_dim=8, text_dim=16)
        model.processor = processor
        model.prepare_texts(range(n_items), progress=False)
        users = torch.tensor(data.samples.users)
        assert bool(encoder.user_embeddings.weight[users].any()) == trust_user_vectors
        losses.append(model(**batch).loss.item())
    assert losses[0] == losses[1]


def test_an_encoder_with_users_keeps_them_through_its_folder(vectors, split, tmp_path):
    items, item_vectors, users, user_vectors = vectors
    catalogue, seen = split.interactions.items.item_ids, split.seen_by_encoder_digest()
    made = ItemVectorsModel.from_vectors(
        items, item_vectors, catalogue, user_ids=users, user_vectors=user_vectors, training_data=seen
    )
    made.save_pretrained(tmp_path / "encoder")
    encoder = load_id_encoder(str(tmp_path / "encoder"), split)  # says what it was trained on: no trust is needed
    user = split.encoder_users[-1]
    expected = user_vectors[users.index(split.interactions.user_ids[user])]
    np.testing.assert_allclose(encoder.user_embeddings.weight[user].numpy(force=True), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="--user_vectors and --vector_similarity belong to a file"):
        load_id_encoder(str(tmp_path / "encoder"), split, similarity="cosine")


def test_items_without_a_vector(vectors, split, tmp_path):
    save_vectors(tmp_path / "vectors.npz", vectors[0][1:], vectors[1][1:])
    with pytest.raises(ValueError, match=r"1 of 30 items of the catalogue have no vector.*--missing_vectors zeros"):
        load_id_encoder(str(tmp_path / "vectors.npz"), split, True)
    encoder = load_id_encoder(str(tmp_path / "vectors.npz"), split, True, missing="zeros")
    assert not encoder.item_vectors()[-1].any() and not encoder.takes_users


def test_the_options_of_a_run_reach_the_loader(vectors, split, tmp_path):
    save_vectors(tmp_path / "items.npz", *vectors[:2])
    np.savez(tmp_path / "users.npz", user_ids=vectors[2], user_vectors=vectors[3])
    arguments = EncoderArguments(
        id_encoder=str(tmp_path / "items.npz"),
        user_vectors=str(tmp_path / "users.npz"),
        trust_id_encoder=True,
        trust_user_vectors=True,
        vector_similarity="cosine",
        encoder_max_history=9,
    )
    training = RARecTrainingArguments(output_dir=str(tmp_path))
    encoder, opponent, _ = prepare_encoders(split, arguments, training, tmp_path)
    assert opponent is None and encoder.takes_users and encoder.config.max_history == 9
    assert encoder.config.similarity == "cosine" and encoder.user_embeddings.weight[split.alignment_users].any()
    with pytest.raises(ValueError, match="--user_vectors needs the item vectors"):
        prepare_encoders(split, EncoderArguments(user_vectors="users.npz"), training, tmp_path)


def test_what_is_no_file_of_vectors(split, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_id_encoder(str(tmp_path / "none.npz"), split)
    with pytest.raises(ValueError, match="run any code"):
        load_id_encoder(str(tmp_path / "model.pt"), split)
