from __future__ import annotations

import gzip

import pandas as pd
import pytest

from rarec_hf.data import load_interactions
from rarec_hf.data.shards import find_shards, hive_columns

ROWS = pd.DataFrame(
    {"user_id": ["u", "v", "u", "v"], "item_id": ["a", "a", "b", "c"], "timestamp": [1, 2, 3, 4], "rest": 0}
)


def write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")


def histories(built):
    return {user: [built.items.item_ids[i] for i in built.history(u)] for u, user in enumerate(built.user_ids)}


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl", "csv.gz"])
def test_a_folder_of_shards_is_one_table(tmp_path, ending):
    write(tmp_path / f"part-1.{ending}", ROWS.iloc[2:])
    write(tmp_path / "deeper" / f"part-0.{ending}", ROWS.iloc[:2])
    for name in ("_SUCCESS", "._SUCCESS.crc", ".part-0.parquet.crc", "_metadata", ".hidden/part.csv", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    built = load_interactions(tmp_path)
    assert histories(built) == {"u": ["a", "b"], "v": ["a", "c"]}
    assert built.report["interactions_source"] == tmp_path.name
    assert built.report["interactions_files"] == 2
    assert built.report["interactions_files_ignored"] == "README.md"


def test_a_pattern_takes_the_files_that_match(tmp_path):
    write(tmp_path / "part-0.csv", ROWS.iloc[:2])
    write(tmp_path / "part-1.csv", ROWS.iloc[2:])
    write(tmp_path / "other.parquet", ROWS)
    built = load_interactions(tmp_path / "part-*.csv")
    assert built.report["interactions"] == 4 and built.report["interactions_source"] == "part-*.csv"
    with pytest.raises(FileNotFoundError, match=r"no file matches the pattern"):
        load_interactions(tmp_path / "none-*.csv")
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(ValueError, match=r"unknown file ending of a.xlsx"):
        load_interactions(tmp_path / "*.xlsx")


def test_files_of_two_formats_are_refused(tmp_path):
    write(tmp_path / "a.csv", ROWS)
    write(tmp_path / "b.parquet", ROWS)
    with pytest.raises(ValueError, match=r"files of several formats: a.csv \(csv\), b.parquet \(parquet\)"):
        load_interactions(tmp_path)


def test_an_error_names_the_shard_and_the_row_in_it(tmp_path):
    write(tmp_path / "part-0.csv", ROWS)
    write(tmp_path / "part-1.csv", ROWS.assign(timestamp=["1", "2", "soon", "4"]))
    with pytest.raises(ValueError, match=r"first in data row 3 of part-1\.csv .*'soon'"):
        load_interactions(tmp_path)
    report = load_interactions(tmp_path, on_broken_row="drop").report
    assert report["rows_without_time_dropped"] == 1
    assert report["first_row_dropped"].startswith("data row 3 of part-1.csv")
    write(tmp_path / "part-1.csv", ROWS.assign(item_id=["a", None, "b", "c"]))
    with pytest.raises(ValueError, match=r"`item_id` has 1 empty ids, the first in data row 2 of part-1\.csv"):
        load_interactions(tmp_path)
    (tmp_path / "part-1.csv").write_text("user_id,item_id,timestamp\nu,a,1\nu,a,1,1\n")
    with pytest.raises(ValueError, match=r"part-1\.csv: .*got 4 in data row 2"):
        load_interactions(tmp_path)
    assert load_interactions(tmp_path, on_broken_row="drop").report["malformed_rows_dropped"] == 1
    write(tmp_path / "part-1.csv", ROWS.drop(columns="item_id"))
    with pytest.raises(ValueError, match=r"part-1\.csv: expected a column `item_id`"):
        load_interactions(tmp_path)


def test_a_column_that_only_some_shards_have_is_refused(tmp_path):
    write(tmp_path / "part-0.csv", ROWS)
    write(tmp_path / "part-1.csv", ROWS.assign(order=0))
    with pytest.raises(ValueError, match=r"same columns, but \['order'\] stand in only one of part-0.csv and part-1"):
        load_interactions(tmp_path)


def test_shards_may_store_ids_as_different_types(tmp_path):
    write(tmp_path / "part-0.parquet", pd.DataFrame({"user_id": [5], "item_id": [1], "timestamp": [1]}))
    write(tmp_path / "part-1.parquet", pd.DataFrame({"user_id": ["5"], "item_id": [2.0], "timestamp": [2]}))
    assert histories(load_interactions(tmp_path)) == {"5": ["1", "2"]}


def test_empty_shards_and_folders_of_nothing_but_empty_ones(tmp_path):
    write(tmp_path / "part-0.csv", ROWS)
    write(tmp_path / "part-1.csv", ROWS.iloc[:0])
    assert load_interactions(tmp_path).report["interactions_files"] == 1
    (tmp_path / "part-0.csv").unlink()
    with pytest.raises(ValueError, match="holds no rows"):
        load_interactions(tmp_path)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_folders_named_key_equals_value_are_columns(tmp_path, ending):
    for day, rows in (("2014-07-01", ROWS.iloc[:3]), ("2014-07-02", ROWS.iloc[3:])):
        write(tmp_path / f"day={day}" / f"part.{ending}", rows.drop(columns="timestamp"))
    built = load_interactions(tmp_path, timestamp_column="day")
    assert built.report["first_time"] == "2014-07-01 00:00" and built.report["last_time"] == "2014-07-02 00:00"
    assert built.timestamp_unit == "seconds"
    assert hive_columns("a=x%20y/b=__HIVE_DEFAULT_PARTITION__/c=3/part", {"a", "b"}) == {"a": "x y", "b": None}


def test_what_datasets_saved_is_left_to_datasets(tmp_path):
    import datasets

    data = datasets.Dataset.from_pandas(ROWS)
    data.save_to_disk(tmp_path / "one")
    assert find_shards(tmp_path / "one", "x") is None
    assert load_interactions(tmp_path / "one").report["interactions"] == 4
    datasets.DatasetDict(train=data, test=data).save_to_disk(tmp_path / "two")
    with pytest.raises(ValueError, match=r"datasets\.DatasetDict of the splits `train`, `test`. Pass one of them"):
        load_interactions(tmp_path / "two")


def test_gzip_is_unpacked_in_a_shard(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"user_id": 1, "item_id": 2, "timestamp": 3}\n'))
    assert load_interactions(tmp_path).user_ids == ["1"]
