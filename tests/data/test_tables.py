from __future__ import annotations

import gzip
import json

import pandas as pd
import pytest

from rarec_hf.data import table_files
from rarec_hf.data.tables import dataset_id, read_table, source_name

FLAGS = {"user_id": "--user_column", "item_id": "--item_column"}
FRAME = pd.DataFrame({"user_id": ["u1", "007"], "item_id": ["5", "6"], "rating": ["3", "4"]})


def write(frame, path):
    if ".parquet" in path.name:
        frame.to_parquet(path)
    elif ".jsonl" in path.name:
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")
    return path


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.csv", "a.tsv", "a.jsonl", "a.csv.gz", "a.tsv.gz", "a.jsonl.gz", "a.CSV"]
)
def test_every_format_gives_the_wanted_columns_as_they_are(tmp_path, name):
    frame = read_table(write(FRAME, tmp_path / name), FLAGS, ["absent"])
    assert list(frame.columns) == ["user_id", "item_id"]
    assert frame["user_id"].tolist() == ["u1", "007"]


def test_optional_columns_are_read_where_they_exist(tmp_path):
    frame = read_table(write(FRAME, tmp_path / "a.csv"), FLAGS, ["rating"])
    assert frame["rating"].tolist() == ["3", "4"]


def test_missing_column_lists_columns_flag_and_closest_name(tmp_path):
    path = write(FRAME.rename(columns={"user_id": "userId"}), tmp_path / "ratings.csv")
    with pytest.raises(ValueError) as error:
        read_table(path, FLAGS, table="interactions")
    text = str(error.value)
    assert "interactions (ratings.csv)" in text and "`userId`, `item_id`, `rating`" in text
    assert "Did you mean `--user_column userId`?" in text


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_missing_column_without_a_close_name_gives_the_flag(tmp_path, name):
    path = write(FRAME.rename(columns={"user_id": "who"}), tmp_path / name)
    with pytest.raises(ValueError, match=r"expected a column `user_id`.*`--user_column NAME`"):
        read_table(path, FLAGS)


def test_wrong_separator_is_guessed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user_id;item_id\n1;2\n")
    with pytest.raises(ValueError, match="one single column"):
        read_table(path, FLAGS)


def test_column_that_occurs_twice(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user_id,item_id,user_id\n1,2,3\n")
    with pytest.raises(ValueError, match="`user_id` occurs 2 times"):
        read_table(path, FLAGS)


@pytest.mark.parametrize("content", ["", "user_id,item_id\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_empty_file(tmp_path, name, content):
    path = tmp_path / name
    content = content.replace(",", "\t" if "tsv" in name else ",")
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    with pytest.raises(ValueError, match=r"holds no rows|Empty CSV"):
        read_table(path, FLAGS)


def test_empty_jsonl_and_parquet(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    FRAME.iloc[:0].to_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(ValueError, match=rf"{name}\): the table holds no rows"):
            read_table(tmp_path / name, FLAGS)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl"])
def test_non_utf8_names_file_and_byte(tmp_path, name):
    line = {"csv": "user_id,item_id\nu,Caf", "jso": '{"user_id": "u", "item_id": "Caf'}[name[2:5]].encode()
    content = line + "é".encode("latin-1") + (b'"}\n' if "json" in name else b"\n")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(ValueError, match=rf"{name}\): the file is not UTF-8; .* at position {len(line)}\b"):
        read_table(tmp_path / name, FLAGS)


def test_non_utf8_position_after_a_character_across_chunks(tmp_path):
    start = b"user_id,item_id\n"
    body = b"u," + b"x" * ((1 << 20) - len(start) - 3) + "é".encode() + b"yy"  # é lies on the border of two chunks
    (tmp_path / "a.csv").write_bytes(start + body + b"\xff\n")
    with pytest.raises(ValueError, match=rf"position {len(start + body)}\b"):
        read_table(tmp_path / "a.csv", FLAGS)


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfuser_id,item_id\n1,2\n")
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"user_id": 1, "item_id": 2}\n')
    for name in ("a.csv", "a.jsonl"):
        assert len(read_table(tmp_path / name, FLAGS)) == 1


@pytest.mark.parametrize("rows", ["1,Hello, World\n2,b\n", "1,a\n2,Hello, World\n", "1,a\n2\n"])
def test_rows_of_the_wrong_length_are_an_error_and_never_cut(tmp_path, rows):
    (tmp_path / "a.csv").write_text("item_id,title\n" + rows)
    with pytest.raises(ValueError, match=r"a\.csv\): the file could not be read as csv.*Expected 2 columns"):
        read_table(tmp_path / "a.csv", {"item_id": "--item_column", "title": "--title_column"})


def test_quotes(tmp_path):
    path, flags = tmp_path / "a.csv", {"item_id": "--item_column", "title": "--title_column"}
    path.write_text('item_id,title\n1,"say ""hi"", you"\n2,5" disc\n3,"two\nlines"\n')
    assert read_table(path, flags)["title"].tolist() == ['say "hi", you', '5" disc', "two\nlines"]
    path.write_text('item_id,title\n1,"open\n2,b\n3,c\n')
    with pytest.raises(ValueError, match="never closed; it begins with 'open'"):
        read_table(path, flags)


def test_only_the_empty_field_is_missing_in_csv(tmp_path):
    (tmp_path / "a.csv").write_text('user_id,item_id\nNA,None\n"",\n')
    frame = read_table(tmp_path / "a.csv", FLAGS)
    assert frame["user_id"].iloc[0] == "NA" and frame["item_id"].iloc[0] == "None"
    assert frame.iloc[1].isna().all()


def test_jsonl_keeps_integers_of_a_column_with_gaps(tmp_path):
    rows = [{"user_id": 2**60 + 1, "item_id": 1}, {"item_id": 2}, {"user_id": "x", "item_id": 3, "late": 4}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    frame = read_table(tmp_path / "a.jsonl", FLAGS, ["late"])
    assert frame["user_id"].tolist() == [2**60 + 1, None, "x"]
    assert frame["late"].tolist() == [None, None, 4]


@pytest.mark.parametrize("text", ['{"user_id": 1', "[1, 2]"])
def test_broken_jsonl_names_the_line(tmp_path, text):
    (tmp_path / "a.jsonl").write_text('{"user_id": 1, "item_id": 1}\n' + text)
    with pytest.raises(ValueError, match="line 2 is no JSON object"):
        read_table(tmp_path / "a.jsonl", FLAGS)


def test_parquet_index_is_a_column_and_broken_parquet_names_the_file(tmp_path):
    FRAME.set_index("user_id").to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", FLAGS)["user_id"].tolist() == ["u1", "007"]
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"b\.parquet\): the file could not be read as parquet"):
        read_table(tmp_path / "b.parquet", FLAGS)


def test_unknown_ending(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(ValueError, match=r"unknown file ending; expected one of \.parquet, \.csv"):
        read_table(tmp_path / "a.xlsx", FLAGS)


@pytest.mark.parametrize("name", ["missing.csv", "folder/missing.jsonl.gz", "/absent/place/file", "no such name"])
def test_missing_file_is_said_without_asking_the_hub(monkeypatch, name):
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **kwargs: pytest.fail("asked the Hub"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_table(name, FLAGS)


@pytest.mark.parametrize(
    ("source", "expected"), [("owner/name", ("owner/name", None)), ("owner/name:5core", ("owner/name", "5core"))]
)
def test_datasets_id(monkeypatch, source, expected):
    import datasets

    calls = []

    def load_dataset(*args, split):
        calls.append((args, split))
        return datasets.Dataset.from_pandas(FRAME)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert read_table(source, FLAGS)["user_id"].tolist() == ["u1", "007"]
    assert calls == [(expected, "train")]
    assert source_name(source) == source


@pytest.mark.parametrize("error", [ConnectionError("offline"), ValueError("no such config")])
def test_unknown_datasets_id(monkeypatch, error):
    def load_dataset(*args, split):
        raise error

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(FileNotFoundError, match=f"`owner/name` is neither a file nor a `datasets` id.*{error}"):
        read_table("owner/name", FLAGS)


def test_folder_goes_to_datasets_and_reports_name_no_folders(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr("datasets.load_dataset", lambda *args, split: datasets.Dataset.from_pandas(FRAME))
    assert len(read_table(tmp_path, FLAGS)) == 2
    assert source_name(tmp_path) == tmp_path.name


def test_only_a_dataset_has_an_id(tmp_path):
    assert dataset_id("me/films:small") == "me/films" and dataset_id("films") == "films"
    (tmp_path / "events").mkdir()
    for source in (str(tmp_path / "events"), "exports/part-*.parquet", "not/there.csv", "a/b/c", FRAME, None):
        assert dataset_id(source) is None


@pytest.mark.parametrize(
    "before", [b"", b"\xef\xbb\xbf", b" \t", b"\n\n", b'{"user_id": 1, "item_id": 2, "timestamp": 3}\n']
)
def test_a_line_of_null_ends_in_an_error_and_not_the_process(before, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(before + b"null\n" + b'{"user_id": 1, "item_id": 2, "timestamp": 3}\n')
    with pytest.raises(ValueError, match=r"events.jsonl.*line \d is no JSON object but a NoneType"):
        read_table(path, {"user_id": "--user_column"})
    for size in (3, 4, 5, 7):  # however the bytes come

        class Slow:
            def __init__(self, file):
                self.file = file

            def __enter__(self):
                return self

            def __exit__(self, *error):
                self.file.close()

            def read(self, n, size=size):
                return self.file.read(size)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(table_files, "_open_bytes", lambda path: Slow(path.open("rb")))
            assert table_files._begins_a_line_with_null(path)
    path.write_bytes(b'{"user_id": null, "item_id":\n' * 2)
    assert not table_files._begins_a_line_with_null(path)
