from __future__ import annotations

import datetime
import decimal

import pandas as pd
import pyarrow as pa
import pytest

from rarec_hf.data import build_interactions, load_interactions

ROWS = {"user_id": ["u", "v", "u"], "item_id": [1, 1, 2], "timestamp": [1, 2, 3], "rest": [0, 0, 0]}
ITEMS = {"item_id": ["2", "1"], "title": ["Two", "One"]}


class Streamed:
    """As polars, duckdb and others hand over a table."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


class Spark:
    def __init__(self, frame):
        self.frame = frame

    def toPandas(self):  # noqa: N802
        return self.frame


def dataset(columns):
    import datasets

    return datasets.Dataset.from_dict(columns)


MAKERS = {
    "pandas": pd.DataFrame,
    "pyarrow": pa.table,
    "stream": lambda columns: Streamed(pa.table(columns)),
    "datasets": dataset,
    "spark": lambda columns: Spark(pd.DataFrame(columns)),
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("function", [load_interactions, build_interactions])
def test_every_kind_of_table_gives_the_same(kind, function):
    built = function(MAKERS[kind](ROWS), MAKERS[kind](ITEMS))
    assert built.user_ids == ["u", "v"] and built.items.item_ids == ["2", "1"] and built.items.titles == ["Two", "One"]
    assert built.history(0).tolist() == [1, 0]


def test_the_report_names_the_kind_of_table():
    assert load_interactions(pa.table(ROWS)).report["interactions_source"] == "pyarrow.Table"
    assert load_interactions(dataset(ROWS)).report["interactions_source"] == "datasets.Dataset"


def test_rows_that_a_dataset_left_out_stay_out():
    assert load_interactions(dataset(ROWS).select([2, 0])).report["interactions"] == 2


def test_view_texts_decimals_and_dates():
    table = pa.table(
        {
            "user_id": pa.array(["u", "v"], pa.string_view()),
            "item_id": pa.array([decimal.Decimal(2**60 + 1), decimal.Decimal(5)], pa.decimal128(38, 0)),
            "timestamp": pa.array([datetime.date(1970, 1, 2), datetime.date(1970, 1, 1)]),
        }
    )
    built = build_interactions(table)
    assert built.user_ids == ["u", "v"] and built.items.item_ids == [str(2**60 + 1), "5"]
    assert built.timestamps.tolist() == [86400, 0]


def test_integers_with_gaps_stay_integers():
    table = pa.table({"user_id": pa.array([2**60 + 1, None]), "item_id": [1, 1], "timestamp": pa.array([1, None])})
    built = build_interactions(table, on_broken_row="drop")
    assert built.user_ids == [str(2**60 + 1)]
    assert built.report["rows_without_user_id_dropped"] == 1 and built.report["rows_without_time_dropped"] == 0


def test_what_is_no_table_is_refused():
    import datasets

    with pytest.raises(ValueError, match=r"datasets\.DatasetDict of the splits `train`, `test`"):
        load_interactions(datasets.DatasetDict(train=dataset(ROWS), test=dataset(ROWS)))
    with pytest.raises(ValueError, match="streaming=False"):
        load_interactions(dataset(ROWS).to_iterable_dataset())
    with pytest.raises(ValueError, match=r"expected a path, .*got builtins\.list"):
        load_interactions([("u", "a", 1)])
    with pytest.raises(ValueError, match=r"\(pyarrow\.Table\): expected a column `user_id`, found .*`who`"):
        load_interactions(pa.table({"who": ["u"], "item_id": ["a"], "timestamp": [1]}))
