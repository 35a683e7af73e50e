"""Recall as an `evaluate` module."""

import evaluate

from rarec_hf.evaluation.ranking_metric import RankingMetric


class Recall(RankingMetric, evaluate.Metric):
    """Recall: the share of a user's targets among the first k."""

    family = "recall"
    description_text = __doc__
