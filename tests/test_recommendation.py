from __future__ import annotations

import numpy as np
import pytest
import torch

from rarec_hf import Recommendation
from rarec_hf.catalogue_texts import length_sorted_batches


@pytest.fixture
def model(trained):
    return trained()


def test_one_and_many_histories(model):
    one = model.recommend(["i1", "i2"], k=3)
    assert isinstance(one, Recommendation)
    assert len(one) == 3
    many = model.recommend([["i1", "i2"], ["i4"], []], k=3)
    assert [type(answer) for answer in many] == [Recommendation] * 3
    assert many[0].item_ids == one.item_ids
    assert many[0].scores == pytest.approx(one.scores, abs=1e-4)
    assert model.recommend([["i1", "i2"]], k=3)[0].item_ids == one.item_ids
    assert many[0].item_ids != many[1].item_ids


def test_answers_come_back_in_the_order_of_the_questions(model):
    """Histories are computed by length, in batches."""
    histories = [["i1"], ["i2", "i3", "i4", "i5"], [], ["i6", "i7"], ["i8"]]
    expected = [model.recommend(history, k=4) for history in histories]
    for batch_size in (1, 2, 16):
        answers = model.recommend(histories, k=4, batch_size=batch_size)
        assert [a.item_ids for a in answers] == [e.item_ids for e in expected]


def test_ids_titles_and_scores_belong_together_best_first(model):
    answer = model.recommend(["i1", "i2"], k=12, exclude_seen=False)
    scores = model.score_histories([[1, 2]])[0]
    assert answer.scores == sorted(answer.scores, reverse=True)
    assert len(set(answer.scores)) == 12
    assert list(answer) == [(f"i{n}", model.processor.titles[n], float(scores[n])) for n in np.argsort(-scores)]


def test_seen_items_are_left_out_or_not(model):
    history = ["i1", "i2", "i1"]
    without, everything = model.recommend(history, k=50), model.recommend(history, k=50, exclude_seen=False)
    assert sorted(everything.item_ids) == sorted(f"i{n}" for n in range(12))  # a k above the catalogue gives all of it
    assert without.item_ids == [i for i in everything.item_ids if i not in history]
    assert np.isfinite(without.scores).all()
    assert len(model.recommend([f"i{n}" for n in range(12)], k=5)) == 0


def test_ties_keep_the_catalogues_order(trained, make_encoder):
    encoder = make_encoder()
    with torch.no_grad():
        encoder.item_embeddings.weight[3:7] = encoder.item_embeddings.weight[3].clone()
    model = trained(encoder=encoder)
    model._catalogue.items[:] = 0  # the encoder's scores alone
    ranked = model.recommend(["i1"], k=12).item_ids
    first = ranked.index("i3")
    assert ranked[first : first + 4] == ["i3", "i4", "i5", "i6"]


def test_empty_history_and_single_items_are_answered(model):
    assert len(model.recommend([], k=4)) == 4
    answer = model.recommend([[]], k=4)
    assert isinstance(answer, list)
    assert len(answer[0]) == 4
    for item in range(12):  # nobody has these histories
        assert f"i{item}" not in model.recommend([f"i{item}"], k=12).item_ids


def test_a_history_longer_than_anything_reads_is_cut(model):
    long = [f"i{n % 12}" for n in range(40)]
    assert (
        model.recommend(long, exclude_seen=False).item_ids == model.recommend(long[-20:], exclude_seen=False).item_ids
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"history": "i1"}, "the text 'i1'. Put it into a list"),
        ({"history": ["i1", "unknown"]}, r"1 of 2 item ids.*\['unknown'\]"),
        ({"history": [["i1"], ["i99"]]}, r"\['i99'\]"),
        ({"history": ["i1"], "k": 0}, "`k` must be at least 1, got 0"),
    ],
)
def test_bad_questions_are_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.recommend(**arguments)


def test_representations_older_than_the_weights_are_refused(model, make_batch):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = model.recommend(["i1"], k=3)
    model.eval()(**make_batch())  # an evaluation changes no weight
    assert model.recommend(["i1"], k=3) == before
    model.train()
    model(**make_batch()).loss.backward()
    optimizer.step()
    with pytest.raises(ValueError, match="older than the weights.*index_catalogue"):
        model.recommend(["i1"])
    model.index_catalogue(progress=False)
    assert model.training  # as it was
    assert model.recommend(["i1"], k=3).scores != before.scores


def test_a_model_without_catalogue_or_processor_says_so(make_model, make_processor):
    model = make_model()
    with pytest.raises(ValueError, match="index_catalogue"):
        model.recommend(["i1"])
    model.processor = make_processor(["only", "two"])
    with pytest.raises(ValueError, match="has 2 items, the ID encoder 12"):
        model.recommend(["i1"])
    model.processor = None
    with pytest.raises(ValueError, match="no processor"):
        model.recommend(["i1"])


def test_the_catalogue_does_not_depend_on_its_batches(trained):
    model = trained(indexed=False)
    items = []
    for batch_size in (1, 5, 64):
        model.forget_representations()
        assert model.index_catalogue(batch_size=batch_size, progress=False) == 12
        items.append(model._catalogue.items)
    scale = items[0].abs().max()
    for other in items[1:]:
        torch.testing.assert_close(other / scale, items[0] / scale, atol=1e-5, rtol=0)


def test_text_vectors_of_catalogue_and_training_are_the_same(make_model):
    model = make_model()
    trained_on = model._catalogue.texts
    model.index_catalogue(progress=False)
    torch.testing.assert_close(model._catalogue.texts, trained_on, atol=1e-4, rtol=0)


def test_scores_in_evaluation_equal_those_of_forward(model, make_batch):
    model.eval()
    histories = [[1, 2, 3], [4], []]
    output = model(**make_batch(histories, range(12), targets=None))
    expected = output.scores.detach().numpy()
    np.testing.assert_allclose(model.score_histories(histories), expected, atol=1e-5 * abs(expected).max())


def test_batches_hold_like_lengths_longest_first():
    batches = length_sorted_batches([3, 9, 1, 9, 5], 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [4, 0], [2]]
    assert length_sorted_batches([], 2) == []
