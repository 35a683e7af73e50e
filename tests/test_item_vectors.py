"""Vectors of another recommender: ids are matched by value, and what cannot be used is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel

from rarec_hf import ItemVectorsConfig, ItemVectorsModel

IDS = ["a", "b", "c", "d"]
VECTORS = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.5]], dtype=np.float32)
USERS = {"user_ids": ["v", "w"], "user_vectors": np.array([[0.5, -1.0], [2.0, 0.0]])}
HISTORIES = torch.tensor([[0, 1], [2, -1]])
make = ItemVectorsModel.from_vectors


def test_ids_are_matched_by_value():
    shuffled = make(["d", "x", "b", "a", "c"], VECTORS[[3, 0, 1, 0, 2]], catalogue_ids=IDS)
    assert torch.equal(shuffled.item_vectors(), make(IDS, VECTORS).item_vectors())
    digests = [made.config.catalogue for made in (shuffled, make(IDS, VECTORS), make(IDS[::-1], VECTORS))]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(make([1, 2, 3, 4], VECTORS, ["4", 1.0]).item_vectors(), torch.tensor(VECTORS[[3, 0]]))
    with pytest.raises(ValueError, match=r"1 of 2 items of the catalogue have no vector, the first: \['05'\]"):
        make([5, 6], VECTORS[:2], ["05", "6"])


def test_items_outside_the_catalogue_are_counted_and_named(caplog):
    make([*IDS, "x", "y"], VECTORS[[0, 1, 2, 3, 0, 0]], IDS[:3])
    assert any(
        "3 of 6 vectors are of items outside the catalogue, the first: ['d', 'x', 'y']" in w for w in caplog.messages
    )
    with pytest.raises(ValueError, match=r"1 of 4 vectors are of items outside.*\['d'\].*leave `strict` out"):
        make(IDS, VECTORS, IDS[:3], strict=True)


def test_items_without_a_vector_may_have_zeros(caplog):
    vectors = VECTORS.copy()
    vectors[1] = 0
    model = make(IDS, vectors, ["a", "b", "e"], missing="zeros")
    assert torch.equal(model.item_vectors(), torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    assert any(
        "1 of 3 items of the catalogue have no vector, the first: ['e']. They get zeros" in w for w in caplog.messages
    )
    with pytest.raises(ValueError, match="2 of 2 items"):  # other ids, not gaps
        make(IDS, VECTORS, ["e", "f"], missing="zeros")


def test_a_user_is_the_recency_weighted_mean():
    model = make(IDS, VECTORS, recency_decay=0.5)
    vectors = model.user_vectors(torch.tensor([[0, 1, 2], [3, -1, -1], [-1, -1, -1]]))[:, 0]
    expected = (0.25 * VECTORS[0] + 0.5 * VECTORS[1] + VECTORS[2]) / 1.75
    torch.testing.assert_close(vectors, torch.tensor(np.stack([expected, VECTORS[3], [0, 0]])).float())
    everywhere = model.position_vectors(torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(everywhere[0, 1, 0], torch.tensor((0.5 * VECTORS[0] + VECTORS[1]) / 1.5))


def test_save_and_load(tmp_path):
    make(IDS, VECTORS).save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is ItemVectorsModel and torch.equal(again.item_vectors(), torch.tensor(VECTORS))


@pytest.mark.parametrize(
    ("ids", "vectors", "catalogue", "message"),
    [
        (["a", "b", "a", "b"], VECTORS, None, r"2 item ids stand more than once.*\['a', 'b'\]"),
        (IDS, VECTORS, ["a", "e", "f"], r"2 of 3 items of the catalogue have no vector, the first: \['e', 'f'\]"),
        (IDS[:3], VECTORS, None, r"shape \(3, width\), .* got \(4, 2\)"),
        (IDS, VECTORS[:, 0], None, r"shape \(4, width\), .* got \(4,\)"),
        (IDS, VECTORS.astype(int), None, "floating-point numbers"),
        (IDS, np.where(VECTORS == 2, np.nan, VECTORS), None, r"1 items are not finite, the first: \['b'\]"),
        (IDS, VECTORS * [[1], [0], [1], [0]], None, r"2 items are all zeros, the first: \['b', 'd'\]"),
    ],
)
def test_what_cannot_be_used_is_named(ids, vectors, catalogue, message):
    with pytest.raises(ValueError, match=message):
        make(ids, vectors, catalogue)


def test_items_that_are_not_wanted_may_be_anything():
    vectors = VECTORS.copy()
    vectors[1] = np.inf
    assert make(IDS, vectors, ["a", "c"]).config.n_items == 2


def test_decay_out_of_range_is_refused():
    with pytest.raises(Exception, match="`recency_decay` <= 1, got 2"):
        ItemVectorsConfig(recency_decay=2)


def test_arrays_of_any_make():
    for vectors in (
        VECTORS.astype(">f8"),
        VECTORS.astype(np.float16),
        VECTORS.tolist(),
        torch.tensor(VECTORS).double(),
    ):
        assert torch.equal(make(IDS, vectors).item_vectors(), torch.tensor(VECTORS))


# users ---------------------------------------------------------------------------------------------------------------


def test_known_users_are_their_vector_and_others_the_mean():
    model = make(IDS, VECTORS, **USERS)
    assert model.takes_users and not make(IDS, VECTORS).takes_users
    mean = make(IDS, VECTORS).user_vectors(HISTORIES)
    assert torch.equal(model.user_vectors(HISTORIES), mean)
    assert torch.equal(model.user_vectors(HISTORIES, torch.tensor([-1, -1])), mean)
    known = model.user_vectors(HISTORIES, torch.tensor([1, -1]))
    assert torch.equal(known, torch.stack([torch.tensor([[2.0, 0.0]]), mean[1]]))
    empty = torch.tensor([[-1]])
    assert model.user_vectors(empty, torch.tensor([0])).flatten().tolist() == [0.5, -1.0]
    assert model.user_vectors(empty, torch.tensor([-1])).flatten().tolist() == [0.0, 0.0]
    # an encoder without a table has nothing to say about users
    assert torch.equal(make(IDS, VECTORS).user_vectors(HISTORIES, torch.tensor([0, 1])), mean)
    with pytest.raises(ValueError, match="Expected one user for each of 2 histories"):
        model.user_vectors(HISTORIES, torch.tensor([0]))
    with pytest.raises(ValueError, match=r"within 0..1, or -1 if not known, got 0..2"):
        model.user_vectors(HISTORIES, torch.tensor([0, 2]))


def test_users_are_found_by_value_also_after_loading(tmp_path):
    make(IDS, VECTORS, user_ids=[7, 8], user_vectors=USERS["user_vectors"]).save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path)
    assert model.user_indices(["8", 7.0, "07", "9"]).tolist() == [1, 0, -1, -1]
    assert torch.equal(model.user_embeddings.weight, torch.tensor(USERS["user_vectors"]).float())


def test_users_are_put_into_the_order_of_the_data():
    model = make(IDS, VECTORS, user_ids=["v", "w", "x"], user_vectors=np.array([[1.0, 1], [2, 2], [3, 3]]))
    counts = model.arrange_users(["w", "new", "v"], without=[2])
    assert model.user_embeddings.weight.tolist() == [[2, 2], [0, 0], [0, 0]]
    assert model.config.n_users == 3 and model.user_indices(["v", "x", "w"]).tolist() == [-1, -1, 0]
    assert counts == {
        "users": 3, "users_with_vector": 1, "user_vectors_held_back": 1, "user_vectors_left_out": 1,
    }  # fmt: skip
    mean = model.user_vectors(HISTORIES)
    assert torch.equal(model.user_vectors(HISTORIES, torch.tensor([2, 1])), mean)  # held back, and never there


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ({"user_ids": ["v"]}, "go together"),
        ({"user_ids": ["v", "w"], "user_vectors": np.ones((2, 3))}, "3 wide and item vectors 2"),
        ({"user_ids": ["v", "v"], "user_vectors": np.ones((2, 2))}, r"1 user ids stand more than once.*\['v'\]"),
        ({"user_ids": ["v", "w"], "user_vectors": np.ones((3, 2))}, r"user vectors of shape \(2, width\)"),
        ({"user_ids": ["v", "w"], "user_vectors": np.array([[1, 1], [np.inf, 1]])}, r"1 users are not finite.*'w'"),
        ({"user_ids": ["v", "w"], "user_vectors": np.array([[0.0, 0], [1, 1]])}, r"1 users are all zeros.*'v'"),
    ],
)
def test_users_that_cannot_be_used_are_named(users, message):
    with pytest.raises(ValueError, match=message):
        make(IDS, VECTORS, **users)


# similarity ----------------------------------------------------------------------------------------------------------


def test_cosine_scores_do_not_see_lengths():
    model = make(IDS, VECTORS * [[1], [5], [0.1], [7]], similarity="cosine", recency_decay=1.0)
    user = model.user_vectors(torch.tensor([[0, 1]]))
    torch.testing.assert_close(user[0, 0], torch.tensor([0.5, 0.5]))  # the mean of (1, 0) and (0, 1), not of (0, 10)
    half = 0.5**0.5
    expected = torch.tensor([[half, half, 1.0, (-1 + 0.5) * half / 1.25**0.5]])
    torch.testing.assert_close(model.scores(user, model.item_vectors()), expected)
    dot = make(IDS, VECTORS)
    torch.testing.assert_close(
        dot.scores(torch.tensor([[[1.0, 2.0]]]), dot.item_vectors()), torch.tensor([[1.0, 4.0, 9.0, 0.0]])
    )
    with pytest.raises(Exception, match="`similarity` must be one of"):
        ItemVectorsConfig(similarity="euclid")
