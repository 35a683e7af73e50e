"""What others meet a model through: the pipeline."""

from .pipeline import SequentialRecommendationPipeline

__all__ = ["SequentialRecommendationPipeline"]
