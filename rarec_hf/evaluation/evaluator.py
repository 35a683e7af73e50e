"""Rank every user's targets with any scorer, one batch of users at a time; compare two scorers over the same users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from ..histories import whole_number
from ..processes import collected, dealt, speaks
from .metrics import metric_per_user
from .ranks import Ranks, flatten_histories, ranks_from_scores, refuse_outside, refuse_rows
from .ranks_by_rows import rank_by_rows

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

    from ..row_scoring import RowScorer

# Histories (item indices, oldest first) in, scores of shape (n, n_items) out; higher is better. A scorer with an
# attribute `takes_users` that is true is called as `scorer(histories, users)`.
Scorer = Callable[..., "np.ndarray | torch.Tensor"]

CHECKED_AT_ONCE = 4096  # rows that are read and checked together


def rank_targets(
    scorer: Scorer | RowScorer,
    histories: Sequence[np.ndarray],
    targets: Sequence[int] | np.ndarray,
    n_items: int,
    *,
    users: np.ndarray | None = None,
    batch_size: int = 256,
    exclude_seen: bool = True,
    progress: bool = True,
    description: str = "Ranking",
    process: PartialState | None = None,
) -> Ranks:
    """
    Rank each target over the full catalogue. Scores exist for one batch of histories at a time only.

    Args:
        scorer (`Scorer`): Called with up to `batch_size` histories, and with their `users` too if it has a true
            attribute `takes_users`. Returns an array or a tensor on any device, where the ranks are then counted. Or a
            [`RowScorer`], as `model.scorer()` gives it where item representations are spread over processes.
        histories (`Sequence[np.ndarray]`): Item indices, oldest first. Only `len(histories)` and `histories[row]` are
            used, so rows may be built when asked for. Each row is read twice: all rows are checked before the first
            call of `scorer`, so that a mistake in the last row does not cost the whole evaluation.
        targets (`Sequence[int]`): Item index of each row's target, one per history.
        n_items (`int`): Size of the catalogue.
        users (`np.ndarray` of shape `(n,)`, *optional*): The user index of each row, kept in the ranks. Rows of one
            user that follow one another with the same history, several targets, are scored once.
        batch_size (`int`, *optional*, defaults to 256): Histories scored at once.
        exclude_seen (`bool`, *optional*, defaults to `True`): Take the items of a user's history out of the ranking.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar labelled `description`.
        process (`PartialState`, *optional*): Each process of `accelerate launch` scores its share of the batches; all
            of them must call this with the same rows, and all get the same ranks. Ranks travel, scores never do.

    Raises:
        ValueError: Nothing to rank, lengths differ, an index is outside the catalogue, a target is in its own history
            while seen items are excluded, `scorer` takes users and none are given, or `scorer` returns something other
            than `(n, n_items)` valid scores.
    """
    targets = np.asarray(targets)
    n = len(histories) if hasattr(histories, "__len__") else 0
    if n == 0 or targets.shape != (n,):
        raise ValueError(f"Expected at least one history and one target for each, got {n} and {targets.shape}.")
    n_items, batch_size = whole_number(n_items, "n_items"), whole_number(batch_size, "batch_size")
    users = None if users is None else np.asarray(users)
    if users is not None and users.shape != (n,):
        raise ValueError(f"`users` must name the user of each row, expected shape ({n},), got {users.shape}.")
    takes_users = bool(getattr(scorer, "takes_users", False))
    if takes_users and users is None:
        raise ValueError(f"The scorer {type(scorer).__name__} scores users it knows; give `users`, one per history.")

    starts = _check_rows(histories, targets, users, n_items, exclude_seen)  # first row of each distinct history
    if getattr(scorer, "rounds", None) is not None:
        spread: Any = scorer
        options = {"progress": progress, "description": description, "exclude_seen": exclude_seen}
        return rank_by_rows(
            spread, histories, targets, starts, users=users, batch_size=batch_size, process=process, **options
        )
    ends = np.append(starts[1:], n)
    whole: Any = scorer
    parts, mine = [], dealt(range(0, len(starts), batch_size), process)
    n_mine = sum(int(ends[min(start + batch_size, len(ends)) - 1] - starts[start]) for start in mine)
    shown = progress and speaks(process)
    with tqdm(total=n_mine, desc=description, unit="target", disable=not shown) as bar:
        for start in mine:
            first, last = starts[start : start + batch_size], ends[start : start + batch_size]
            seen = [np.asarray(histories[row]) for row in first]
            scores = whole(seen, users[first]) if takes_users else whole(seen)
            if tuple(np.shape(scores)) != (len(seen), n_items):
                raise ValueError(
                    f"The scorer must return shape (histories, n_items), expected {(len(seen), n_items)}, "
                    f"got {tuple(np.shape(scores))}."
                )
            score_rows = np.repeat(np.arange(len(seen)), last - first)
            rows = slice(first[0], last[-1])
            parts.append(
                ranks_from_scores(
                    scores,
                    targets[rows],
                    [seen[row] if exclude_seen else () for row in score_rows],
                    score_rows=None if len(score_rows) == len(seen) else score_rows,
                    users=None if users is None else users[rows],
                    first_row=first[0],
                )
            )
            del scores  # else two batches exist while the next one is scored
            bar.update(len(score_rows))
    return Ranks.concatenate(collected(parts, process))


def _check_rows(
    histories: Sequence[np.ndarray], targets: np.ndarray, users: np.ndarray | None, n_items: int, exclude_seen: bool
) -> np.ndarray:
    """Refuses rows that cannot be ranked; returns the first row of each run of one user's equal histories."""
    starts, previous = [], None
    for start in range(0, len(targets), CHECKED_AT_ONCE):
        chosen = targets[start : start + CHECKED_AT_ONCE]
        some = [np.asarray(histories[row]) for row in range(start, start + len(chosen))]
        if chosen.dtype.kind not in "iu":
            raise ValueError(f"`targets` must be integer item indices, got dtype {chosen.dtype}.")
        refuse_outside(chosen, n_items, start)
        rows, items = flatten_histories(some, n_items, first_row=start)
        if exclude_seen:
            repeated = np.bincount(rows, weights=items == chosen[rows], minlength=len(chosen)) > 0
            reason = "the target is in its own history. Drop repeated interactions, or pass `exclude_seen=False`"
            refuse_rows(repeated, reason, start)
        for row, history in enumerate(some, start):
            same_user = users is not None and row > 0 and users[row] == users[row - 1]
            if not (same_user and np.array_equal(history, previous)):
                starts.append(row)
            previous = history
    return np.array(starts)


@dataclass(frozen=True)
class Difference:
    """
    How much better one scorer is than another over the same users.

    Args:
        mean (`float`): Mean of the per-user differences, in units of the metric.
        low (`float`), high (`float`): Ends of the confidence interval of `mean`.
        relative (`float`): `mean` as a share of the other scorer's mean; NaN where that is 0.
    """

    mean: float
    low: float
    high: float
    relative: float


def paired_difference(
    ranks_a: Ranks,
    ranks_b: Ranks,
    metric: str = "ndcg@10",
    confidence: float = 0.95,
    method: str = "bootstrap",
    n_resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """
    The mean of `metric` of a less that of b, with an interval from the per-user differences.

    Args:
        ranks_a (`Ranks`), ranks_b (`Ranks`): Ranks of the same users' targets, in the same order.
        metric (`str`, *optional*, defaults to `"ndcg@10"`): Any name that `metric_per_user` knows.
        confidence (`float`, *optional*, defaults to 0.95): Between 0 and 1.
        method (`str`, *optional*, defaults to `"bootstrap"`): `"bootstrap"` (percentiles of the means of resampled
            users) or `"normal"` (mean plus and minus the normal quantile times the standard error).
        n_resamples (`int`, *optional*, defaults to 2000): Resamples of the bootstrap.
        seed (`int`, *optional*, defaults to 0): Seed of the bootstrap.

    Raises:
        ValueError: Fewer than two users, or ranks that cannot belong to the same users and rule.
    """
    if len(ranks_a) != len(ranks_b) or ranks_a.n_users < 2:
        raise ValueError(
            f"Paired ranks need the same users, at least 2 of them, got {len(ranks_a)} and {len(ranks_b)} rows."
        )
    if not np.array_equal(ranks_a.user_of_row(), ranks_b.user_of_row()):
        raise ValueError(
            f"The rows belong to {ranks_a.n_users} users in one and {ranks_b.n_users} in the other, or in another "
            "order; rank both with the same `users`."
        )
    if not np.array_equal(ranks_a.candidates, ranks_b.candidates):
        row = int(np.argmax(ranks_a.candidates != ranks_b.candidates))
        raise ValueError(
            f"Row {row} was ranked among {ranks_a.candidates[row]} candidates in one and {ranks_b.candidates[row]} in "
            "the other; rank both with the same users, order, catalogue and seen filter."
        )
    if not 0 < confidence < 1 or n_resamples < 1:
        raise ValueError(f"Expected 0 < confidence < 1 and n_resamples >= 1, got {confidence} and {n_resamples}.")
    base = metric_per_user(ranks_b, metric)
    differences = metric_per_user(ranks_a, metric) - base  # (n,)
    mean, tail = float(differences.mean()), (1 - confidence) / 2
    if method == "bootstrap":
        low, high = np.quantile(_resampled_means(differences, n_resamples, seed), [tail, 1 - tail])
    elif method == "normal":
        half = NormalDist().inv_cdf(1 - tail) * differences.std(ddof=1) / np.sqrt(len(differences))
        low, high = mean - half, mean + half
    else:
        raise ValueError(f"Unknown method {method!r}; expected 'bootstrap' or 'normal'.")
    base_mean = float(base.mean())
    return Difference(mean, float(low), float(high), mean / base_mean if base_mean else float("nan"))


def _resampled_means(values: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    # Drawing n users with replacement and averaging is drawing how often each distinct value occurs: the same
    # distribution, and metrics cut at k take few distinct values, so it is hundreds of times less work.
    distinct, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    at_once = max(1, 1_000_000 // len(distinct))  # bounds the memory of one draw
    means = []
    for start in range(0, n_resamples, at_once):
        draws = rng.multinomial(len(values), counts / len(values), size=min(at_once, n_resamples - start))
        means.append(draws @ distinct / len(values))
    return np.concatenate(means)


__all__ = ["Difference", "Scorer", "paired_difference", "rank_targets"]
