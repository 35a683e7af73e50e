"""What a real export does to the rows: broken cells, odd types, odd times."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from rarec_hf.data import build_interactions, load_interactions

COLUMNS = ["user_id", "item_id", "timestamp"]
DROPS = [
    "malformed_rows_dropped",
    "rows_without_user_id_dropped",
    "rows_without_item_id_dropped",
    "rows_without_time_dropped",
    "exact_duplicates_dropped",
    "repeats_dropped",
    "k_core_interactions_dropped",
]


def frame(rows):
    return pd.DataFrame(rows, columns=COLUMNS)


def histories(built):
    return {user: [built.items.item_ids[i] for i in built.history(u)] for u, user in enumerate(built.user_ids)}


def test_dropped_rows_are_counted_by_their_first_reason():
    rows = [
        ("u", "a", 2),
        (None, None, None),  # counts as a row without a user id
        ("u", " ", "soon"),  # without an item id
        ("x", "z", np.nan),  # without a time; neither x nor z is left
        ("u", "b", 1),
        ("u", "b", 1),
        ("u", "a", 3),
        ("v", "a", "4"),
    ]
    built = build_interactions(frame(rows), on_broken_row="drop", k_core=1)
    assert histories(built) == {"u": ["b", "a"], "v": ["a"]}
    assert [built.report[name] for name in DROPS] == [0, 1, 1, 1, 1, 1, 0]
    assert built.report["interactions_read"] == 8
    assert built.report["interactions"] == 8 - sum(built.report[name] for name in DROPS) == 3
    assert built.report["first_row_dropped"].startswith("data row 2 ")
    assert built.report["k_core_users_dropped"] == built.report["k_core_items_dropped"] == 0


def test_the_same_rows_are_an_error_without_the_option():
    with pytest.raises(ValueError, match=r"`user_id` has 1 empty ids, the first in data row 2 .*--on_broken_row drop"):
        build_interactions(frame([("u", "a", 2), (None, "b", 1)]))
    with pytest.raises(ValueError, match=r"1 values .* in data row 2 .*'soon'.*--on_broken_row drop"):
        build_interactions(frame([("u", "a", 2), ("u", "b", "soon")]))
    with pytest.raises(ValueError, match="every one of 1 rows was dropped"):
        build_interactions(frame([("u", "a", "soon")]), on_broken_row="drop")
    with pytest.raises(ValueError, match="`on_broken_row` must be one of .* got 'skip'"):
        build_interactions(frame([("u", "a", 1)]), on_broken_row="skip")


def test_items_without_an_id_are_dropped_and_counted_too():
    table = pd.DataFrame({"item_id": [None, "a", " ", "a"], "title": ["?", "A", "??", "B"]})
    built = build_interactions(frame([("u", "a", 1), ("u", "b", 2)]), table, on_broken_row="drop")
    assert built.items.titles == ["A", "[untitled item b]"]
    assert built.report["item_rows_without_id_dropped"] == 2
    assert built.report["duplicate_item_rows_dropped"] == 1


def test_titles_of_dropped_rows_are_not_taken():
    table = pd.DataFrame(
        {"user_id": [None, "u"], "item_id": ["a", "a"], "timestamp": [1, 2], "title": ["of a broken row", "A"]}
    )
    assert build_interactions(table, on_broken_row="drop").items.titles == ["A"]


def test_a_broken_row_of_a_long_csv_is_named_by_its_number(tmp_path):
    lines = [f"u{row % 50},i{row % 70},{1_400_000_000 + row}" for row in range(200_000)]
    good, path = lines[123_455], tmp_path / "a.csv"
    breaks = {
        "u,i,1400000000,more": r"Expected 3 columns, got 4 in data row 123456 .*'u,i,1400000000,more'",
        "u,i,14OOOOOOOO": r"1 values .* first in data row 123456 .*'14OOOOOOOO'",
        "u,i,": r"`timestamp` has 1 values .* first in data row 123456 ",
        "u, ,1400000000": r"`item_id` has 1 empty ids, the first in data row 123456 ",
        ",i,1400000000": r"`user_id` has 1 empty ids, the first in data row 123456 ",
    }
    for line, message in breaks.items():
        lines[123_455] = line
        path.write_text(",".join(COLUMNS) + "\n" + "\n".join(lines) + "\n")
        with pytest.raises(ValueError, match=message):
            load_interactions(path)
        report = load_interactions(path, on_broken_row="drop").report
        assert sum(report[name] for name in DROPS[:4]) == 1 and report["interactions_read"] == 200_000
        lines[123_455] = good


def test_broken_lines_of_jsonl_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"user_id": 1, "item_id": 2, "timestamp": 3}\n{"user_id": 1, "it\n[1]\n')
    with pytest.raises(ValueError, match="line 2 is no JSON object"):
        load_interactions(path)
    built = load_interactions(path, on_broken_row="drop")
    assert built.report["malformed_rows_dropped"] == 2 and built.report["interactions_read"] == 3


@pytest.mark.parametrize("as_type", [object, "int64", "uint64", "Int64", "str"])
def test_large_integers_are_exact(as_type, tmp_path):
    ids = [2**63 - 1, 2**53 + 1, 2**53]
    table = pd.DataFrame({"user_id": pd.Series(ids, dtype=as_type), "item_id": ["a"] * 3, "timestamp": [1, 2, 3]})
    table.to_parquet(tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        assert load_interactions(source).user_ids == [str(number) for number in ids]


def test_integers_beyond_64_bits_and_with_gaps_are_exact(tmp_path):
    big = [2**64 - 1, 10**25]
    table = pd.DataFrame({"user_id": pd.Series(big, dtype=object), "item_id": ["a", "a"], "timestamp": [1, 2]})
    assert build_interactions(table).user_ids == ["18446744073709551615", str(10**25)]
    users = pd.Series([2**53 + 1, None, 2**53], dtype="Int64")
    gaps = pd.DataFrame({"user_id": users, "item_id": "a", "timestamp": 1})
    gaps.to_parquet(tmp_path / "a.parquet")
    for source in (gaps, tmp_path / "a.parquet"):
        built = load_interactions(source, on_broken_row="drop")
        assert built.user_ids == [str(2**53 + 1), str(2**53)]
        assert built.report["rows_without_user_id_dropped"] == 1


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integers_of_every_width_keep_order_and_value(dtype):
    high = np.iinfo(dtype).max
    numbers = np.array([high, np.iinfo(dtype).min, 0, high], dtype=dtype)
    built = build_interactions(pd.DataFrame({"user_id": numbers, "item_id": [0, 1, 2, 1], "timestamp": 0}))
    assert built.user_ids == list(dict.fromkeys(map(str, numbers.tolist())))


def test_mixed_types_and_inner_spaces():
    rows = [(5, "two words", 1), ("5", " two words ", 2), (5.0, "b", 3), (b"5", "two  words", 4)]
    assert histories(build_interactions(frame(rows))) == {"5": ["two words", "b", "two  words"]}


def test_all_equal_times_keep_the_order_of_the_rows_and_are_said(caplog):
    rows = [("u", item, 1_400_000_000) for item in "cab"]
    with caplog.at_level(logging.WARNING):
        built = build_interactions(frame(rows))
    assert histories(built) == {"u": ["c", "a", "b"]}
    assert "All timestamps are equal: the histories follow the order of the rows" in caplog.text
    assert built.report["tied_consecutive_interactions"] == "100.0 %"


def test_unit_and_span_are_reported_and_the_unit_may_be_given():
    rows = frame([("u", "a", 1_404_172_800_000), ("u", "b", 1_404_172_860_000)])
    built = build_interactions(rows)
    assert built.timestamp_unit == built.report["timestamp_unit"] == "milliseconds"
    assert (built.report["first_time"], built.report["last_time"]) == ("2014-07-01 00:00", "2014-07-01 00:01")
    assert build_interactions(rows, timestamp_unit="unknown").timestamp_unit == "unknown"
    assert build_interactions(frame([("u", "a", 3)]), timestamp_unit="seconds").report["first_time"] == (
        "1970-01-01 00:00"
    )
    with pytest.raises(ValueError, match="`timestamp_unit` must be auto, unknown or one of seconds, .*got 'days'"):
        build_interactions(rows, timestamp_unit="days")


def test_mixed_units_are_an_error_that_a_given_unit_lifts():
    rows = frame([("u", "a", "1404172800"), (None, "b", "1404172800000"), ("u", "b", "1404172800000")])
    with pytest.raises(ValueError, match="in milliseconds, the first 1404172800000 in data row 3 "):
        build_interactions(rows, on_broken_row="drop")
    assert build_interactions(rows, on_broken_row="drop", timestamp_unit="unknown").report["interactions"] == 2


def test_users_with_one_interaction_are_kept_and_counted():
    built = build_interactions(frame([("u", "a", 1), ("v", "a", 1), ("v", "b", 2)]))
    assert built.report["users_with_one_interaction"] == 1 and built.n_users == 2
