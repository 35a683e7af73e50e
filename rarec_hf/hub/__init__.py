"""What others meet a model through: its card."""

from .card_callback import ModelCardCallback
from .model_card import make_model_card, write_model_card

__all__ = ["ModelCardCallback", "make_model_card", "write_model_card"]
