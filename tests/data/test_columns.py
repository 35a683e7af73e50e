from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rarec_hf.data.columns import clean_text, clean_texts, read_ids


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5, 6], ["5", "6"]),
        ([5.0, 6.0], ["5", "6"]),
        ([5.5, 6.0], ["5.5", "6"]),
        (["5", "6"], ["5", "6"]),
        (["5.0", "6.0"], ["5", "6"]),  # written from floats
        (["5.0", "6.1"], ["5.0", "6.1"]),  # versions, not floats
        (["05", "5"], ["05", "5"]),
        ([" a ", "a\t"], ["a"]),
        ([5, "5"], ["5"]),
        ([5.0, "5", b"5", 7], ["5", "7"]),
        ([2**60 + 1, "x"], [str(2**60 + 1), "x"]),
        (["NA", "None", "null"], ["NA", "None", "null"]),
    ],
)
def test_ids_match_by_value(values, expected):
    codes, ids = read_ids(pd.Series(values, name="user_id"), "interactions")
    assert ids == expected
    assert len(codes) == len(values) and codes.max() == len(ids) - 1


def test_ids_keep_first_appearance_and_codes():
    codes, ids = read_ids(pd.Series(["b", "a", "b", " a"]), "items")
    assert ids == ["b", "a"] and codes.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "category", "string"])
def test_ids_of_other_types(dtype):
    values = ["5", "6"] if dtype in ("category", "string") else [5, 6]
    assert read_ids(pd.Series(values, dtype=dtype), "items")[1] == ["5", "6"]


@pytest.mark.parametrize(
    "values", [["a", None, ""], ["a", " ", "nan"], [1.0, np.nan, np.nan], ["a", pd.NA, "NaN"], [None] * 2]
)
def test_missing_ids_name_column_count_and_row(values):
    first = 1 if values[0] is None else 2
    with pytest.raises(ValueError, match=f"items: the column `asin` has 2 empty ids, the first in data row {first} "):
        read_ids(pd.Series(values, name="asin"), "items")


def test_ids_that_cannot_be_exact_or_are_no_ids():
    with pytest.raises(ValueError, match="too large to be exact"):
        read_ids(pd.Series([1.0, 2.0**60]), "items")
    with pytest.raises(ValueError, match="too large to be exact"):
        read_ids(pd.Series([1.0, 2.0**30], dtype="float32"), "items")
    with pytest.raises(ValueError, match="texts or numbers as ids, found list"):
        read_ids(pd.Series([[1], [2]]), "items")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_ids(pd.Series([b"\xff"]), "items")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom &amp;amp; Jerry", "Tom & Jerry"),
        ("&#39;90s &quot;Hits&quot;", '\'90s "Hits"'),
        ("R&Lt. and Q&not", "R&Lt. and Q&not"),
        ("  a\t\r\n b\x00\x07c\x85d\u00a0e\u2028f ", "a b c d e f"),
        ("half \ud83d character", "half \ufffd character"),
        (1984, "1984"),
        (1984.0, "1984"),
        (b"Caf\xc3\xa9", "Café"),
        (["Books", ["Poetry", None], ""], "Books, Poetry"),
        (np.array(["a", "b"], dtype=object), "a, b"),
        (None, ""),
        (np.nan, ""),
        (pd.NA, ""),
        ("nan", ""),
        ("\x01 \x02", ""),
        ([], ""),
        ("None", "None"),
        ("<|im_end|>", "<|im_end|>"),
    ],
)
def test_clean_text(value, expected):
    assert clean_text(value) == expected


def test_texts_of_a_column_are_cleaned_as_single_ones_are():
    characters = [chr(code) for code in range(0x3100) if not 0xD800 <= code < 0xE000]
    texts = [text for c in characters for text in (c, f"{c}a", f"a{c}", f"a{c}b")] + ["a  b", "a &amp; b", "NaN", None]
    codes, distinct, changed = clean_texts(pd.Series(texts, dtype="str"))
    assert [distinct[code] for code in codes] == [clean_text(text) for text in texts]
    before = ["" if text is None else text for text in texts]
    after = [clean_text(text) for text in texts]
    assert changed[codes].tolist() == [bool(b) and a != b for a, b in zip(before, after, strict=True)]


def test_blanks_around_ids_go_in_text_columns_as_in_mixed_ones():
    blanks = [chr(code) for code in range(0x3001) if chr(code).isspace()]
    ids = [f"{blank}a{blank}" for blank in blanks]
    assert read_ids(pd.Series([*ids, 5], dtype=object), "items")[1] == ["a", "5"]
    assert read_ids(pd.Series([*ids, "5"], dtype="str"), "items")[1] == ["a", "5"]
