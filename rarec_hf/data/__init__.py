"""Interactions in, splits and samples out."""

from __future__ import annotations

from .interactions import Interactions, ItemTable, build_interactions, load_interactions, to_timestamp
from .movielens import load_movielens_latest_small
from .selection import select_samples
from .splits import SPLITS, Split, Targets, check_no_leak, leave_one_out

__all__ = [
    "SPLITS",
    "Interactions",
    "ItemTable",
    "Split",
    "Targets",
    "build_interactions",
    "check_no_leak",
    "leave_one_out",
    "load_interactions",
    "load_movielens_latest_small",
    "select_samples",
    "to_timestamp",
]
