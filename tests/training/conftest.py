"""Small interactions with an order that can be learnt, and their split."""

import pytest
from tests_support import walk_tables

from rarec_hf.data import build_interactions, leave_one_out


@pytest.fixture
def tables():
    return walk_tables()


@pytest.fixture
def split(tables):
    return leave_one_out(build_interactions(*tables), alignment_fraction=0.2, seed=0)
