"""Vectors out of every format, with their ids; what is pickled, broken or incomplete is refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from rarec_hf.data import read_vectors, save_vectors

IDS = ["a", "b", "c"]
VECTORS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=np.float32)
USERS, OF_USERS = [7, 8], np.array([[0.5, 1.5], [2.5, 3.5]], dtype=np.float32)


def write_npy(folder, ids=".txt", name="vectors"):
    np.save(folder / f"{name}.npy", VECTORS)
    if ids == ".npy":
        np.save(folder / f"{name}.ids.npy", np.array(IDS))
    elif ids == ".json":
        (folder / f"{name}.ids.json").write_text(json.dumps(IDS), "utf-8")
    elif ids == ".txt":
        (folder / f"{name}.ids.txt").write_text("\n".join(IDS) + "\n", "utf-8")
    return folder / f"{name}.npy"


def write_parquet(folder, numbered=False, side="item", ids=IDS, vectors=VECTORS):
    columns = {"vector": list(vectors)}
    if numbered:  # ten columns and more sort otherwise as texts than as numbers
        columns = {f"v{n}": vectors[:, n] for n in reversed(range(vectors.shape[1]))}
    pd.DataFrame({f"{side}_id": ids, **columns}).to_parquet(folder / f"{side}s.parquet")
    return folder / f"{side}s.parquet"


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
@pytest.mark.parametrize("with_users", [False, True])
def test_what_was_saved_is_read(tmp_path, ending, with_users):
    users = (USERS, OF_USERS) if with_users else ()
    save_vectors(tmp_path / f"vectors{ending}", IDS, torch.tensor(VECTORS), *users)
    read = read_vectors(tmp_path / f"vectors{ending}")
    assert list(read.item_ids) == IDS
    np.testing.assert_array_equal(np.asarray(read.item_vectors), VECTORS)
    if with_users:
        assert list(read.user_ids) == USERS
        np.testing.assert_array_equal(np.asarray(read.user_vectors), OF_USERS)
    else:
        assert read.user_ids is None and read.user_vectors is None
    assert [path.name for path in tmp_path.iterdir()] == [f"vectors{ending}"]


def test_safetensors_with_integer_ids_and_any_float(tmp_path):
    tensors = {"item_ids": torch.tensor([9, 5, 7]), "item_vectors": torch.tensor(VECTORS).bfloat16()}
    save_file(tensors, tmp_path / "v.safetensors")
    read = read_vectors(tmp_path / "v.safetensors")
    assert read.item_ids.tolist() == [9, 5, 7] and torch.equal(read.item_vectors.float(), torch.tensor(VECTORS))


@pytest.mark.parametrize("ids", [".npy", ".json", ".txt"])
def test_npy_with_its_ids_beside(tmp_path, ids):
    read = read_vectors(write_npy(tmp_path, ids))
    assert list(read.item_ids) == IDS
    np.testing.assert_array_equal(read.item_vectors, VECTORS)


@pytest.mark.parametrize("numbered", [False, True])
def test_parquet_in_lists_or_numbered_columns(tmp_path, numbered):
    vectors = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    read = read_vectors(write_parquet(tmp_path, numbered, vectors=vectors))
    assert list(read.item_ids) == IDS
    np.testing.assert_array_equal(read.item_vectors, vectors)


def test_users_from_a_second_file(tmp_path):
    users = write_parquet(tmp_path, side="user", ids=USERS, vectors=OF_USERS)
    read = read_vectors(write_npy(tmp_path), users)
    assert list(read.item_ids) == IDS and list(read.user_ids) == USERS
    np.testing.assert_array_equal(read.user_vectors, OF_USERS)
    read = read_vectors(write_parquet(tmp_path), write_npy(tmp_path, name="users"))
    assert list(read.user_ids) == IDS
    save_vectors(tmp_path / "both.npz", IDS, VECTORS, USERS, OF_USERS)
    with pytest.raises(ValueError, match="holds user vectors already"):
        read_vectors(tmp_path / "both.npz", users)
    np.savez(tmp_path / "users.npz", user_ids=USERS, user_vectors=OF_USERS)
    assert list(read_vectors(write_npy(tmp_path), tmp_path / "users.npz").user_ids) == USERS
    with pytest.raises(ValueError, match="holds no item vectors"):
        read_vectors(tmp_path / "users.npz")
    with pytest.raises(ValueError, match="holds no user vectors"):
        save_vectors(tmp_path / "items.npz", IDS, VECTORS)
        read_vectors(write_npy(tmp_path), tmp_path / "items.npz")


@pytest.mark.parametrize("ending", [".pt", ".pkl", ".bin", ".joblib", ".model"])
def test_pickles_are_refused_unread(tmp_path, ending):
    (tmp_path / f"v{ending}").write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match="run any code.*save_vectors"):
        read_vectors(tmp_path / f"v{ending}")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize("name", ["v.npz", "v.npy", "v.ids.npy"])
def test_objects_inside_numpy_files_are_not_unpickled(tmp_path, name):
    objects = np.array([Bomb(), "b", "c"], dtype=object)
    if name == "v.npz":
        np.savez(tmp_path / name, item_ids=objects, item_vectors=VECTORS)
    else:
        np.save(tmp_path / "v.npy", VECTORS)
        np.save(tmp_path / name, objects, allow_pickle=True)
    file = "v.npz" if name == "v.npz" else "v.npy"
    with pytest.raises(ValueError, match=f"{name}.*Python objects.*dtype=str"):
        read_vectors(tmp_path / file)


def test_what_is_not_there_or_not_readable(tmp_path):
    def refused(match, error=ValueError, file="v.npz", **arrays):
        if arrays:
            np.savez(tmp_path / file, **arrays)
        with pytest.raises(error, match=match):
            read_vectors(tmp_path / file)

    refused("There is no file", FileNotFoundError)
    refused("unknown file ending; expected one of .safetensors, .npz", file="v.xlsx")
    refused(r"has no `item_ids`, found \['item_vectors'\]", item_vectors=VECTORS)
    refused(r"has no `user_vectors`", item_ids=IDS, item_vectors=VECTORS, user_ids=USERS)
    refused(r"expected `item_ids` and `item_vectors`, found \['x'\]", x=VECTORS)
    for ending in ("npz", "npy", "safetensors", "parquet"):
        (tmp_path / f"broken.{ending}").write_bytes(b"no such format")
        refused("broken", file=f"broken.{ending}")
    np.save(tmp_path / "one.npy", VECTORS)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    refused("holds one array", file="one.npz")
    write_npy(tmp_path, ids=None)
    refused("vectors.ids.npy or vectors.ids.json or vectors.ids.txt; found", FileNotFoundError, "vectors.npy")
    write_npy(tmp_path, ids=".json")
    write_npy(tmp_path, ids=".txt")
    refused(r"in one file .*found \['vectors.ids.json', 'vectors.ids.txt'\]", file="vectors.npy")


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"id": IDS, "vector": list(VECTORS)}, r"expected a column `item_id`, found the columns \['id', 'vector'\]"),
        ({"item_id": IDS, "vector": [[1.0], [1.0, 2.0], [1.0]]}, r"lists of one length, got list.*\['1', '2'\]"),
        ({"item_id": IDS, "vector": [1.0, 2.0, 3.0]}, "lists of one length, got double"),
        ({"item_id": IDS, "v0": [1.0] * 3, "v2": [1.0] * 3}, r"gaps or repeats: \['v0', 'v2'\]"),
        ({"item_id": IDS, "v0": [1.0] * 3, "title": IDS}, r"numbered columns \(v0, v1, ...\), found"),
    ],
)
def test_parquet_that_cannot_be_meant(tmp_path, columns, match):
    pd.DataFrame(columns).to_parquet(tmp_path / "v.parquet")
    with pytest.raises(ValueError, match=match):
        read_vectors(tmp_path / "v.parquet")


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="written as .safetensors or .npz"):
        save_vectors(tmp_path / "v.pt", IDS, VECTORS)
    with pytest.raises(ValueError, match=r"an id for each item vector, got 2 ids and vectors of shape \(3, 2\)"):
        save_vectors(tmp_path / "v.npz", IDS[:2], VECTORS)
    assert list(tmp_path.iterdir()) == []
