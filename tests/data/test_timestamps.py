from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from rarec_hf.data import build_interactions, to_timestamp
from rarec_hf.data.timestamps import format_time, read_timestamps, recognise_unit


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
        ([True, False], 2, 1),  # numbers to pandas
        ([5, True], 1, 2),
        (["1970-01-01", True], 1, 2),
        (pd.Series([False, None], dtype="boolean"), 2, 1),
    ],
)
def test_unreadable_timestamps_give_count_and_first_row(values, count, row):
    with pytest.raises(ValueError, match=rf"column `t` has {count} values .* first in data row {row} "):
        read_timestamps(pd.Series(values, name="t"), "interactions")


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([1_404_172_800, 978_300_760], "seconds"),
        ([1_404_172_800_000, 978_300_760_000], "milliseconds"),
        ([1_404_172_800_000_000], "microseconds"),
        ([1_404_172_800_000_000_000], "nanoseconds"),
        ([1, 2, 3], "unknown"),
        ([20140701, 20140702], "unknown"),  # calendar numbers
        ([0, 1_404_172_800], "seconds"),  # a placeholder beside times
        ([1_404_172_800.5], "seconds"),
        ([1_404_172_800, 20_000_000_000], "unknown"),  # the second is no date in any unit
        ([], "unknown"),
    ],
)
def test_unit_is_recognised_by_size(values, unit):
    column = pd.Series(values, name="t")
    assert recognise_unit(column.to_numpy(), column, "interactions") == unit


def test_mixed_units_name_the_first_row_of_each():
    column = pd.Series([1_404_172_800, 1_404_172_801, 1_404_172_800_000], name="when")
    with pytest.raises(
        ValueError, match=r"`when` mixes units.* 2 in seconds, the first 1404172800 in data row 1 .*; "
        r"1 in milliseconds, the first 1404172800000 in data row 3 .*--timestamp_unit"
    ):  # fmt: skip
        recognise_unit(column.to_numpy(), column, "interactions")


def test_times_of_categories_and_of_text_with_a_gap_stay_exact():
    column = pd.Series(["1400000000123456789", "5", "1400000000123456789"], name="t")
    assert read_timestamps(column.astype("category"), "interactions").tolist() == [1400000000123456789, 5] + [
        1400000000123456789
    ]
    with pytest.raises(ValueError, match="1 values .* first in data row 2 "):
        read_timestamps(pd.Series(["5", None, "6"], dtype="category", name="t"), "interactions")


@pytest.mark.parametrize(
    ("time", "when", "expected"),
    [
        (1_404_172_800, "2014-07-01", 1_404_172_800),
        (1_404_172_800_000, "2014-07-01", 1_404_172_800_000),
        (1_404_172_800_000, "2014-07-01T00:00:01.5", 1_404_172_801_500),
        (1_404_172_800, "2014-07-01T00:00:01.5", 1_404_172_801.5),
        (1_404_172_800, "2014-07-01T02:00:00+02:00", 1_404_172_800),
        (1_404_172_800_000_000_000, datetime.date(2014, 7, 1), 1_404_172_800_000_000_000),
        ("2014-07-02", datetime.datetime(2014, 7, 1), 1_404_172_800),
        (3, 17, 17),
        (3, "17", 17),
        (3, np.int32(17), 17),
    ],
)
def test_to_timestamp_speaks_the_unit_of_the_data(time, when, expected):
    frame = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": [time]})
    assert to_timestamp(build_interactions(frame), when) == expected


def test_to_timestamp_refuses_dates_without_a_unit_and_what_is_no_time():
    built = build_interactions(pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": [3]}))
    with pytest.raises(ValueError, match=r"unit .* is unknown.*'2014-07-01'.*--timestamp_unit"):
        to_timestamp(built, "2014-07-01")
    with pytest.raises(ValueError, match="Expected a date .* got 'soon'"):
        to_timestamp(built, "soon")


def test_format_time():
    assert format_time(1_404_172_800_000, "milliseconds") == "2014-07-01 00:00"
    assert format_time(1234, "unknown") == "1,234"
    assert format_time(10**18, "seconds") == str(10**18)
