"""Vectors of another recommender: ids are matched by value, and what cannot be used is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel

from rarec_hf import ItemVectorsConfig, ItemVectorsModel

IDS = ["a", "b", "c", "d"]
VECTORS = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.5]], dtype=np.float32)
make = ItemVectorsModel.from_vectors


def test_ids_are_matched_by_value():
    shuffled = make(["d", "x", "b", "a", "c"], VECTORS[[3, 0, 1, 0, 2]], catalogue_ids=IDS)
    assert torch.equal(shuffled.item_vectors(), make(IDS, VECTORS).item_vectors())
    digests = [made.config.catalogue for made in (shuffled, make(IDS, VECTORS), make(IDS[::-1], VECTORS))]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(make([1, 2, 3, 4], VECTORS, ["4", "1"]).item_vectors(), torch.tensor(VECTORS[[3, 0]]))


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
        (IDS[:3], VECTORS, None, r"shape \(3, width\), got \(4, 2\)"),
        (IDS, VECTORS[:, 0], None, r"shape \(4, width\), got \(4,\)"),
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
