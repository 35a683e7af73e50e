"""What others meet a model through: the pipeline, its card, and the page that shows it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .pipeline import SequentialRecommendationPipeline

if TYPE_CHECKING:
    from .card_callback import ModelCardCallback
    from .model_card import make_model_card, write_model_card

# Cards need the evaluation with its charts, which `import rarec_hf` does without
_CARDS = {"ModelCardCallback": "card_callback", "make_model_card": "model_card", "write_model_card": "model_card"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _CARDS:
            return getattr(import_module(f".{_CARDS[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["ModelCardCallback", "SequentialRecommendationPipeline", "make_model_card", "write_model_card"]
