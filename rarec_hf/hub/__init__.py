"""What others meet a model through: the pipeline, and the page that shows it."""

from .pipeline import SequentialRecommendationPipeline

__all__ = ["SequentialRecommendationPipeline"]
