"""Hit rate as an `evaluate` module."""

import evaluate

from rarec_hf.evaluation.ranking_metric import RankingMetric


class HitRate(RankingMetric, evaluate.Metric):
    """Hit rate: whether any of a user's targets is among the first k."""

    family = "hit_rate"
    description_text = __doc__
