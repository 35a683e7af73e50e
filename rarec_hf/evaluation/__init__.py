"""Full-catalogue evaluation: exact ranks, metrics that treat ties fairly, baselines and the report."""

from __future__ import annotations

from .baselines import ItemKNN, Popularity, TitleTfidf
from .charts import plot_learning_curve, plot_metrics
from .ease import EASE
from .evaluator import Difference, Scorer, paired_difference, rank_targets
from .metrics import metric_per_user, metrics_per_user, summarize
from .ranks import Ranks, ranks_from_scores
from .report import EvaluationReport, Row

__all__ = [
    "EASE",
    "Difference",
    "EvaluationReport",
    "ItemKNN",
    "Popularity",
    "Ranks",
    "Row",
    "Scorer",
    "TitleTfidf",
    "metric_per_user",
    "metrics_per_user",
    "paired_difference",
    "plot_learning_curve",
    "plot_metrics",
    "rank_targets",
    "ranks_from_scores",
    "summarize",
]
