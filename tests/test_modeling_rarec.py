from __future__ import annotations

import pytest
import torch

from rarec_hf import RARecConfig, RARecForSequentialRecommendation
from rarec_hf.attention_layout import Columns
from rarec_hf.backbone_pass import run_backbone
from rarec_hf.soft_prompt import SoftPrompts

POSITIONS = ["before_text", "after_text"]
EACH_POSITION = pytest.mark.parametrize("position", POSITIONS)


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


# what the states are -------------------------------------------------------------------------------------------------


@EACH_POSITION
@pytest.mark.parametrize("kind", ["llama", "gemma3", "mistral", "gpt2"])
def test_without_soft_prompts_the_states_are_the_bare_backbones(make_model, make_batch, position, kind):
    model = make_model(kind, soft_prompt_position=position, use_soft_prompts=False)
    batch = make_batch()
    output = model(**batch)
    for side, states in (("user", output.user_states), ("item", output.item_states)):
        for row, ids in enumerate(batch[f"{side}_text_ids"]):
            text = torch.cat([ids[batch[f"{side}_text_mask"][row].bool()], batch[f"{side}_readout_ids"]])
            bare = model.language_model.base_model(input_ids=text.unsqueeze(0)).last_hidden_state[0, -1]
            close(states[row], bare, 1e-4)


@EACH_POSITION
def test_without_item_soft_prompts_items_are_their_texts_alone(make_model, make_batch, tmp_path, position):
    switches = {"soft_prompt_position": position, "score": "dot_product"}
    both, none, users = (
        make_model(**switches, **switch) for switch in ({}, {"use_soft_prompts": False}, {"item_soft_prompts": False})
    )
    users.soft_prompts["user"].load_state_dict(both.soft_prompts["user"].state_dict())
    batch = make_batch()
    close(users(**batch).item_states, none(**batch).item_states)
    close(users(**batch).user_states, both(**batch).user_states)
    users.index_catalogue(progress=False)
    users.save_pretrained(tmp_path, include_backbone=True)
    again = RARecForSequentialRecommendation.from_pretrained(tmp_path)
    assert list(again.soft_prompts) == ["user"]
    close(again.catalogue_items(), users.catalogue_items())


class KeptText(torch.nn.Module):
    """In the place of a soft prompt generator: the keys and values of a text."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, id_vectors):
        return SoftPrompts(self.layers, None)


@EACH_POSITION
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_keys_and_values_of_a_text_as_soft_prompts_read_as_that_text(make_model, position, kind):
    model = make_model(kind, soft_prompt_position=position)
    base, text, readout = model.backbone, torch.randint(0, 256, (1, 9)), torch.tensor([3, 4])
    inserted = torch.tensor([[70, 8, 90]])
    with torch.no_grad():
        if position == "before_text":
            _, kept = run_backbone(base, model.spec, inserted, Columns.text(torch.ones(1, 3)), keep=True)
            whole = torch.cat([inserted, text, readout[None]], 1)
        else:
            both = torch.cat([text, inserted], 1)
            _, kept = run_backbone(base, model.spec, both, Columns.text(torch.ones(1, 12)), keep=True)
            kept.layers = {i: (k[:, :, 9:], v[:, :, 9:]) for i, (k, v) in kept.layers.items()}
            whole = torch.cat([both, readout[None]], 1)
        model.soft_prompts["user"] = KeptText(kept.layers)
        padded, mask = (torch.nn.functional.pad(x, (2, 1)) for x in (text, torch.ones_like(text)))
        state = model.read("user", padded, mask, readout, torch.zeros(1, 1, 16)).state
        close(state, base(input_ids=whole).last_hidden_state[:, -1], 1e-4)


def test_the_scale_of_the_encoder_does_not_matter_to_the_soft_prompts(make_model, make_encoder, make_batch):
    encoder = make_encoder()
    model = make_model(encoder=encoder)
    close(model.id_scale, encoder.item_embeddings.weight.pow(2).mean().sqrt())
    states = model(**make_batch()).item_states
    larger = make_encoder()
    with torch.no_grad():
        larger.item_embeddings.weight.mul_(50)
    close(make_model(encoder=larger)(**make_batch()).item_states, states, 1e-4)


@EACH_POSITION
def test_soft_prompts_and_id_vectors_steer_the_states(make_model, make_batch, position):
    batch = make_batch()
    states = [
        make_model(soft_prompt_position=position, **switch)(**batch).user_states
        for switch in ({}, {"use_soft_prompts": False}, {"use_id_vectors": False}, {"context_length": 0})
    ]
    for other in states[1:]:
        assert (states[0] - other).abs().amax(-1).min() > 0.05
    model = make_model(soft_prompt_position=position)
    with torch.no_grad():
        model.id_encoder.item_embeddings.weight.mul_(-1)
    assert (model(**batch).user_states - states[0]).abs().amax(-1).min() > 0.05


def test_an_untrained_model_ranks_exactly_as_its_encoder(make_model, make_batch):
    model, batch = make_model(), make_batch()
    encoder = model.id_encoder
    expected = encoder.scores(encoder.user_vectors(batch["history"]), encoder.item_vectors()[batch["items"]])
    assert torch.equal(model(**batch).scores, expected)
    model.index_catalogue(progress=False)
    histories = [[1, 2, 3], [4], []]
    vectors = encoder.user_vectors(make_batch(histories)["history"])
    whole = encoder.scores(vectors, encoder.item_vectors()).detach().numpy()
    assert (model.score_histories(histories) == whole).all()


def test_the_papers_score_is_the_product_of_the_states(make_model, make_batch):
    output = make_model(score="dot_product")(**make_batch())
    close(output.scores, output.user_states @ output.item_states.T)


@EACH_POSITION
@pytest.mark.parametrize("score", ["encoder_plus_llm", "dot_product"])
def test_batch_order_and_padding_change_no_score(trained, make_batch, position, score):
    model = trained(soft_prompt_position=position, score=score)
    histories, items = [(1, 2, 3, 0, 7), (4,), (), (5, 6)], (3, 5, 9, 2, 0)
    batch = make_batch(histories, items, targets=None)
    expected = model(**batch).scores
    assert expected.std(1).min() > 0.1
    scale = expected.abs().max()
    for rows in ([0], [3, 1], [2, 3, 1, 0]):
        part = model(**make_batch([histories[r] for r in rows], items, targets=None)).scores
        close(part / scale, expected[rows] / scale)
    order = [4, 0, 3]
    part = model(**make_batch(histories, [items[i] for i in order], targets=None)).scores
    close(part / scale, expected[:, order] / scale)
    for side in ("user", "item"):  # the same rows, padded on the left and by more
        ids, mask = batch[f"{side}_text_ids"], batch[f"{side}_text_mask"]
        shifts = (ids.shape[1] - mask.sum(1)).tolist()
        for name, value in ((f"{side}_text_ids", ids), (f"{side}_text_mask", mask)):
            rolled = torch.stack([row.roll(shift) for row, shift in zip(value, shifts, strict=True)])
            batch[name] = torch.nn.functional.pad(rolled, (3, 0))
    close(model(**batch).scores / scale, expected / scale)
    alone = model.score_histories(histories, batch_size=1)
    together = model.score_histories(histories, batch_size=4)
    close(torch.tensor(alone) / scale, torch.tensor(together) / scale)
    close(torch.tensor(together)[:, items] / scale, expected / scale)


def test_the_head_is_never_run(make_model, make_batch):
    model = make_model()

    def fail(*_):
        raise AssertionError("lm_head was run")

    model.language_model.get_output_embeddings().register_forward_pre_hook(fail)
    with pytest.raises(AssertionError, match="lm_head"):
        model.language_model(input_ids=torch.tensor([[1, 2]]))
    model.train()
    model(**make_batch()).loss.backward()
    model.index_catalogue(progress=False)
    model.recommend(["i1"])


# bad input -----------------------------------------------------------------------------------------------------------


def test_wrong_inputs_are_refused(make_model, make_batch, make_backbone, make_encoder):
    model = make_model()
    batch = make_batch()
    wide = torch.nn.functional.pad(batch["user_text_mask"], (3, 0), value=1)
    with pytest.raises(ValueError, match="`user_?text_mask`|`text_mask` must cover the text alone"):
        model(**batch | {"user_text_mask": wide})
    empty = batch["item_text_mask"].clone()
    empty[2] = 0
    with pytest.raises(ValueError, match="Row 2 of the item texts has no token"):
        model(**batch | {"item_text_mask": empty})
    with pytest.raises(ValueError, match=r"within 0\.\.11"):
        model(**batch | {"history": torch.tensor([[1], [12], [3]])})
    for index in (12, -1):
        with pytest.raises(ValueError, match=rf"Item indices must be within 0\.\.11, got {index}"):
            model(**batch | {"items": torch.tensor([3, 5, index, 2])})
    n_items = len(batch["items"])
    for changes, message in (
        # One history for three texts would be scored as everybody's
        ({"history": batch["history"][:1]}, "Expected a history for each of 3 user texts, got 1"),
        ({"items": batch["items"][:-1]}, f"an item index for each of {n_items} item texts, got {n_items - 1}"),
        ({"targets": torch.tensor([0, 1])}, r"Expected a target for each of 3 users, shape \(3,\), got \(2,\)"),
        ({"targets": torch.tensor([0, n_items, 1])}, rf"within 0\.\.{n_items - 1}, got 0\.\.{n_items}"),
        ({"negatives": torch.ones(3, 1, dtype=torch.bool)}, r"Expected `negatives` of shape \(3, "),
    ):
        with pytest.raises(ValueError, match=message):
            model(**batch | changes)
    encoder = make_encoder()
    with torch.no_grad():
        encoder.item_embeddings.weight[5, 3] = float("nan")
    with pytest.raises(ValueError, match=r"1 items are not finite.*\[5\]"):
        RARecForSequentialRecommendation.from_backbone(make_backbone(), encoder)
    with pytest.raises(TypeError, match="no field.*score_dims"):
        make_model(score_dims=3)
    with pytest.raises(ValueError, match="from_backbone"):
        RARecForSequentialRecommendation(RARecConfig())


def test_texts_must_be_prepared_for_a_score_that_pools_them(make_model, make_batch):
    model = make_model()
    model.prepare_texts([1, 2, 3], progress=False)
    model(**make_batch([(1, 2)], (4, 5), (1,)))
    with pytest.raises(ValueError, match="no text vector yet"):
        model(**make_batch([(1, 7)], (4, 5), (1,)))
    model._catalogue = None
    with pytest.raises(ValueError, match=r"prepare_texts"):
        model(**make_batch())


def test_pooled_text_by_hand(make_model):
    model = make_model(pooled_history=2, pooling_decay=0.5)
    texts = model._catalogue.texts
    assert texts.shape == (12, 16)
    pooled = model.pooled_text(torch.tensor([[4, 1, 3, -1], [7, -1, -1, -1], [-1, -1, -1, -1]]))
    close(pooled[0], torch.nn.functional.normalize(texts[3] + 0.5 * texts[1], dim=0))
    close(pooled[1], texts[7])
    assert torch.equal(pooled[2], torch.zeros(16))
