"""Each distinct text once, only changed items again, and on from where a call was cut off."""

from __future__ import annotations

import pytest
import torch
from tests_support import rows_of

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.catalogue_texts import text_batches

N_ITEMS = 12


@pytest.mark.parametrize("position", ["after_text", "before_text"])
def test_items_that_share_a_text_are_encoded_right(trained, make_processor, position):
    titles = ["same"] * 4 + [f"film {n % 3}" for n in range(8)]
    one_by_one = trained(indexed=False, soft_prompt_position=position)
    one_by_one.processor = make_processor(titles)
    one_by_one.forget_representations()
    one_by_one.index_catalogue(batch_size=1, progress=False)
    model = trained(indexed=False, soft_prompt_position=position)
    model.processor = make_processor(titles)
    rows = rows_of(model)
    model.index_catalogue(batch_size=64, progress=False)
    if position == "after_text":
        assert rows == [4, 12]  # distinct texts, then a readout for each item
    torch.testing.assert_close(model.catalogue_items(), one_by_one.catalogue_items(), atol=1e-4, rtol=0)
    assert (model.catalogue_items()[0] - model.catalogue_items()[1]).abs().max() > 0.01  # their ID vectors differ


def test_only_changed_items_are_encoded_again(trained, make_processor, tmp_path):
    model = trained(indexed=False)
    assert model.index_catalogue(progress=False) == N_ITEMS
    assert model.index_catalogue(progress=False) == 0
    titles = list(model.processor.titles)
    titles[3], titles[7] = "new one", "another"
    model.processor = make_processor(titles)
    before = model.catalogue_items().clone()
    assert model.index_catalogue(progress=False) == 2
    changed = (model.catalogue_items() - before).abs().amax(1) > 1e-3
    assert changed.nonzero().flatten().tolist() == [3, 7]
    from_nothing = trained(indexed=False)
    from_nothing.processor = make_processor(titles)
    from_nothing.forget_representations()
    from_nothing.index_catalogue(progress=False)
    torch.testing.assert_close(model.catalogue_items(), from_nothing.catalogue_items(), atol=1e-4, rtol=0)
    # A saved folder knows too what its representations were made of
    model.save_pretrained(tmp_path)
    again = RARecForSequentialRecommendation.from_pretrained(tmp_path, language_model=model.language_model)
    assert again.index_catalogue(progress=False) == 0


@pytest.mark.parametrize("part", ["soft_prompts.item.context", "score_head.item_head.weight", "score_head.text_mean",
                                  "id_encoder.item_embeddings.weight", "id_scale"])  # fmt: skip
def test_other_weights_of_the_item_side_encode_all_anew(trained, part):
    model = trained()
    assert model.index_catalogue(progress=False) == 0
    with torch.no_grad():
        model.state_dict()[part].add_(0.1)
    assert model.index_catalogue(progress=False) == N_ITEMS


def test_the_users_side_and_the_gains_encode_nothing_anew(trained):
    model = trained()
    model.score_head.set_gains(3.0, 2.0)
    with torch.no_grad():
        model.soft_prompts["user"].context += 0.1
        model.score_head.user_head.weight += 0.1
    assert model.index_catalogue(progress=False) == 0


def test_an_interrupted_call_goes_on_from_its_file(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("rarec_hf.catalogue_index.BATCHES_BETWEEN_SAVES", 1)
    file, whole = tmp_path / "items.safetensors", trained()
    model = trained(indexed=False)
    encode, calls = model._encoded, []

    def cut(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return encode(*arguments)

    monkeypatch.setattr(model, "_encoded", cut)
    with pytest.raises(KeyboardInterrupt):
        model.index_catalogue(batch_size=2, progress=False, resume_file=file)
    again = trained(indexed=False)
    assert again.index_catalogue(batch_size=2, progress=False, resume_file=file) == N_ITEMS - 6
    torch.testing.assert_close(again.catalogue_items(), whole.catalogue_items(), atol=1e-4, rtol=0)
    other = trained(indexed=False)
    with torch.no_grad():
        other.id_scale.add_(0.5)
    assert other.index_catalogue(progress=False, resume_file=file) == N_ITEMS  # of other weights
    file.write_bytes(file.read_bytes()[:100])
    assert trained(indexed=False).index_catalogue(progress=False, resume_file=file) == N_ITEMS  # damaged


def test_text_batches_hold_each_text_once_longest_first():
    texts = [[1], [2, 2], [1], [3, 3, 3], [2, 2], [4]]
    batches = list(text_batches(texts, 2))
    assert batches == [([[3, 3, 3], [2, 2]], [[3], [1, 4]]), ([[1], [4]], [[0, 2], [5]])]
    assert list(text_batches([], 2)) == []


def test_an_item_without_any_text_is_named(trained, make_processor):
    model = trained(indexed=False)
    model.processor = make_processor(["a film"] * 3 + [""] + ["b"] * 8)
    model.processor.templates = type(model.processor.templates)("User:", "\n-", "\nNext:", "", "\n{name}:", "\nLike:")
    with pytest.raises(ValueError, match=r"texts of 1 items have no token, the first item ids: \['i3'\]"):
        model.index_catalogue(progress=False)


@pytest.mark.parametrize("change", ["quantised", "fingerprint"])
def test_a_backbone_quantised_otherwise_encodes_all_anew(trained, change):
    model = trained()
    if change == "quantised":
        model.language_model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
        assert model.index_catalogue(progress=False) == N_ITEMS
    else:  # what the config records is not asked where the weights are at hand
        model.config.backbone_fingerprint = "v1:a:b"
        assert model.index_catalogue(progress=False) == 0


def test_text_states_of_several_layers_without_the_opening(trained, make_processor):
    model = trained(indexed=False, text_layers=[0, 0.5, 1], text_opening=3)
    model.processor = make_processor(["a", "film b", "see c", *["x"] * 9])
    found = model.encode_texts([0, 1, 2], progress=False)
    for row in range(3):
        ids = torch.tensor([model.processor.item_texts([row])[0]])
        states = model.backbone(input_ids=ids, output_hidden_states=True).hidden_states
        first = 3 if ids.shape[1] > 3 else 0  # a text of the opening's length is taken whole
        expected = torch.cat([states[layer][0, first:].mean(0) for layer in (0, 2, 3)])  # three layers
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=0)
    model.prepare_texts(range(N_ITEMS), progress=False)
    model.index_catalogue(progress=False)
    assert model.catalogue_texts().shape == (N_ITEMS, 48)
    model.config.text_opening = 0
    assert model.index_catalogue(progress=False) == N_ITEMS


def test_a_backbone_that_hides_its_inner_layers_is_named(trained):
    model = trained(indexed=False)
    model.config.text_layers = [0.5, 1.0]
    forward = model.backbone.forward
    model.backbone.forward = lambda *a, **k: forward(*a, **{**k, "output_hidden_states": False})
    with pytest.raises(ValueError, match="does not give the states of its inner layers"):
        model.encode_texts([0], progress=False)
