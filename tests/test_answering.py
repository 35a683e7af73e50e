"""Answers from what is kept of a text equal those from nothing."""

from __future__ import annotations

import pytest
import torch

from rarec_hf import backbone_pass
from rarec_hf.training.stored_texts import StoredTexts

KINDS = ["llama", "qwen3", "gemma3", "mistral", "llama4", "gpt2"]
EVENTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.fixture
def passes():
    """`passes(model)`: (rows, columns) of each pass through its backbone, as they come."""

    def listen(model):
        shapes = []
        model.backbone.register_forward_pre_hook(
            lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
        )
        return shapes

    return listen


def states(model, histories):
    return model.represent_users(histories)[0]


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-4 * max(1.0, b.abs().max().item()), rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_text_and_readout_in_one_pass_read_as_two(trained, kind, passes):
    model = trained(kind=kind)
    histories, shapes = [[1, 2, 3], [4], [], [5, 6, 7, 8, 9]], passes(model)
    together = states(model, histories)
    assert [rows for rows, _ in shapes] == [1, 4]  # the opening, for all users; then the rest
    inputs = model.processor.user_inputs(histories, 8)
    vectors = model.id_encoder.user_vectors(inputs["history"])
    read = model.read("user", *(inputs[f"user_{n}"] for n in ("text_ids", "text_mask", "readout_ids")), vectors)
    close(together, model.score_head.user(read.state, model.pooled_text(inputs["history"])))
    shapes.clear()
    states(model, histories)
    assert [rows for rows, _ in shapes] == [4]
    model.processor.templates = type(model.processor.templates)("Other:", "\n-", "\nNext:", "", "\n{name}:", "\nLike:")
    assert (states(model, histories)[:, 16:] - together[:, 16:]).abs().max() > 1e-3  # another opening is another text


@pytest.mark.parametrize("kind", KINDS)
def test_kept_texts_are_extended_by_new_titles_alone(trained, make_processor, kind, passes):
    model = trained(kind=kind)
    model.processor = make_processor(max_history_items=8, history_block=4, max_text_tokens=96)
    fresh = [states(model, [EVENTS[:n]]) for n in range(len(EVENTS) + 1)]
    model.keep_texts()
    shapes, recomputed = passes(model), []
    title = max(len(model.processor.user_text([i]).ids) for i in EVENTS)
    opening, readout = len(model.processor.user_text([]).ids), len("\nNext:")
    for n, expected in enumerate(fresh):
        shapes.clear()
        close(states(model, [EVENTS[:n]]), expected)
        (_, columns) = shapes[-1]
        if columns > title - opening + readout:
            recomputed.append(n)
    assert recomputed == [9]  # where the window slides, by a block
    assert len(model.kept_texts) == 2  # the longest text of each window


def test_kept_texts_of_a_batch_of_unequal_beginnings(trained, make_processor, passes):
    model = trained()
    model.processor = make_processor(max_history_items=8, history_block=8, max_text_tokens=96)
    before = [EVENTS[:3], EVENTS[4:5], [], EVENTS[2:8]]
    after = [EVENTS[:5], EVENTS[4:6], [9], EVENTS[2:8], [11, 0]]
    fresh = states(model, after)
    model.keep_texts()
    states(model, before)
    shapes = passes(model)
    close(states(model, after), fresh)
    assert sum(columns for _, columns in shapes) < 40
    shapes.clear()
    close(states(model, after), fresh)
    assert shapes == [(5, len("\nNext:"))]  # nothing but the readout
    model.forget_texts()
    assert model.kept_texts is None


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_texts_stored_in_files_answer_too(trained, kind, passes, tmp_path):
    model = trained(kind=kind)
    histories = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    fresh = states(model, histories)
    stored = StoredTexts(tmp_path, model, progress=False)
    stored.store(model, [model.processor.user_text(history).ids for history in histories[:2]])
    model.stored_texts = stored
    close(states(model, histories), fresh)
    shapes = passes(model)
    close(states(model, histories[:2]), fresh[:2])
    assert shapes == [(2, len("\nNext:"))]  # nothing but the readout
    model.keep_texts()
    for _ in range(2):
        longer = states(model, [[*histories[0], 4]])
    model.stored_texts = None
    model.forget_texts()
    close(longer, states(model, [[*histories[0], 4]]))


def test_recommendations_from_kept_texts_are_the_same(trained):
    model = trained()
    histories = [[f"i{n}" for n in EVENTS[:end]] for end in (1, 4, 7)]
    fresh = model.recommend(histories, k=5)
    model.keep_texts()
    for _ in range(2):
        again = model.recommend(histories, k=5)
        assert [a.item_ids for a in again] == [f.item_ids for f in fresh]


def test_another_text_is_never_taken_for_a_kept_one(trained, make_processor):
    model = trained()
    model.keep_texts()
    histories = [[1, 2, 3]]
    first = states(model, histories)
    titles = list(model.processor.titles)
    titles[2] = "zzzz"
    model.processor = make_processor(titles)
    changed = states(model, histories)
    assert (changed - first).abs().max() > 1e-3
    model.forget_texts()
    close(changed, states(model, histories))


def test_a_small_budget_gives_up_texts_and_stays_right(trained):
    model = trained()
    fresh = states(model, [EVENTS[:3], EVENTS[:6]])
    model.keep_texts(max_gib=20_000 / 2**30)
    close(states(model, [EVENTS[:3], EVENTS[:6]]), fresh)
    assert len(model.kept_texts) <= 1 and model.kept_texts.n_bytes <= 20_000
    close(states(model, [EVENTS[:3], EVENTS[:6]]), fresh)


def test_training_does_not_touch_what_is_kept(trained, make_batch):
    model = trained()
    model.keep_texts()
    states(model, [EVENTS[:4]])
    model.train()
    model(**make_batch(processor=model.processor)).loss.backward()
    with torch.no_grad():
        model.soft_prompts["user"].context += 0.5
    model.eval()
    kept = states(model, [EVENTS[:4]])
    model.forget_texts()
    close(kept, states(model, [EVENTS[:4]]))


def test_where_texts_cannot_be_kept_it_says_why(trained):
    with pytest.raises(ValueError, match="after_text"):
        trained(soft_prompt_position="before_text").keep_texts()
    with pytest.raises(ValueError, match="above 0"):
        trained().keep_texts(0)
    model = trained()
    model.spec = type(model.spec)(**(vars(model.spec) | {"every_position": "it takes no mask"}))
    with pytest.raises(ValueError, match="it takes no mask"):
        model.keep_texts()
    assert len(model.recommend(["i1"], k=3)) == 3


@pytest.mark.parametrize("index", [-1, 12, 99])
def test_item_indices_out_of_range_are_named(trained, index):
    with pytest.raises(ValueError, match=r"Item indices must be within 0\.\.11"):
        trained().score_histories([[1, index]])


@pytest.mark.parametrize("change", ["weights", "dtype"])
def test_kept_texts_and_the_opening_go_with_the_weights(trained, passes, change):
    model = trained()
    model.keep_texts()
    history = [[1, 2, 3, 4]]
    before = states(model, history)
    shapes = passes(model)
    close(states(model, history), before)
    assert shapes[-1][1] == len("\nNext:")  # the readout alone
    if change == "dtype":
        model.language_model.to(torch.bfloat16)
    else:
        with torch.no_grad():
            model.backbone.layers[0].self_attn.v_proj.weight.mul_(-2)
    shapes.clear()
    after = states(model, history)
    assert len(shapes) == 2 and len(model.kept_texts) == 1  # the opening, and all behind it
    if change == "weights":
        assert (after - before).abs().max() > 1e-3
        model.forget_texts()
        close(states(model, history), after)
    else:
        assert {text.states.dtype for text in model.kept_texts._texts.values()} == {torch.bfloat16}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_those_of_the_library_without_its_slow_way(trained, make_backbone, kind, attention, monkeypatch):
    model = trained(backbone=make_backbone(kind, attention))
    histories = [[1, 2, 3], [4], [], [5, 6, 7, 8, 9]]
    with monkeypatch.context() as patch:
        patch.setattr(backbone_pass, "_BROADCAST", ())
        expected = states(model, histories)
    monkeypatch.setattr(torch, "vmap", None)
    assert torch.equal(states(model, histories), expected)
