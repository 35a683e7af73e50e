from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from rarec_hf.data import Interactions, ItemTable, build_interactions, load_interactions


def frame(rows, columns=("user_id", "item_id", "timestamp")):
    return pd.DataFrame(rows, columns=list(columns))


def items(rows):
    return pd.DataFrame(rows, columns=["item_id", "title"])


def histories(built):
    return {
        user: [built.items.item_ids[item] for item in built.history(index)]
        for index, user in enumerate(built.user_ids)
    }


def test_sorts_by_time_within_users_and_keeps_first_appearance_order():
    built = build_interactions(frame([("v", "b", 3), ("u", "c", 9), ("v", "a", 1), ("u", "a", 2)]))
    assert built.user_ids == ["v", "u"]
    assert built.items.item_ids == ["b", "c", "a"]
    assert histories(built) == {"v": ["a", "b"], "u": ["a", "c"]}
    assert built.item_index.tolist() == [2, 0, 2, 1] and built.item_index.dtype == np.int64
    assert built.timestamps.tolist() == [1, 3, 2, 9] and built.timestamps.dtype == np.int64
    assert built.offsets.tolist() == [0, 2, 4] and built.offsets.dtype == np.int64
    assert (built.n_users, built.n_items) == (2, 3)
    assert built.report["interactions_read"] == built.report["interactions"] == 4


def test_ties_keep_row_order_and_are_reported():
    rows = [("u", "c", 1), ("u", "a", 1), ("u", "b", 1), ("u", "d", 0), ("v", "a", 0)]
    built = build_interactions(frame(rows))
    assert histories(built)["u"] == ["d", "c", "a", "b"]
    assert built.report["tie_order"] == "order of the rows"
    assert built.report["tied_consecutive_interactions"] == "66.7 %"  # d-c differ, c-a and a-b tie


def test_order_column_breaks_ties_only():
    rows = [("u", "c", 1, "10"), ("u", "a", 1, "9"), ("u", "b", 0, "99")]
    built = build_interactions(frame(rows, ("user_id", "item_id", "timestamp", "order")))
    assert histories(built)["u"] == ["b", "a", "c"]  # 9 before 10: numbers, not texts
    assert built.report["tie_order"] == "column `order`"


def test_order_column_with_other_content_is_an_error():
    rows = [("u", "c", 1, "1"), ("u", "a", 1, "A-17")]
    with pytest.raises(ValueError, match="`order` breaks ties .* 'A-17' in data row 2"):
        build_interactions(frame(rows, ("user_id", "item_id", "timestamp", "order")))


def test_duplicates_and_repeats_are_dropped_and_counted():
    rows = [("u", "a", 5), ("u", "a", 1), ("u", "b", 3), ("u", "a", 1), ("u", "a", 1), ("v", "a", 1)]
    built = build_interactions(frame(rows))
    assert histories(built) == {"u": ["a", "b"], "v": ["a"]}
    assert built.timestamps.tolist() == [1, 3, 1]  # the first in time is kept
    assert built.report["exact_duplicates_dropped"] == 2
    assert built.report["repeats_dropped"] == 1


@pytest.mark.parametrize(
    ("left", "right"), [([5, 6], ["5", "6"]), ([5.0, 6.0], [5, 6]), (["5.0", "6.0"], [6, 5]), (["5", 6], [5.0, 6.0])]
)
def test_item_ids_match_across_tables_by_value(left, right):
    built = build_interactions(
        frame([("u", left[0], 1), ("u", left[1], 2)]), items([(right[0], f"T{right[0]}"), (right[1], f"T{right[1]}")])
    )
    assert sorted(built.items.item_ids) == ["5", "6"]
    assert built.report["items_missing_from_table"] == 0


def test_items_follow_the_table_then_the_interactions():
    built = build_interactions(
        frame([("u", "x", 1), ("u", "b", 2), ("u", "a", 3)]), items([("a", "A"), ("cold", "C"), ("b", "B")])
    )
    assert built.items == ItemTable(["a", "b", "x"], ["A", "B", "[untitled item x]"], [{}, {}, {}])
    assert histories(built) == {"u": ["x", "b", "a"]}
    assert built.report["items_without_interactions"] == 1
    assert built.report["items_missing_from_table"] == 1
    assert built.report["items_in_table"] == 3


def test_titles_are_cleaned_and_gaps_filled():
    table = items([("a", "Tom &amp;\n Jerry"), ("b", None), ("c", " "), ("d", np.nan), ("e", "E")])
    built = build_interactions(frame([("u", item, 1) for item in "abcdef"]), table)
    assert built.items.titles == [
        "Tom & Jerry",
        "[untitled item b]",
        "[untitled item c]",
        "[untitled item d]",
        "E",
        "[untitled item f]",
    ]
    assert built.report["untitled_items"] == 4
    assert built.report["titles_cleaned"] == 1


def test_duplicate_items_keep_the_first_row_with_a_title():
    table = items([("a", "A"), ("a", "A again"), ("a", "A"), ("b", None), ("b", "B"), ("c", "C"), ("c", "C ")])
    built = build_interactions(frame([("u", item, 1) for item in "abc"]), table)
    assert built.items.titles == ["A", "B", "C"]
    assert built.report["duplicate_item_rows_dropped"] == 4
    assert built.report["conflicting_item_titles"] == 1


def test_attributes_leave_out_what_is_missing():
    table = pd.DataFrame(
        {"item_id": ["a", "b"], "title": ["A", "B"], "year": [1995.0, np.nan], "tags": [["x", "y"], []]}
    )
    built = build_interactions(
        frame([("u", "b", 1), ("u", "a", 2), ("u", "c", 3)]), table, attribute_columns=["year", "tags"]
    )
    assert built.items.attributes == [{"year": "1995", "tags": "x, y"}, {}, {}]


def test_titles_and_attributes_from_a_single_table():
    rows = [("u", "a", 1, None, "g"), ("u", "b", 2, "B", None), ("v", "a", 1, "A", "h"), ("v", "b", 3, "Bee", "k")]
    single = frame(rows, ("user_id", "item_id", "timestamp", "title", "genre"))
    built = build_interactions(single, attribute_columns=["genre"])
    assert built.items == ItemTable(["a", "b"], ["A", "B"], [{"genre": "h"}, {}])
    assert built.report["conflicting_item_titles"] == 1
    assert "duplicate_item_rows_dropped" not in built.report  # an item has many rows here


def test_no_titles_at_all_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        built = build_interactions(frame([("u", "a", 1), ("u", "b", 2)]))
    assert built.report["untitled_items"] == 2 and "No item has a title" in caplog.text


def test_k_core_is_iterative_and_counted():
    rows = [("u", "a", 1), ("u", "b", 2), ("v", "a", 1), ("v", "b", 2), ("w", "b", 1), ("w", "c", 2), ("x", "c", 1)]
    built = build_interactions(frame(rows), items([("c", "C"), ("b", "B"), ("a", "A")]), k_core=2)
    # x falls first, then c (only w is left there), then w (only b is left)
    assert histories(built) == {"u": ["a", "b"], "v": ["a", "b"]}
    assert built.items.item_ids == ["b", "a"]
    assert built.report["k_core_users_dropped"] == 2
    assert built.report["k_core_items_dropped"] == 1
    assert built.report["k_core_interactions_dropped"] == 3


def test_k_core_with_nothing_left_or_negative():
    rows = [("u", "a", 1), ("u", "b", 2)]
    with pytest.raises(ValueError, match="No interaction is left after the filter `k_core=2`"):
        build_interactions(frame(rows), k_core=2)
    with pytest.raises(ValueError, match="0 .* or more, a whole number, got -1"):
        build_interactions(frame(rows), k_core=-1)


def test_disjoint_tables_are_an_error():
    with pytest.raises(ValueError, match=r"No item id .*\['a'\] there and with \['B1'\] here"):
        build_interactions(frame([("u", "a", 1)]), items([("B1", "T")]))


def test_broken_frames():
    good = frame([("u", "a", 1)])
    with pytest.raises(ValueError, match="no rows"):
        build_interactions(good.iloc[:0])
    with pytest.raises(ValueError, match="items: the table holds no rows"):
        build_interactions(good, items([]))
    with pytest.raises(ValueError, match=r"items: expected a column `title`.*--title_column"):
        build_interactions(good, items([("a", "A")]).drop(columns="title"))
    with pytest.raises(ValueError, match=r"items: expected a column `genre`.*--attribute_columns"):
        build_interactions(good, items([("a", "A")]), attribute_columns=["genre"])
    with pytest.raises(ValueError, match=r"interactions: expected a column `when`.*--timestamp_column"):
        build_interactions(good, timestamp_column="when")
    with pytest.raises(ValueError, match="items: the column `item_id` has 1 empty ids, the first in data row 2"):
        build_interactions(good, items([("a", "A"), (None, "B")]))


def test_fingerprint_follows_ids_order_and_titles_only():
    rows, table = [("u", "a", 1), ("u", "b", 2), ("v", "a", 5)], [("a", "A"), ("b", "B")]
    first = build_interactions(frame(rows), items(table)).fingerprint()
    assert len(first) == 16 and int(first, 16) >= 0
    later = [(user, item, time + 100) for user, item, time in rows]
    assert build_interactions(frame(later), items(table)).fingerprint() == first
    others = [
        ([("u", "b", 1), ("u", "a", 2), ("v", "a", 5)], table),
        ([("w", "a", 1), ("w", "b", 2), ("v", "a", 5)], table),
        (rows, [("a", "A!"), ("b", "B")]),
        (rows, table[::-1]),
    ]
    prints = [build_interactions(frame(rows), items(table)).fingerprint() for rows, table in others]
    assert len({first, *prints}) == 5


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_load_gives_the_same_from_every_format(tmp_path, kind):
    events = frame([(1, 10, 5), (1, 11, 6), (2, 10, 7)], ("who", "what", "when"))
    movies = pd.DataFrame({"what": [11, 10, 12], "name": ["Q &amp; A", "Ü", None], "year": [1990, None, 1]})
    for name, table in {"events": events, "movies": movies}.items():
        path = tmp_path / f"{name}.{kind}"
        if kind == "csv":
            table.to_csv(path, index=False)
        elif kind == "parquet":
            table.to_parquet(path)
        else:
            table.to_json(path, orient="records", lines=True)
    built = load_interactions(
        tmp_path / f"events.{kind}",
        str(tmp_path / f"movies.{kind}"),
        user_column="who",
        item_column="what",
        timestamp_column="when",
        title_column="name",
        attribute_columns=["year"],
    )
    assert built.items.item_ids == ["11", "10"] and built.items.titles == ["Q & A", "Ü"]
    assert histories(built) == {"1": ["10", "11"], "2": ["10"]}
    assert built.report["interactions_source"] == f"events.{kind}"  # no folders of the machine
    assert built.report["items_source"] == f"movies.{kind}"
    assert next(iter(built.report)) == "interactions_source"
    assert built.items.attributes == [{"year": "1990"}, {}]  # never "1990.0", which is how pandas writes the gap


def test_load_single_table_with_titles_and_order(tmp_path):
    rows = [("u", "a", 1, 2, "A"), ("u", "b", 1, 1, "B")]
    frame(rows, ("user_id", "item_id", "timestamp", "order", "title")).to_csv(tmp_path / "a.csv", index=False)
    built = load_interactions(tmp_path / "a.csv")
    assert built.items.titles == ["A", "B"] and histories(built) == {"u": ["b", "a"]}
    assert "items_source" not in built.report


def test_load_keeps_leading_zeros_of_csv_ids(tmp_path):
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\n1,000100039X,1\n1,0001000390,2\n01,0001000390,2\n")
    (tmp_path / "i.csv").write_text("item_id,title\n0001000390,Digits\n")
    built = load_interactions(tmp_path / "a.csv", tmp_path / "i.csv")
    assert built.user_ids == ["1", "01"] and built.items.item_ids == ["0001000390", "000100039X"]


def test_large_random_table_agrees_with_a_plain_loop():
    rng = np.random.default_rng(0)
    rows = list(zip(*(rng.integers(0, high, 3000).tolist() for high in (40, 60, 25)), strict=True))
    built = build_interactions(frame(rows))
    expected: dict[str, list[str]] = {}
    for user, item, _ in sorted(rows, key=lambda row: row[2]):  # sorted() is stable
        history = expected.setdefault(str(user), [])
        if str(item) not in history:
            history.append(str(item))
    assert histories(built) == expected
    report = built.report
    assert report["exact_duplicates_dropped"] == 3000 - len(set(rows))
    assert report["interactions"] == 3000 - report["exact_duplicates_dropped"] - report["repeats_dropped"]


def test_containers_check_their_shapes():
    table = ItemTable(["a"], ["A"], [{}])
    assert len(table) == 1
    with pytest.raises(ValueError, match="same length, got 1, 0 and 1"):
        ItemTable(["a"], [], [{}])
    zero = np.zeros(1, dtype=np.int64)
    assert repr(Interactions(["u"], table, zero, zero, np.array([0, 1]))).startswith("Interactions(n_users=1")
    with pytest.raises(ValueError, match="offsets"):
        Interactions(["u"], table, zero, zero, np.array([0, 2]))
    with pytest.raises(ValueError, match=r"`item_index` must lie in 0\.\.0"):
        Interactions(["u"], table, zero + 1, zero, np.array([0, 1]))
    with pytest.raises(ValueError, match="Expected 1 timestamps and 2 offsets"):
        Interactions(["u"], table, zero, zero, np.array([0]))
