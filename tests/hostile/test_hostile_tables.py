"""Interactions and items from files and tables that hold anything: right histories, or an error that names them."""

from __future__ import annotations

import csv
import gzip
import json
import math

import numpy as np
import pandas as pd
import pytest
from hostile_cases import numbers, outcome, run, scalars, texts, tiers
from hypothesis import strategies as st

from rarec_hf.data import load_interactions

COLUMNS = ("user_id", "item_id", "timestamp")
KINDS = ("csv", "tsv", "jsonl", "parquet")
plain = st.sampled_from(["u1", "u2", "7", "5.0", "é", "a b", "0"])
times = st.one_of(
    st.integers(0, 9),
    st.sampled_from(["2014-07-01", "1404172800", "2014-07-01T12:00:00Z", 1404172800000, 0.5, -3, "x"]),
)
rows = st.one_of(
    st.lists(st.tuples(plain, plain, st.integers(0, 9), texts), min_size=1, max_size=8),
    st.lists(st.tuples(plain, plain, times, texts), max_size=6),
    st.lists(st.tuples(st.one_of(plain, texts), st.one_of(plain, texts), times, texts), max_size=6),
)
cells = st.one_of(scalars, plain, st.lists(st.integers(0, 2), max_size=2), st.dictionaries(texts, numbers, max_size=1))
raw_rows = st.lists(st.tuples(*[st.one_of(plain, plain, cells)] * 2, st.one_of(times, cells), cells), max_size=5)


def told(value) -> str:
    """A text as a file without types holds it, blanks around ids left out."""
    return str(value).strip()


def column(values: list[str]) -> list[str]:
    """Ids by value: a column of which every text looks like `5.0` came from floats."""
    texts = [told(value) for value in values]
    whole = all(t.removeprefix("-").removesuffix(".0").isdecimal() and t.endswith(".0") and t.isascii() for t in texts)
    return [text[:-2] for text in texts] if whole else texts


def check_histories(built, rows, drop: bool) -> None:
    """Beside the same rules in plain Python, for times that are small whole numbers."""
    assert built.n_users == len(set(built.user_ids)) and built.n_items == len(set(built.items.item_ids))
    assert np.isfinite(built.timestamps.astype(float)).all()
    for user in range(built.n_users):
        assert len(set(built.history(user))) == len(built.history(user))
        of_user = built.timestamps[built.offsets[user] : built.offsets[user + 1]]
        assert (np.diff(of_user) >= 0).all()
    if any(type(row[2]) is not int or not 0 <= row[2] < 10 for row in rows) or drop:
        return
    users, items = column([row[0] for row in rows]), column([row[1] for row in rows])
    expected: dict[str, list[str]] = {}
    for place in sorted(range(len(rows)), key=lambda place: rows[place][2]):
        history = expected.setdefault(users[place], [])
        if items[place] not in history:
            history.append(items[place])
    found = {
        id_: [built.items.item_ids[item] for item in built.history(user)] for user, id_ in enumerate(built.user_ids)
    }
    assert found == expected
    assert list(found) == list(dict.fromkeys(users))  # users by first appearance


def written(folder, kind: str, rows):
    """A file of this format with the rows; None where it cannot be written with them."""
    path = folder / f"events.{kind}"
    try:
        if kind in ("csv", "tsv"):
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
                writer.writerows([(*COLUMNS, "title"), *rows])
        elif kind == "jsonl":
            lines = [json.dumps(dict(zip((*COLUMNS, "title"), row, strict=True))) for row in rows]
            path.write_text("\n".join(lines), "utf-8")
        else:
            pd.DataFrame(rows, columns=[*COLUMNS, "title"]).to_parquet(path)
    except Exception:  # the writer's own limits
        return None
    return path


@tiers(60, 350)
def test_files(n, tmp_path):
    def check(rows, kind, drop):
        path = written(tmp_path, kind, rows)
        if path is None:
            return
        option = "drop" if drop else "error"
        act = lambda: load_interactions(path, on_broken_row=option)  # noqa: E731
        built = outcome("files", act, names=("interactions", "k_core"))
        if built is not None:
            check_histories(built, rows, drop)

    run(n, check, rows=rows, kind=st.sampled_from(KINDS), drop=st.booleans())


@tiers(60, 350)
def test_tables_in_memory(n):
    def check(rows, drop):
        frame = pd.DataFrame(
            {
                name: pd.Series([row[place] for row in rows], dtype=object)
                for place, name in enumerate((*COLUMNS, "title"))
            }
        )
        option = "drop" if drop else "error"
        act = lambda: load_interactions(frame, on_broken_row=option)  # noqa: E731
        built = outcome("tables in memory", act, names=("interactions", "items", "`title`"))
        if built is not None:
            check_histories(built, [(*row[:2], "not compared", row[3]) for row in rows], drop)
            for row in rows if not drop else ():
                for cell in row[:2]:
                    assert cell is not None and not (isinstance(cell, float) and math.isnan(cell))

    run(n, check, rows=raw_rows, drop=st.booleans())


@tiers(40, 250)
def test_items_tables(n):
    events = pd.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"], "timestamp": [1, 2, 3]})

    def check(rows, drop):
        columns = {name: [row[place] for row in rows] for place, name in enumerate(("item_id", "title", "genre"))}
        items = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
        option = {"on_broken_row": "drop" if drop else "error", "attribute_columns": ["genre"]}
        built = outcome(
            "items tables", lambda: load_interactions(events, items, **option), names=("items", "`genre`", "`title`")
        )
        if built is not None:
            assert sorted(built.items.item_ids) == ["a", "b"]
            assert all(isinstance(title, str) and title.strip() for title in built.items.titles)
            assert all(isinstance(v, str) and v for table in built.items.attributes for v in table.values())
            titles = dict(zip(built.items.item_ids, built.items.titles, strict=True))
            for item in ("a", "b"):  # a plain title of the item's first titled row is its title
                of = [row[1] for row in rows if row[0] == item and row[1] is not None]
                if of and isinstance(of[0], str) and of[0].isascii() and of[0].isalpha() and len(rows) == 2:
                    assert titles[item] in (of[0], f"[untitled item {item}]")

    ids = st.one_of(st.sampled_from(["a", "b"]), st.sampled_from(["a", "b"]), cells)
    run(n, check, rows=st.lists(st.tuples(ids, cells, cells), max_size=5), drop=st.booleans())


@tiers(60, 400)
def test_files_of_any_bytes(n, tmp_path):
    rows = [("u", "a", 1), ("u", "b", 2), ("v", "a", 3)]
    good = {kind: written(tmp_path, kind, [(*row, "t") for row in rows]).read_bytes() for kind in KINDS}
    good |= {f"{kind}.gz": gzip.compress(good[kind], mtime=0) for kind in ("csv", "jsonl")}
    good |= {"json": good["jsonl"], "txt": good["csv"]}

    def check(name, content, cut, insert):
        path, whole = tmp_path / f"events.{name}", good[name]
        cut %= len(whole) + 1
        path.write_bytes(content if content is not None else whole[:cut] + insert + whole[cut:])
        act = lambda: load_interactions(path)  # noqa: E731
        built = outcome("files of any bytes", act, names=("interactions",))
        if built is not None:
            assert built.n_users >= 1 and all(built.user_ids) and all(built.items.item_ids)

    contents = st.one_of(
        st.none(), st.none(), st.binary(max_size=40), texts.map(lambda t: t.encode("utf-8", "replace"))
    )
    inserts = st.one_of(
        st.binary(max_size=6), st.sampled_from([b'"', b"\x00", b"\xff\xfe", b",,", b"\r", b"\xef\xbb\xbf"])
    )
    run(n, check, name=st.sampled_from(sorted(good)), content=contents, cut=st.integers(0, 3000), insert=inserts)


@tiers(30, 150)
def test_options(n):
    frame = pd.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"], "timestamp": [1, 2, 3]})

    def check(name, value):
        built = outcome("options of tables", lambda: load_interactions(frame, **{name: value}), names=(name,))
        if built is not None:
            assert built.n_users == 2

    names = st.sampled_from(["k_core", "timestamp_unit", "on_broken_row", "user_column", "attribute_columns"])
    run(n, check, name=names, value=scalars)


def test_a_table_that_is_none():
    for source in (None, 5, object(), [1, 2], b"bytes", {"user_id": ["u"]}):
        with pytest.raises(ValueError, match="interactions.*expected"):
            load_interactions(source)
