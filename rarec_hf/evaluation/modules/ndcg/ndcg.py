"""NDCG as an `evaluate` module."""

import evaluate

from rarec_hf.evaluation.ranking_metric import RankingMetric


class Ndcg(RankingMetric, evaluate.Metric):
    """
    NDCG: the summed discounts `1 / log2(place + 1)` of a user's targets among the first k, over those of the best
    order of them.
    """

    family = "ndcg"
    description_text = __doc__
