"""Items with a title and no interactions are recommended at once."""

from __future__ import annotations

import pytest
import torch
from tests_support import rows_of

from rarec_hf import RARecForSequentialRecommendation, TextSASRecConfig, TextSASRecModel

N_ITEMS = 12


@pytest.mark.parametrize("score", ["encoder_plus_llm", "trained_head", "dot_product"])
def test_a_twin_of_a_known_item_scores_as_it_does(trained, score, tmp_path):
    model = trained(score=score)
    title, before = model.processor.titles[4], model.score_histories([[1, 2, 3]])
    model.add_items(["new"], [title], neighbours=1)
    assert model.processor.item_ids[-1] == "new" and model.config.id_encoder_config.n_items == N_ITEMS + 1
    scores = model.score_histories([[1, 2, 3]])
    torch.testing.assert_close(torch.tensor(scores[:, :N_ITEMS]), torch.tensor(before), atol=1e-4, rtol=1e-4)
    assert scores[0, N_ITEMS] == pytest.approx(float(scores[0, 4]), rel=1e-3, abs=1e-3)
    assert "new" in model.recommend(["i1", "i2"], k=N_ITEMS + 1).item_ids
    assert len(model.recommend(["new"], k=3).item_ids) == 3  # and it may stand in a history
    model.save_pretrained(tmp_path)
    again = RARecForSequentialRecommendation.from_pretrained(tmp_path, language_model=model.language_model)
    torch.testing.assert_close(
        torch.tensor(again.score_histories([[1, 12]])), torch.tensor(model.score_histories([[1, 12]]))
    )


def test_only_the_new_ones_pass_the_llm(trained):
    model = trained()
    rows = rows_of(model)
    model.add_items(["x", "y"], ["film x", "film y"])
    assert sum(rows) == 2 + 2 + 2  # their texts for the neighbours, then texts and readouts
    assert model.index_catalogue(progress=False) == 0
    assert model.id_encoder.item_vectors().shape[0] == N_ITEMS + 2


def test_an_encoder_that_reads_texts_gets_them(make_model):
    encoder = TextSASRecModel(TextSASRecConfig(n_items=N_ITEMS, hidden_size=16, max_history=8, text_dim=16)).eval()
    model = make_model(encoder=encoder)
    encoder.set_texts(model.catalogue_texts())
    model.index_catalogue(progress=False)
    model.add_items(["new"], [model.processor.titles[4]], neighbours=1)
    vectors = encoder.item_vectors()
    torch.testing.assert_close(vectors[12], vectors[4], atol=1e-4, rtol=0)
    other = TextSASRecModel(TextSASRecConfig(n_items=N_ITEMS, hidden_size=16, max_history=8, text_dim=5)).eval()
    model = make_model(encoder=other, indexed=True)
    with pytest.raises(ValueError, match="text vectors of width 5, the new items' have 16"):
        model.add_items(["new"], ["t"])


def test_wrong_use_is_named_and_changes_nothing(trained):
    model = trained()
    for arguments, message in (
        ((["i3"], ["t"]), "must be distinct, 'i3' stands twice"),
        ((["a", "b"], ["t"]), "2 ids, 1 titles"),
        ((["a", " "], ["t", "t"]), "must not be empty, 1 are, the first at place 1"),
        (([float("nan")], ["t"]), "must not be empty.*'nan'"),
        ((["a"], ["t"], None, 0), "`neighbours` must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.add_items(*arguments)
    assert len(model.processor.item_ids) == model.config.id_encoder_config.n_items == N_ITEMS
    model.add_items([], [])
    model.forget_representations()
    with pytest.raises(ValueError, match="index_catalogue"):
        model.add_items(["a"], ["t"])
