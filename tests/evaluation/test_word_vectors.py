"""Texts by their words alone, as vectors."""

import pytest
import torch

from rarec_hf.evaluation import TitleTfidf, word_vectors

TEXTS = ["red wool scarf", "blue wool scarf", "red car", "blue car", "..."]


def test_alike_where_rare_words_are_shared():
    vectors = word_vectors(TEXTS, 3)
    assert vectors.shape == (5, 3) and vectors.dtype == torch.float32
    assert vectors.norm(dim=1).tolist() == pytest.approx([1, 1, 1, 1, 0], abs=1e-5)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > likeness[0, 2] > likeness[0, 3] - 1e-6
    assert torch.equal(vectors, word_vectors(TEXTS, 3))


@pytest.mark.parametrize("texts", [TEXTS, ["word", "..."], ["one"]], ids=["five words", "one word", "one item"])
def test_with_room_for_all_words_nothing_is_lost(texts):
    exact = torch.from_numpy(TitleTfidf().fit(texts).vectors.toarray())
    vectors = word_vectors(texts, 512)
    torch.testing.assert_close(vectors @ vectors.T, exact @ exact.T)


def test_fewer_items_than_words():
    vectors = word_vectors(["a very long title indeed", "another one of many words"], 4)
    assert vectors.shape == (2, 2)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("texts, width, message", [(TEXTS, 0, "`width` >= 1, got 0"), (["..."], 4, "holds a word")])
def test_refused(texts, width, message):
    with pytest.raises(ValueError, match=message):
        word_vectors(texts, width)
