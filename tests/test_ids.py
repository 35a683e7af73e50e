"""Ids become text by value, as in the tables, and what is no id is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from rarec_hf.data.columns import read_ids
from rarec_hf.ids import id_texts


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3],
        [1.0, 2.0, 3.0],
        ["1", " 2", "3\n"],
        ["1.0", "2.0", "3.0"],
        [b"1", 2, "3"],
        np.array([1, 2, 3], dtype=np.uint8),
        np.array([1, 2, 3], dtype=np.float32),
        np.array(["1", "2", "3"]),
        torch.tensor([1, 2, 3]),
        pd.Index(["1", "2", "3"]),
        pd.Series([1, 2, 3], dtype="Int64"),
    ],
)
def test_one_id_whatever_its_type(values):
    assert id_texts(values, "item_ids") == ["1", "2", "3"]


@pytest.mark.parametrize("values", [["05", "5"], ["5.0", "6.1"], [2**60 + 1, "x"], ["NA", "None"], [5.5, 6.0]])
def test_the_same_as_in_a_table(values):
    assert id_texts(values, "item_ids") == read_ids(pd.Series(values, dtype=object), "items")[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "", "nan"], "item_ids has 2 empty ids, the first at place 1"),
        ([1.0, float("nan")], "item_ids has 1 empty ids, the first at place 1"),
        (np.array([1.0, 2.0**60]), "too large to be exact"),
        (np.array([1.0, 2.0**30], dtype=np.float32), "too large to be exact"),
        ([["a"], ["b"]], "texts or numbers as ids, found list"),
        (["a", None], "texts or numbers as ids, found NoneType"),
        ("abc", "a list of ids, got the text 'abc'"),
        ([b"\xff"], "not UTF-8"),
    ],
)
def test_what_is_no_id_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        id_texts(values, "item_ids")
