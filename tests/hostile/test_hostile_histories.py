"""Histories, counts and users of any type to `recommend()` and the pipeline: the right answer or a typed error."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hostile_cases import anything, numbers, outcome, run, scalars, texts, tiers
from hypothesis import strategies as st
from transformers import pipeline

from rarec_hf import ItemVectorsModel, Recommendation
from rarec_hf.recommendation_shards import recommend_to_shards

ITEMS = [f"i{n}" for n in range(12)]
known = st.sampled_from(ITEMS)
histories = st.one_of(
    st.lists(known, max_size=15),
    st.lists(st.one_of(known, known, scalars), max_size=5),
    st.lists(st.lists(known, max_size=5), max_size=3),
    st.lists(st.one_of(st.lists(known, max_size=3), scalars, anything), max_size=3),
    st.lists(known, max_size=4).map(np.array),
    st.lists(known, max_size=4).map(tuple),
    st.lists(known, max_size=4).map(set),
    st.lists(known, max_size=4).map(iter),
    st.lists(st.integers(0, 11), max_size=4).map(torch.tensor),
    st.lists(known, min_size=500, max_size=2000),
    anything,
)
counts = st.one_of(st.integers(1, 20), numbers, st.sampled_from([None, True, "3", [3], 2.5, np.int64(3)]))


@pytest.fixture
def model(trained):
    return trained()


def meant(history) -> list[list[str]] | None:
    """The histories of item ids that this says beyond doubt; None if it does not."""
    if isinstance(history, (np.ndarray, torch.Tensor)):
        history = history.tolist()
    if not isinstance(history, (list, tuple)):
        return None
    if all(isinstance(entry, str) and entry in ITEMS for entry in history):
        return [list(history)]
    one = [
        isinstance(inner, (list, tuple)) and all(isinstance(i, str) and i in ITEMS for i in inner) for inner in history
    ]
    return [list(inner) for inner in history] if all(one) else None


def check_answers(model, answers, histories: list[list[str]], k: int, exclude_seen: bool) -> None:
    """Beside a full sort of all scores."""
    for answer, history in zip(answers, histories, strict=True):
        indices = [ITEMS.index(item) for item in history]
        (scores,) = model.score_histories([indices])
        if exclude_seen:
            scores[indices] = -np.inf
        order = np.argsort(-scores, kind="stable")[: min(k, int(np.isfinite(scores).sum()))]
        assert sorted(answer.scores, reverse=True) == answer.scores
        assert answer.scores == pytest.approx(scores[order].tolist(), abs=1e-4)
        assert len(set(answer.item_ids)) == len(order) and not (exclude_seen and set(answer.item_ids) & set(history))
        assert answer.scores == pytest.approx([scores[ITEMS.index(item)] for item in answer.item_ids], abs=1e-4)
        assert answer.titles == [model.processor.titles[ITEMS.index(item)] for item in answer.item_ids]


@tiers(60, 500)
def test_histories_to_recommend(n, model):
    def check(history, k, batch_size, exclude_seen):
        wanted = meant(history)
        answers = outcome("recommend", lambda: model.recommend(history, k, exclude_seen, batch_size))
        if answers is None:
            assert wanted is None or type(k) is not int or type(batch_size) is not int or k < 1 or batch_size < 1
            return
        answers = [answers] if isinstance(answers, Recommendation) else answers
        assert wanted is not None, f"{history!r} was answered"
        check_answers(model, answers, wanted, int(k), exclude_seen)

    few = st.one_of(st.just(16), st.just(16), counts)
    run(n, check, history=histories, k=st.one_of(st.just(3), counts), batch_size=few, exclude_seen=st.booleans())


@tiers(20, 150)
def test_users_to_recommend(n, trained):
    rng = np.random.default_rng(0)
    encoder = ItemVectorsModel.from_vectors(
        ITEMS, rng.normal(size=(12, 4)), max_history=8, user_ids=["ann", "bo"], user_vectors=rng.normal(size=(2, 4))
    )
    model = trained(encoder=encoder)
    two = [["i1", "i2"], ["i3"]]
    of = {user: model.recommend(two, 3, user_ids=[user, None])[0] for user in ("ann", "bo", None)}

    def check(users):
        answers = outcome("user ids", lambda: model.recommend(two, 3, user_ids=users))
        if answers is not None and users is not None:
            assert isinstance(users, (list, tuple, np.ndarray)) and len(users) == 2
            expected = of[users[0] if users[0] in ("ann", "bo") else None]
            assert answers[0].item_ids == expected.item_ids
            assert answers[0].scores == pytest.approx(expected.scores, abs=1e-4)

    user = st.one_of(st.sampled_from(["ann", "bo", None]), scalars)
    run(n, check, users=st.one_of(st.lists(user, max_size=3), st.lists(user, min_size=2, max_size=2), texts, anything))


@tiers(40, 250)
def test_inputs_to_the_pipeline(n, model):
    pipe = pipeline("sequential-recommendation", model=model, device="cpu")

    def check(inputs, top_k):
        def act():
            answer = pipe(inputs, top_k=top_k)
            return answer if isinstance(answer, list) else list(answer)

        answer = outcome("pipeline", act)
        if answer is None or not answer:
            return
        for items in [answer] if isinstance(answer[0], dict) else answer:
            assert len(items) == min(top_k, len(items))
            assert all(item["item_id"] in ITEMS and np.isfinite(item["score"]) for item in items)
        wanted = meant(inputs)
        if wanted is not None and all(wanted):
            one = isinstance(answer[0], dict)
            expected = model.recommend(wanted, top_k)
            found = [answer] if one else answer
            assert [[i["item_id"] for i in items] for items in found] == [list(e.item_ids) for e in expected]

    entry = st.fixed_dictionaries({"history": st.one_of(st.lists(known, max_size=4), scalars)})
    run(n, check, inputs=st.one_of(histories, entry, st.lists(entry, max_size=3)), top_k=st.one_of(st.just(3), counts))


def test_histories_beside_single_ids_are_refused(trained, make_processor):
    """Ids of one character: the letters of a text would all be ids."""
    model = trained(indexed=False)
    model.processor = type(model.processor)(
        model.processor.tokenizer, [chr(97 + n) for n in range(12)], [f"film {n}" for n in range(12)]
    )
    model.index_catalogue(progress=False)
    with pytest.raises(ValueError, match="histories and ids side by side: entry 0 is a list, entry 1 is 'bc'"):
        model.recommend([["a"], "bc"])
    with pytest.raises(ValueError, match="got the text 'bc'"):
        model.recommend("bc")


def test_ids_by_value(trained, make_processor):
    model = trained(indexed=False)
    numbered = [str(n) for n in range(11)] + ["0.5"]
    model.processor = type(model.processor)(model.processor.tokenizer, numbered, [f"film {n}" for n in range(12)])
    model.index_catalogue(progress=False)
    expected = model.recommend(["3", "5"])
    for same in ([3, 5], [3.0, 5.0], ["3.0", " 5 "], [b"3", np.int8(5)], np.array([3, 5]), np.array([3.0, 5.0])):
        assert model.recommend(same) == expected
    assert model.recommend([0.5]) == model.recommend(["0.5"])
    for wrong in ([True], [None], [3.5], [float("nan")], ["03"], [{}]):
        with pytest.raises(ValueError):
            model.recommend(wrong)


@pytest.mark.parametrize("value", [0, -1, True, 2.5, "3", None, float("nan")])
@pytest.mark.parametrize("name", ["k", "batch_size"])
def test_counts_that_are_none(model, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be (at least 1|a whole number of at least 1), got"):
        model.recommend(["i1"], **{name: value})
    with pytest.raises(ValueError, match="`exclude_seen` must be True or False, got 'false'"):
        model.recommend(["i1"], exclude_seen="false")


indices = st.one_of(st.integers(0, 11), st.integers(0, 11), numbers, scalars)
index_lists = st.one_of(
    st.lists(st.lists(st.integers(0, 11), max_size=10), max_size=4),
    st.lists(st.lists(st.integers(0, 11), max_size=4).map(np.array), max_size=3),
    st.lists(st.lists(st.integers(0, 11), max_size=4).map(torch.tensor), max_size=3),
    st.lists(st.lists(indices, max_size=4), max_size=3),
    anything,
)


def of_indices(history) -> bool:
    cells = history.tolist() if hasattr(history, "tolist") else history
    return isinstance(cells, (list, tuple)) and all(type(cell) is int and 0 <= cell < len(ITEMS) for cell in cells)


def is_count(value) -> bool:
    return type(value) in (int, np.int64) and value >= 1


@tiers(60, 400)
def test_histories_of_item_indices(n, model):
    """Also with counts that are none: a negative `batch_size` once left scores that nobody had computed."""

    def check(histories, batch_size):
        scores = outcome("item indices", lambda: model.score_histories(histories, batch_size))
        if scores is None:
            given = isinstance(histories, (list, tuple)) and all(map(of_indices, histories))
            assert not (given and is_count(batch_size))
            return
        assert all(map(of_indices, histories)) and is_count(batch_size)
        assert scores.shape == (len(histories), len(ITEMS))
        for row, history in zip(scores, histories, strict=True):
            alone = model.recommend([ITEMS[int(item)] for item in history], len(ITEMS), exclude_seen=False)
            expected = {item: score for item, _, score in alone}
            assert row == pytest.approx([expected[item] for item in ITEMS], abs=1e-4)

    run(n, check, histories=index_lists, batch_size=st.one_of(st.just(16), st.just(16), counts))


@tiers(40, 200)
def test_items_to_represent_and_to_index(n, model):
    index = model.catalogue_items().clone()

    def check(wanted, batch_size, again):
        found = outcome("item indices", lambda: model.represent_items(wanted, batch_size))
        if found is None:
            assert not (of_indices(wanted) and is_count(batch_size))
        else:
            assert of_indices(wanted) and is_count(batch_size)
            expected = index[[int(item) for item in wanted]]
            assert torch.allclose(found, expected, atol=1e-5)
        if again:
            model.forget_representations()
        done = outcome("indexing", lambda: model.index_catalogue(batch_size, progress=False))
        assert (done is not None) == is_count(batch_size)
        if done is None:
            model.index_catalogue(progress=False)
        assert torch.allclose(model.catalogue_items(), index, atol=1e-5)

    some = st.one_of(st.lists(st.integers(0, 11), max_size=5), st.lists(indices, max_size=4), anything)
    run(n, check, wanted=some, batch_size=st.one_of(st.just(16), counts), again=st.booleans())


@tiers(40, 200)
def test_a_whole_user_base(n, model, tmp_path):
    places = iter(range(10**6))

    def check(base, k, users_per_shard):
        (users, histories), folder = base, tmp_path / str(next(places))
        size = {"users_per_shard": users_per_shard, "progress": False}
        done = outcome("user bases", lambda: recommend_to_shards(model, users, histories, folder, k, **size))
        good = all(isinstance(history, list) for history in histories)
        good &= all(is_count(count) and count < 2**63 for count in (k, users_per_shard))
        plain, once = all(user in ("ann", "bo", "5", 7) for user in users), len(set(users)) == len(users)
        if done is None:
            assert not (good and plain and once)
            assert not (folder / "complete.json").exists()
            return
        assert good and all(isinstance(user, (str, bytes, int, float)) and user == user for user in users)
        rows = [row for part in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]
        answers = model.recommend(histories, int(k), batch_size=64) if histories else []
        assert [row["item_id"] for row in rows] == [item for answer in answers for item in answer.item_ids]
        if plain:
            assert once
            told = [str(user) for user, answer in zip(users, answers, strict=True) for _ in answer.item_ids]
            assert [row["user_id"] for row in rows] == told

    names = st.sampled_from(["ann", "bo", "5", 7])
    ids = st.one_of(names, names, names, scalars)
    items = st.one_of(*[st.lists(known, max_size=4)] * 4, scalars)
    bases = st.integers(0, 3).flatmap(
        lambda size: st.tuples(
            st.one_of(
                st.lists(names, min_size=size, max_size=size, unique=True),
                st.lists(ids, min_size=size, max_size=size),
            ),
            st.lists(items, min_size=size, max_size=size),
        )
    )
    few = st.one_of(st.just(2), st.just(2), counts)
    run(n, check, base=bases, k=few, users_per_shard=few)
