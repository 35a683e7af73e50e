"""Full-catalogue evaluation: exact ranks, metrics that treat ties fairly, baselines and the report."""

from __future__ import annotations

from .alignment_map import plot_alignment
from .baselines import ItemKNN, Popularity, TitleTfidf
from .beyond_accuracy import TopItemsRecorder, coverage, popularity_bias
from .blend import Blend
from .breakdown import break_down, groupings_of
from .charts import plot_learning_curve, plot_metrics
from .ease import EASE
from .evaluator import Difference, Scorer, paired_difference, rank_targets
from .metrics import metric_per_user, metrics_per_user, summarize
from .modules import load_metric
from .ranks import Ranks, ranks_from_scores
from .report import EvaluationReport, Row
from .verdict import verdict
from .word_vectors import word_vectors

__all__ = [
    "EASE",
    "Blend",
    "Difference",
    "EvaluationReport",
    "ItemKNN",
    "Popularity",
    "Ranks",
    "Row",
    "Scorer",
    "TitleTfidf",
    "TopItemsRecorder",
    "break_down",
    "coverage",
    "groupings_of",
    "load_metric",
    "metric_per_user",
    "metrics_per_user",
    "paired_difference",
    "plot_alignment",
    "plot_learning_curve",
    "plot_metrics",
    "popularity_bias",
    "rank_targets",
    "ranks_from_scores",
    "summarize",
    "verdict",
    "word_vectors",
]
