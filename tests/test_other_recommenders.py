"""The snippets of docs/id_encoders.md, run as they stand: vectors of other packages become an ID encoder of a run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests_support import walk_tables

from rarec_hf.training.loaded_encoder import load_id_encoder

PAGE = Path(__file__).parent.parent / "docs" / "id_encoders.md"


def snippets() -> tuple[str, dict[str, str]]:
    """The part that all share, and the first block under each package's heading."""
    section = PAGE.read_text("utf-8").split("\n## Vectors of another recommender\n")[1].split("\n## ")[0]
    shared, *packages = re.split(r"^### ", section, flags=re.MULTILINE)

    def code(text: str) -> str:
        return re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)[1]

    return code(shared), {text.split("\n")[0]: code(text) for text in packages}


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the shared part leaves, run on small tables in an empty folder."""
    interactions, items = walk_tables()
    interactions.to_csv(tmp_path / "events.csv", index=False)
    items.to_csv(tmp_path / "items.csv", index=False)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(snippets()[0], names)
    return names


# What each package itself says the vector of an item is, and of a user
OF_ITEM = {
    "gensim": lambda names, index, item: names["model"].wv[item],
    "implicit": lambda names, index, item: names["model"].item_factors[index],
    "cornac": lambda names, index, item: names["model"].i_factors[names["data"].iid_map[item]],
    "torch-rechub": lambda names, index, item: (
        names["model"].item_emb.embed_dict["seq"].weight[index + 1].numpy(force=True)
    ),
}
OF_USER = {
    "implicit": lambda names, index, user: names["model"].user_factors[index],
    "cornac": lambda names, index, user: names["model"].u_factors[names["data"].uid_map[user]],
}


@pytest.mark.parametrize("name", OF_ITEM)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # implicit's advice on threads
def test_a_snippet_gives_an_encoder_that_needs_no_trust(name, names):
    package = name.replace("-", "_")
    pytest.importorskip(package)
    exec(snippets()[1][name], names)
    split = names["split"]
    encoder = load_id_encoder(f"outputs/{package}", split)  # without trust: it says what it has seen
    vectors, item_ids = encoder.item_vectors().numpy(force=True), split.interactions.items.item_ids
    for item in np.unique(split.encoder_sequences().flat()):
        expected = OF_ITEM[name](names, item, item_ids[item])
        assert expected.any() and np.array_equal(vectors[item], expected)
    assert encoder.takes_users == (name in OF_USER)
    if encoder.takes_users:
        table, user_ids = encoder.user_embeddings.weight.numpy(force=True), split.interactions.user_ids
        assert np.array_equal(np.flatnonzero(table.any(1)), split.encoder_users)
        for user in split.encoder_users:
            assert np.array_equal(table[user], OF_USER[name](names, user, user_ids[user]))


def test_what_rectools_is_given(names):
    exec(snippets()[1]["RecTools"], names)
    written, split = pd.read_parquet("train.parquet"), names["split"]
    assert list(written.columns) == ["user_id", "item_id", "weight", "datetime"]
    first = split.encoder_users[0]
    sequence = written[written.user_id == split.interactions.user_ids[first]].sort_values("datetime").item_id
    expected = [split.interactions.items.item_ids[item] for item in split.encoder_sequences()[0]]
    assert list(sequence) == expected
    assert written.datetime.is_monotonic_increasing and len(written) == len(split.encoder_sequences().flat())
