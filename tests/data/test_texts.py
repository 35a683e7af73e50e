from __future__ import annotations

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest

from rarec_hf.data.texts import AT_ONCE, Texts

NAMES = ["b", "ä", "", "b"]


def test_reads_like_a_list():
    texts = Texts(NAMES)
    assert len(texts) == 4 and texts[0] == "b" and texts[-3] == "ä" and texts[np.int64(2)] == ""
    assert list(texts) == NAMES and texts == NAMES and NAMES == texts and texts == Texts(pa.array(NAMES))
    assert texts != NAMES[:3] and texts != ["b", "ä", "", "c"] and texts != "bäb"
    assert texts[1:3] == ["ä", ""] and texts[::-1] == NAMES[::-1] and texts.take(np.array([1, 0])) == ["ä", "b"]
    assert "ä" in texts and "c" not in texts and 5 not in texts
    assert texts.index("") == 2 and texts.count("b") == 2
    with pytest.raises(IndexError):
        texts[4]
    with pytest.raises(TypeError):
        texts[1.5]


def test_goes_where_lists_go():
    texts = Texts(NAMES)
    assert json.dumps(list(texts)) == json.dumps(NAMES)
    assert pa.array(texts, pa.string()).to_pylist() == np.asarray(texts).tolist() == NAMES
    assert pickle.loads(pickle.dumps(texts)) == NAMES
    assert repr(texts) == "Texts(['b', 'ä', '', ... 4 in all])" and repr(Texts([])) == "Texts([])"


def test_iteration_crosses_blocks():
    numbers = [str(number) for number in range(AT_ONCE + 2)]
    assert list(Texts(numbers)) == numbers


def test_a_missing_text_is_refused():
    with pytest.raises(ValueError, match="1 of 2 are missing"):
        Texts(["a", None])
