from __future__ import annotations

import pandas as pd
import pytest

from rarec_hf.data import load_id_maps


def test_ids_come_back_in_the_order_of_their_index(make_interactions, tmp_path):
    built = make_interactions({"u 1": "ba", "007": "c"}, titles={"a": "Ä", "b": "B"})
    built.save_id_maps(tmp_path / "run")
    maps = load_id_maps(tmp_path / "run")
    assert maps.user_ids == built.user_ids == ["u 1", "007"]
    assert maps.item_ids == built.items.item_ids == ["a", "b", "c"]
    assert maps.titles == ["Ä", "B", "[untitled item c]"]
    assert pd.read_parquet(tmp_path / "run" / "users.parquet").columns.tolist() == ["user_index", "user_id"]
    assert pd.read_parquet(tmp_path / "run" / "items.parquet")["item_index"].tolist() == [0, 1, 2]


def test_missing_broken_or_shuffled_files_are_refused(make_interactions, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no `users\.parquet`.*save_id_maps"):
        load_id_maps(tmp_path)
    make_interactions({"u": "ab", "v": "a"}).save_id_maps(tmp_path)
    table = pd.read_parquet(tmp_path / "items.parquet")
    table[::-1].to_parquet(tmp_path / "items.parquet")
    with pytest.raises(ValueError, match="`item_index` must count 0, 1, 2"):
        load_id_maps(tmp_path)
    table.drop(columns="title").to_parquet(tmp_path / "items.parquet")
    with pytest.raises(ValueError, match=r"items\.parquet: expected the columns .*\['title'\] are missing"):
        load_id_maps(tmp_path)
