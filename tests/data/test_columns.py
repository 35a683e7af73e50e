from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from rarec_hf.data.columns import clean_text, read_ids, read_timestamps


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
    ("values", "expected", "kind"),
    [
        ([3, 1], [3, 1], "i"),
        ([3.0, 1.0], [3, 1], "i"),
        ([3.5, 1.0], [3.5, 1.0], "f"),
        (["3", " 1 "], [3, 1], "i"),
        (["1400000000123456789", "1"], [1400000000123456789, 1], "i"),
        (["1970-01-02", "1970-01-01T00:00:01Z"], [86400, 1], "i"),
        (["1970-01-01T01:00:00+01:00"], [0], "i"),
        (pd.to_datetime(["1970-01-01 00:01", "1970-01-02 00:00"]), [60, 86400], "i"),
        (pd.to_datetime(["1970-01-01 00:01"]).tz_localize("Europe/Paris"), [-3540], "i"),
        (pd.to_datetime(["1970-01-01 00:00:00.5"]), [0.5], "f"),
        ([datetime.date(1970, 1, 2), datetime.date(1970, 1, 1)], [86400, 0], "i"),
    ],
)
def test_timestamps(values, expected, kind):
    times = read_timestamps(pd.Series(values, name="t"), "interactions")
    assert times.tolist() == expected and times.dtype.kind == kind and times.dtype.itemsize == 8


@pytest.mark.parametrize(
    ("values", "count", "row"),
    [
        ([1, np.nan, np.inf], 2, 2),
        (["1", "soon", ""], 2, 2),
        (["1970-01-01", None], 1, 2),
        (["1970-01-01", "07/08/2014"], 1, 2),
        ([None, 1, -np.inf], 2, 1),
        (["nan", "x"], 2, 1),
        (["1", "1970-01-01"], 1, 2),
        (pd.to_datetime(["2014-01-01", None]), 1, 2),
        (pd.Series([1, None], dtype="Int64"), 1, 2),
    ],
)
def test_unreadable_timestamps_give_count_and_first_row(values, count, row):
    with pytest.raises(ValueError, match=rf"column `t` has {count} values .* first in data row {row} "):
        read_timestamps(pd.Series(values, name="t"), "interactions")


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
