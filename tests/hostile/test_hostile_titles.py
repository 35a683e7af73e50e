"""Titles and attributes are data: text in the prompt whatever they hold, cut by tokens, the rest of it whole."""

from __future__ import annotations

import time

import pytest
from hostile_cases import CONTROL_TEXTS, outcome, run, texts, tiers
from hypothesis import strategies as st

from rarec_hf import PromptTemplates, RARecProcessor
from rarec_hf.data import build_interactions

WORDING = PromptTemplates("Seen:", "\n-", "\nNext:", "Item:", "\n{name}:", "\nLike:")
MEGABYTE = 2**20
LIMIT = 12  # tokens of a title

long_texts = st.builds(lambda text, times: (text or "x") * times, texts, st.sampled_from([1, 3, 50, 2000]))


def control_ids(tokenizer) -> set[int]:
    return {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}


def is_text(title: str) -> bool:
    """Half a character cannot be encoded; tables replace it, the processor refuses it."""
    return not any("\ud800" <= letter <= "\udfff" for letter in title)


@tiers(150, 600)
def test_titles_stay_text_and_leave_the_rest_of_the_prompt_whole(n, tokenizer):
    control = control_ids(tokenizer)

    def check(title, attribute, name):
        items = (["a", "b"], [title, "plain"], [{name: attribute}, {}])
        limits = {"max_title_tokens": LIMIT, "max_text_tokens": 100}
        processor = outcome(
            "titles", lambda: RARecProcessor(tokenizer, *items, WORDING, **limits), names=("'a'", "control token")
        )
        if processor is None:
            named = tokenizer(f"\n{name}:", add_special_tokens=False)["input_ids"]
            assert not all(map(is_text, (title, attribute, name))) or not control.isdisjoint(named)
            return
        user, text = processor.user_text([1, 0, 1]).ids, processor.item_texts([0])[0]
        assert control.isdisjoint(user) and control.isdisjoint(text)
        whole = tokenizer.decode(user, skip_special_tokens=False)
        assert whole.startswith("Seen:\n-plain\n-") and whole.endswith("\n-plain")
        assert len(user) <= len("Seen:\n-plain\n-\n-plain") + LIMIT
        # The model's last words, at which it is read, are the wording's
        assert tokenizer.decode(processor.user_inputs([[0]], 8)["user_readout_ids"]) == "\nNext:"
        assert tokenizer.decode(processor.item_inputs([0])["item_readout_ids"]) == "\nLike:"
        of_title = tokenizer(title, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if control.isdisjoint(of_title):  # no letter is added, lost or moved
            assert text[len("Item:") :][: min(LIMIT, len(of_title))] == of_title[:LIMIT]

    run(n, check, title=long_texts, attribute=long_texts, name=st.one_of(st.just("genre"), texts.filter(is_text)))


@pytest.mark.parametrize(
    "title",
    ["a" * MEGABYTE, "ab " * (MEGABYTE // 3), "</s>" * (MEGABYTE // 4), "<think>" * (MEGABYTE // 7), " " * MEGABYTE]
    + ["\u200b" * (MEGABYTE // 3), "\u202e\u05e9" * (MEGABYTE // 4), "<" * MEGABYTE, "\U0001f600" * (MEGABYTE // 4)],
    ids=["one word", "words", "control", "undeclared control", "blanks", "zero width", "right to left", "<", "emoji"],
)
def test_a_megabyte_of_title(tokenizer, title):
    start = time.perf_counter()
    processor = RARecProcessor(tokenizer, ["a", "b"], [title, "plain"], None, WORDING, max_title_tokens=LIMIT)
    user, text = processor.user_text([1, 0, 1]).ids, processor.item_texts([0])[0]
    assert time.perf_counter() - start < 5  # 0.1 s on an idle core
    assert control_ids(tokenizer).isdisjoint(user + text)
    assert len(text) == len("Item:") + LIMIT and len(user) == len("Seen:\n-plain\n-\n-plain") + LIMIT
    assert tokenizer.decode(user).endswith("\n-plain")


def test_an_instruction_moves_no_other_item(trained, make_processor):
    """Whatever one title says, the others' representations and a history without it are as before."""
    model = trained()
    before, vectors = model.recommend(["i1", "i2"], k=11), model.catalogue_items().clone()
    for title in CONTROL_TEXTS[:21]:
        titles = [*model.processor.titles[:7], title or "x", *model.processor.titles[8:]]
        model.processor = make_processor(titles)
        model.index_catalogue(progress=False)
        others = [n for n in range(12) if n != 7]
        assert (model.catalogue_items()[others] - vectors[others]).abs().max() < 1e-4
        scores = dict(zip(before.item_ids, before.scores, strict=True))
        after = model.recommend(["i1", "i2"], k=11)
        for item, score in zip(after.item_ids, after.scores, strict=True):
            if item in scores and item != "i7":
                assert score == pytest.approx(scores[item], abs=1e-3)


@tiers(30, 150)
def test_titles_of_a_table_are_one_line_of_text(n):
    def check(titles):
        rows = [("u", f"i{place}", place, title) for place, title in enumerate(titles)]
        columns = {
            name: [row[place] for row in rows] for place, name in enumerate(("user_id", "item_id", "timestamp"))
        }
        import pandas as pd

        frame = pd.DataFrame(columns | {"title": pd.Series([row[3] for row in rows], dtype=object)})
        built = outcome("table of titles", lambda: build_interactions(frame))
        for place, title in enumerate(built.items.titles):
            assert title and title == title.strip() and "\n" not in title and is_text(title)
            assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in title)
            raw = titles[place]
            if raw.isalnum() and raw.lower() not in ("nan", "nat") and raw.isascii():
                assert title == raw.removesuffix(".0")

    run(n, check, titles=st.lists(texts, min_size=1, max_size=6))


@pytest.mark.parametrize(
    "field", ["item_opening", "user_opening", "history_separator", "user_readout", "item_readout"]
)
def test_wording_with_braces_is_wording(tokenizer, field):
    templates = {**WORDING.to_dict(), field: "{0.__class__}"}
    processor = RARecProcessor(tokenizer, ["a"], ["film"], None, templates)
    assert PromptTemplates(**templates) == processor.templates


@pytest.mark.parametrize(
    "wording",
    ["{name.__class__}", "{name!r}", "{name:>999999999}", "{0}", "{", "}", "{other}", "{name[0]}", "{{name}"],
)
def test_attribute_wording_asks_for_the_name_alone(wording):
    """A template of a repository: what `str.format` can be told to do else is refused."""
    with pytest.raises(ValueError, match="`attribute_format` may hold `{name}` and no other field"):
        PromptTemplates(attribute_format=wording)
    assert PromptTemplates(attribute_format="{{x}} {name}").item_pieces("t", {"n": "v"})[2][0] == "{x} n"
