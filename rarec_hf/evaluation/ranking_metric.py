"""What the `evaluate` modules share: ranked lists or scores and references in, the package's own metrics out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from transformers.utils import logging

from .metrics import metric_per_user
from .ranks import Ranks, ranks_from_scores

logger = logging.get_logger(__name__)

LISTS, SCORES = ("default", "lists"), "scores"  # names of configurations

_INPUTS = """
Args:
    predictions (`list`): of each user the recommended item ids, best first, each id once. Under the configuration
        `"scores"` instead a score of every item of the catalogue, `(n_users, n_items)`; higher is better, `-inf` takes
        an item out, such as those of the history.
    references (`list`): of each user the target's id, or a list of them where there are several. Under `"scores"` item
        indices. Ids are compared as text: 5 and "5" are one.
"""
_CUTOFF = """    k (`int` or `list[int]`, *optional*, defaults to 10): how many recommendations count.
"""
_ANY_CUTOFF = """    k (`int` or `list[int]`, *optional*): how many recommendations count; all of them by default.
"""


class RankingMetric:
    """
    Mixed into `evaluate.Metric` by the modules. Values are those of [`metric_per_user`], averaged over users: a target
    that shares its score with other items counts by the mean over its possible places. A list has no ties, and a
    target that does not stand in it counts as not found at any k.

    Attributes:
        family (`str`): `"hit_rate"`, `"recall"`, `"ndcg"` or `"mrr"`.
        description_text (`str`): what it measures.
    """

    family: str
    description_text: str

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in (*LISTS, SCORES):
            raise ValueError(
                f"Unknown configuration {self.config_name!r} of {self.family}; expected 'lists' (ranked item ids, the "
                "default) or 'scores' (a score of every item)."
            )
        item, target = ("float64", "int64") if self.config_name == SCORES else ("string", "string")
        cutoff = _ANY_CUTOFF if self.family == "mrr" else _CUTOFF
        return evaluate.MetricInfo(
            description=self.description_text,
            citation="",
            inputs_description=_INPUTS + cutoff + f'\nReturns:\n    `dict`: `"{self.family}@k"` for each k.\n',
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value(item)),
                    "references": datasets.Sequence(datasets.Value(target)),
                }
            ),
        )

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Adds one user."""
        # `evaluate.combine` gives them by the other names
        prediction, reference = kwargs.pop("predictions", prediction), kwargs.pop("references", reference)
        if prediction is None or reference is None:
            raise ValueError(f"{self.family} needs both `prediction` and `reference` of a user.")
        self.add_batch(predictions=[prediction], references=[reference], **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Adds some users; what is wrong with one is said at once, with its place in the batch."""
        if predictions is None or references is None:
            raise ValueError(f"{self.family} needs both `predictions` and `references`.")
        predictions, references = _rows(predictions), [_as_list(targets) for targets in _rows(references)]
        if len(predictions) != len(references):
            raise ValueError(
                f"Expected the references of every user, got {len(predictions)} predictions and {len(references)} "
                "references."
            )
        if self.config_name == SCORES:
            predictions = _score_rows(predictions)
            references = [[_index(target, row) for target in some] for row, some in enumerate(references)]
        else:
            predictions = [[_id(item, row) for item in _flat(ids, row)] for row, ids in enumerate(predictions)]
            references = [[_id(target, row) for target in some] for row, some in enumerate(references)]
            _refuse_repeats(predictions, "predictions", "a ranked list holds an item once")
        _refuse_repeats(references, "references", "give each target once")
        if empty := [row for row, targets in enumerate(references) if not targets]:
            raise ValueError(f"references: user {empty[0]} of the batch has no target. Leave out users without one.")
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, predictions: Any, references: Any, k: int | Sequence[int] | None = None) -> dict[str, float]:
        ks = _cutoffs(k, self.family)
        if not len(predictions):
            raise ValueError("No user was given, so there is nothing to average; give at least one.")
        if self.config_name == SCORES:
            ranks = ranks_of_scores(predictions, references)
            whole = self.family
        else:
            longest = max(map(len, predictions))
            if ks and longest < max(ks):
                logger.warning("The longest list holds %d items, fewer than k=%d.", longest, max(ks))
            depth = max(1, longest, *ks)
            ranks = ranks_of_lists(predictions, references, depth)
            whole = f"{self.family}@{depth}"  # what is in no list stands beyond it
        if not ks:
            return {self.family: float(metric_per_user(ranks, whole).mean())}
        return {f"{self.family}@{k}": float(metric_per_user(ranks, f"{self.family}@{k}").mean()) for k in ks}


def ranks_of_lists(predictions: Sequence[Sequence], references: Sequence[Sequence], depth: int) -> Ranks:
    """
    Where targets stand in ranked lists of distinct items; those in no list stand beyond place `depth`, which must be
    at least the length of the longest.
    """
    greater, users, missing = [], [], 0
    for user, (ranked, targets) in enumerate(zip(predictions, references, strict=True)):
        place_of = {item: place for place, item in enumerate(ranked)}
        beyond = depth
        for target in targets:
            place = place_of.get(target)
            if place is None:  # each at a place of its own: two items never share one
                place, beyond = beyond, beyond + 1
            greater.append(place)
            users.append(user)
        missing = max(missing, beyond - depth)
    n = len(greater)
    return Ranks(np.array(greater), np.zeros(n, dtype=int), np.full(n, depth + missing + 1), np.array(users))


def ranks_of_scores(scores: Sequence[Sequence[float]], references: Sequence[Sequence[int]]) -> Ranks:
    """Ranks of each user's targets (item indices) by scores `(n_users, n_items)`."""
    if len({len(row) for row in scores}) != 1:
        shortest, longest = min(map(len, scores)), max(map(len, scores))
        raise ValueError(f"Expected a score of every item for each user, got rows of {shortest} to {longest} scores.")
    users = np.repeat(np.arange(len(references)), [len(targets) for targets in references])
    targets = np.concatenate([np.asarray(targets, dtype=np.int64) for targets in references])
    return ranks_from_scores(
        np.asarray(scores, dtype=np.float64), targets, [()] * len(targets), score_rows=users, users=users
    )


def _cutoffs(k: int | Iterable[int] | None, family: str) -> list[int]:
    """The cut-offs asked for; none only for MRR, which may count the whole ranking."""
    if k is None:
        return [] if family == "mrr" else [10]
    ks = [k] if isinstance(k, (int, np.integer)) else list(k)
    wrong = [k for k in ks if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1]
    if wrong or not ks:
        raise ValueError(f"`k` must be a whole number from 1 on, or a list of them, got {k!r}.")
    return [int(k) for k in ks]


def _rows(column: Any) -> list:
    """One entry a user of a list, an array, a tensor or a column of a table."""
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _as_list(value: Any) -> list:
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _flat(value: Any, row: int) -> list:
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"predictions: user {row} of the batch: expected a list of item ids, got {value!r:.80}.")
    return list(value)


def _id(value: Any, row: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return str(int(value))
    scored = isinstance(value, (float, np.floating))
    hint = " Scores of every item are taken by the configuration 'scores'." if scored else ""
    raise ValueError(f"User {row} of the batch: item ids must be text or whole numbers, got {value!r:.80}.{hint}")


def _index(value: Any, row: int) -> int:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise ValueError(f"references: user {row} of the batch: expected item indices beside scores, got {value!r:.80}.")


def _score_rows(predictions: list) -> list[list[float]]:
    rows = [np.asarray(scores.tolist() if hasattr(scores, "tolist") else scores) for scores in predictions]
    for row, scores in enumerate(rows):
        if scores.ndim != 1 or scores.dtype.kind not in "fiu":
            raise ValueError(
                f"predictions: user {row} of the batch: expected one score for every item, got shape {scores.shape}, "
                f"dtype {scores.dtype}."
            )
    return [scores.tolist() for scores in rows]


def _refuse_repeats(rows: list[list], name: str, reason: str) -> None:
    for row, items in enumerate(rows):
        if len(set(items)) != len(items):
            repeated = next(item for place, item in enumerate(items) if item in items[:place])
            raise ValueError(f"{name}: user {row} of the batch has {repeated!r} twice; {reason}.")


__all__ = ["RankingMetric", "ranks_of_lists", "ranks_of_scores"]
