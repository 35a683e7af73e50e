from __future__ import annotations

import pandas as pd
import pytest

from rarec_hf.data import build_interactions


@pytest.fixture
def make_interactions():
    """Histories of item ids, such as `{"u": "abc"}` or `{"u": ["a1", "a2"]}`, to `Interactions`."""

    def make(histories, titles=None):
        rows = [(user, item, time) for user, items in histories.items() for time, item in enumerate(items)]
        table = None if titles is None else pd.DataFrame(list(titles.items()), columns=["item_id", "title"])
        return build_interactions(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]), table)

    return make
