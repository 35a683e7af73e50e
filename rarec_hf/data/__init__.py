"""Interactions in, splits and samples out."""

from __future__ import annotations

from .by_users import by_users
from .global_time import global_time
from .id_maps import IdMaps, load_id_maps
from .interactions import Interactions, ItemTable, build_interactions, load_interactions, to_timestamp
from .leave_one_out import leave_one_out
from .movielens import load_movielens_latest_small
from .report import DataReport
from .selection import select_samples
from .split_rules import SPLITS, split_interactions
from .splits import Split, Targets, check_no_leak
from .vector_files import VectorFile, read_vectors, save_vectors

__all__ = [
    "SPLITS",
    "DataReport",
    "IdMaps",
    "Interactions",
    "ItemTable",
    "Split",
    "Targets",
    "VectorFile",
    "build_interactions",
    "by_users",
    "check_no_leak",
    "global_time",
    "leave_one_out",
    "load_id_maps",
    "load_interactions",
    "load_movielens_latest_small",
    "read_vectors",
    "save_vectors",
    "select_samples",
    "split_interactions",
    "to_timestamp",
]
