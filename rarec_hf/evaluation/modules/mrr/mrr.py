"""MRR as an `evaluate` module."""

import evaluate

from rarec_hf.evaluation.ranking_metric import RankingMetric


class Mrr(RankingMetric, evaluate.Metric):
    """MRR: the reciprocal place of a user's best target, 0 beyond the first k where a k is given."""

    family = "mrr"
    description_text = __doc__
