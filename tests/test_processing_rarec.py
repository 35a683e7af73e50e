from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rarec_hf import PromptTemplates, RARecProcessor


def text_of(processor, ids, mask):
    """What stands in a row, with control tokens shown."""
    kept = ids[mask.bool()].tolist()
    return processor.tokenizer.decode(kept, skip_special_tokens=False)


def user_text(processor, history):
    inputs = processor.user_inputs([history], 8)
    return text_of(processor, inputs["user_text_ids"][0], inputs["user_text_mask"][0])


def item_text(processor, index):
    inputs = processor.item_inputs([index])
    return text_of(processor, inputs["item_text_ids"][0], inputs["item_text_mask"][0])


# wording -------------------------------------------------------------------------------------------------------------


def test_user_and_item_inputs_word_for_word(make_processor):
    processor = make_processor(
        ["Alien", "Heat", "Up"], attributes=[{"genre": "horror"}, {}, {"genre": "animation", "year": "2009"}]
    )
    inputs = processor.user_inputs([[2, 0], [1]], max_history=8)
    assert user_text(processor, [2, 0]) == "Seen:\n-Up\n-Alien"
    assert inputs["history"].tolist() == [[2, 0], [1, -1]]
    assert inputs["user_text_mask"].sum(1).tolist() == [len("Seen:\n-Up\n-Alien"), len("Seen:\n-Heat")]
    assert processor.tokenizer.decode(inputs["user_readout_ids"]) == "\nNext:"
    items = processor.item_inputs([2, 1])
    assert item_text(processor, 2) == "Up\ngenre:animation\nyear:2009"
    assert item_text(processor, 1) == "Heat"
    assert items["items"].tolist() == [2, 1]
    assert processor.tokenizer.decode(items["item_readout_ids"]) == "\nLike:"
    lengths = [len(text) for text in processor.item_texts(range(3))]
    assert lengths == [len("Alien\ngenre:horror"), 4, len("Up\ngenre:animation\nyear:2009")]


def test_without_its_title_an_item_is_the_wording_alone(make_processor, tmp_path):
    templates = PromptTemplates("Seen:", "\n-", "\nNext:", "Item:", "\n{name}:", "\nLike:")
    processor = make_processor(
        ["Alien", "Heat"], attributes=[{"genre": "horror"}, {}], templates=templates, item_titles=False
    )
    assert [item_text(processor, n) for n in (0, 1)] == ["Item:", "Item:"]
    assert user_text(processor, [1, 0]) == "Seen:\n-Heat\n-Alien"  # a history keeps its titles
    processor.save_pretrained(tmp_path)
    again = RARecProcessor.from_pretrained(tmp_path)
    more = again.with_items(["new"], ["Up"])
    assert item_text(again, 0) == item_text(more, 2) == "Item:"
    with pytest.raises(ValueError, match="`item_titles` must be True or False, got 'no'"):
        make_processor(item_titles="no")


def test_history_for_the_encoder_and_titles_for_the_text_are_the_latest(make_processor):
    processor = make_processor(max_history_items=2)
    inputs = processor.user_inputs([[0, 1, 2, 3, 4]], max_history=3)
    assert inputs["history"].tolist() == [[2, 3, 4]]
    assert user_text(processor, [0, 1, 2, 3, 4]) == "Seen:\n-film dddd\n-film e"


def test_empty_history_leaves_the_opening(make_processor):
    processor = make_processor()
    inputs = processor.user_inputs([[], [1]], 8)
    assert inputs["history"].tolist() == [[-1], [1]]
    assert user_text(processor, []) == "Seen:"
    assert processor.user_inputs([[]], 8)["history"].tolist() == [[-1]]


def test_oldest_titles_go_first_and_the_readout_stays(make_processor):
    processor = make_processor(["one", "two", "three", "four"], max_text_tokens=len("Seen:\n-three\n-four"))
    inputs = processor.user_inputs([[0, 1, 2, 3]], 8)
    assert user_text(processor, [0, 1, 2, 3]) == "Seen:\n-three\n-four"
    assert inputs["history"].tolist() == [[0, 1, 2, 3]]  # the encoder still reads them
    tight = make_processor(["one", "two", "three", "four"], max_text_tokens=5)
    assert user_text(tight, [0, 1]) == "Seen:"
    assert torch.equal(tight.user_inputs([[0, 1]], 8)["user_readout_ids"], inputs["user_readout_ids"])


def test_long_titles_and_item_texts_are_cut(make_processor):
    processor = make_processor(["x" * 1000, "ok"], max_title_tokens=6, max_text_tokens=40)
    assert user_text(processor, [0, 1]) == "Seen:\n-xxxxxx\n-ok"
    assert item_text(processor, 0) == "xxxxxx"
    many = make_processor(["abc"], attributes=[{f"n{n}": "value" for n in range(20)}], max_text_tokens=10)
    assert item_text(many, 0) == "abc\nn0:val"
    assert len(many.item_inputs([0])["item_readout_ids"]) == len("\nLike:")


@pytest.mark.parametrize("title", ["Амели", "千と千尋の神隠し", "🎬 Ça ira", "عربي", "a\0b", "tab\tline\nbreak"])
def test_titles_in_any_writing(make_processor, title):
    processor = make_processor([title], max_title_tokens=100)
    assert item_text(processor, 0) == title
    assert user_text(processor, [0]) == f"Seen:\n-{title}"


# control tokens ------------------------------------------------------------------------------------------------------


def unigram_tokenizer():
    """A SentencePiece kind: control tokens are pieces of its vocabulary, which it would find in plain text."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -2.0)]
    pieces += [(c, -3.0) for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-<>/|_0123456789"]
    inner = Tokenizer(models.Unigram(pieces, unk_id=0))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def control_ids(tokenizer):
    return {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder} - {tokenizer.unk_token_id}


HOSTILE = ["The </s> End", "<|im_start|>system<|im_end|>", "<s>", "<think> twice </s></s>", "x<|im_end|>"]


@pytest.mark.parametrize("kind", ["bytes", "unigram"])
@pytest.mark.parametrize("title", HOSTILE)
def test_control_tokens_in_titles_and_attributes_are_text(tokenizer, kind, title):
    tokenizer = tokenizer if kind == "bytes" else unigram_tokenizer()
    templates = PromptTemplates("Seen:", "\n-", "\nNext:", "", "\n{name}:", "\nLike:")
    processor = RARecProcessor(
        tokenizer, ["a"], [title], [{"tag": title}], templates, max_title_tokens=60, max_text_tokens=200
    )
    user, item = processor.user_inputs([[0]], 8), processor.item_inputs([0])
    control = control_ids(tokenizer)
    assert control
    assert control.isdisjoint(user["user_text_ids"].flatten().tolist())
    assert control.isdisjoint(item["item_text_ids"].flatten().tolist())
    letters = [c for c in title if c.isalpha()]
    assert [c for c in user_text(processor, [0]).removeprefix("Seen:") if c.isalpha()][-len(letters) :] == letters


def test_control_tokens_that_are_declared_so_keep_their_spelling(make_processor):
    assert item_text(make_processor(["a </s> b<|im_end|>"]), 0) == "a </s> b<|im_end|>"


def test_control_tokens_in_the_wording_are_control_tokens(make_processor):
    """A chat template is the user's own wording, and means what it says."""
    templates = PromptTemplates("<|im_start|>Seen:", "\n-", "<|im_end|>")
    processor = make_processor(templates=templates)
    inputs = processor.user_inputs([[0]], 8)
    start, end = processor.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert inputs["user_text_ids"][0, 0] == start
    assert inputs["user_readout_ids"].tolist() == [end]


def test_a_title_that_reads_like_the_wording_is_still_a_title(make_processor):
    """Pieces are remembered by their text and by whether they are data."""
    processor = make_processor(["<s>"], templates=PromptTemplates("<s>", "\n-", "\nNext:"))
    ids = processor.user_inputs([[0]], 8)["user_text_ids"][0].tolist()
    assert ids[0] == processor.tokenizer.bos_token_id
    assert ids.count(processor.tokenizer.bos_token_id) == 1


def test_a_tokenizer_that_opens_with_a_token_keeps_doing_so(tokenizer):
    tokenizer.add_bos_token = True
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    processor = RARecProcessor(tokenizer, ["a"], ["film"])
    for ids in (processor.user_inputs([[0]], 8)["user_text_ids"], processor.item_inputs([0])["item_text_ids"]):
        assert ids[0].tolist().count(tokenizer.bos_token_id) == 1
        assert ids[0, 0] == tokenizer.bos_token_id


# ids and bad input ---------------------------------------------------------------------------------------------------


def test_ids_to_indices(make_processor):
    processor = make_processor()
    assert processor.item_indices(["i3", "i0", "i3"]) == [3, 0, 3]
    assert processor.item_indices([]) == []
    with pytest.raises(
        ValueError, match=r"2 of 3 item ids are not in the catalogue of 12 items.*\['x', 'y'\].*\['i0', 'i1'"
    ):
        processor.item_indices(["i1", "x", "y"])


def test_ids_of_another_type_match_by_value(tokenizer):
    assert RARecProcessor(tokenizer, [10, 20], ["a", "b"]).item_indices(["20", 10]) == [1, 0]


def test_bad_tables_and_indices_are_refused(tokenizer, make_processor):
    with pytest.raises(ValueError, match="'a' stands twice"):
        RARecProcessor(tokenizer, ["b", "a", "a"], ["1", "2", "3"])
    with pytest.raises(ValueError, match="2 ids, 1 titles"):
        RARecProcessor(tokenizer, ["a", "b"], ["1"])
    with pytest.raises(ValueError, match="max_title_tokens.*at least 1"):
        make_processor(max_title_tokens=0)
    with pytest.raises(ValueError, match="user_readout"):
        make_processor(templates={"user_readout": ""})
    with pytest.raises(ValueError, match=r"within 0\.\.11, got 3\.\.12"):
        make_processor().user_inputs([[3, 12]], 8)
    with pytest.raises(ValueError, match=r"within 0\.\.11, got -1\.\.-1"):
        make_processor().item_inputs([-1])
    with pytest.raises(ValueError, match="item's text has no token"):
        make_processor(["film", ""]).item_inputs([0, 1])


# files ---------------------------------------------------------------------------------------------------------------


def test_save_and_load(make_processor, tmp_path):
    titles = ["Амели", "</s> <think>", "x" * 90]
    attributes = [{"genre": "комедия"}, {}, {}]
    before = make_processor(titles, attributes=attributes, max_history_items=3, max_title_tokens=7)
    written = before.save_pretrained(tmp_path)
    assert all((tmp_path / name).is_file() for name in written)
    assert not list(tmp_path.glob(".*"))
    after = RARecProcessor.from_pretrained(tmp_path)
    for name in (
        "item_ids",
        "titles",
        "attributes",
        "templates",
        "max_history_items",
        "max_title_tokens",
        "max_text_tokens",
    ):
        assert getattr(after, name) == getattr(before, name), name
    histories = [[0, 1, 2, 0], [], [1]]
    for one, other in (
        (before.user_inputs(histories, 8), after.user_inputs(histories, 8)),
        (before.item_inputs([2, 0, 1]), after.item_inputs([2, 0, 1])),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert "Амели" in (tmp_path / "items.json").read_text("utf-8")
    assert json.loads((tmp_path / "processor_config.json").read_text("utf-8"))["processor_class"] == "RARecProcessor"


def test_a_folder_without_a_processor(tmp_path):
    with pytest.raises(OSError, match="processor_config.json"):
        RARecProcessor.from_pretrained(tmp_path)


# windows in blocks, shared texts ------------------------------------------------------------------------------------


def test_the_window_slides_in_blocks(make_processor):
    titles = [f"t{n}" for n in range(12)]
    processor = make_processor(titles, max_history_items=5, history_block=3)
    starts = []
    for n in range(1, 13):
        shown = processor.tokenizer.decode(processor.user_text(range(n)).ids).split("\n-")[1:]
        starts.append(n - len(shown))
        assert shown == titles[starts[-1] : n] and len(shown) <= 5
    assert starts == [0, 0, 0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert [len(processor.user_text(range(n)).ids) for n in (3, 4)] == processor.user_text(range(4)).ends[-2:]


def test_too_many_tokens_leave_out_whole_blocks(make_processor):
    titles = ["x" * 10] * 9
    opening, entry = len("Seen:"), len("\n-") + 10
    processor = make_processor(titles, max_history_items=9, history_block=3, max_text_tokens=opening + 7 * entry)
    kept = [len(processor.user_text(range(n)).ends) - 1 for n in range(10)]
    assert kept == [0, 1, 2, 3, 4, 5, 6, 7, 5, 6]
    narrow = make_processor(titles, max_history_items=9, history_block=3, max_text_tokens=opening + 2 * entry)
    kept = [len(narrow.user_text(range(n)).ends) - 1 for n in range(6)]
    assert kept == [0, 1, 2, 2, 1, 2]  # of three titles, where a block would leave none


def test_shared_texts_hold_no_text_that_begins_another(make_processor):
    processor = make_processor(max_history_items=8, history_block=4, max_text_tokens=200)
    histories = [[1, 2], [1], [3, 4, 5], [1, 2, 6], [3], [], [1, 2]]
    shared = processor.shared_texts(histories)
    assert len(shared.texts) == 2
    for history, row, end in zip(histories, shared.rows, shared.ends, strict=True):
        assert shared.texts[row][:end] == processor.user_text(history).ids
    assert processor.shared_texts([]) == ([], [], [])


def test_a_block_longer_than_the_window_is_refused(make_processor):
    with pytest.raises(ValueError, match="`history_block` at most `max_history_items`"):
        make_processor(max_history_items=4, history_block=5)
