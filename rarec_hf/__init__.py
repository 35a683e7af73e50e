"""RA-Rec for Hugging Face Transformers: pre-trained ID embeddings as per-layer soft prompts of a frozen LLM (arXiv
2402.04527)."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .configuration_id_encoders import (
    BERT4RecConfig,
    ComiRecConfig,
    GRU4RecConfig,
    ItemVectorsConfig,
    SASRecConfig,
    TextSASRecConfig,
)
from .configuration_rarec import RARecConfig
from .registration import register

if TYPE_CHECKING:
    from .backbone_source import load_backbone, load_tokenizer, resolve_backbone
    from .hub.pipeline import SequentialRecommendationPipeline
    from .modeling_bert4rec import BERT4RecModel
    from .modeling_comirec import ComiRecModel
    from .modeling_gru4rec import GRU4RecModel
    from .modeling_item_vectors import ItemVectorsModel
    from .modeling_rarec import RARecForSequentialRecommendation, RARecOutput
    from .modeling_sasrec import SASRecModel
    from .modeling_text_sasrec import TextSASRecModel
    from .processing_rarec import RARecProcessor
    from .prompts import PromptTemplates
    from .recommendation import Recommendation, recommendations_to_frame

__version__ = "0.1.0"

# The names above that are imported when first asked for: with Transformers' models they take seconds
_MODULES = {
    "BERT4RecModel": "modeling_bert4rec",
    "ComiRecModel": "modeling_comirec",
    "GRU4RecModel": "modeling_gru4rec",
    "ItemVectorsModel": "modeling_item_vectors",
    "PromptTemplates": "prompts",
    "RARecForSequentialRecommendation": "modeling_rarec",
    "RARecOutput": "modeling_rarec",
    "RARecProcessor": "processing_rarec",
    "Recommendation": "recommendation",
    "SASRecModel": "modeling_sasrec",
    "SequentialRecommendationPipeline": "hub.pipeline",
    "TextSASRecModel": "modeling_text_sasrec",
    "load_backbone": "backbone_source",
    "load_tokenizer": "backbone_source",
    "recommendations_to_frame": "recommendation",
    "resolve_backbone": "backbone_source",
}

if not TYPE_CHECKING:  # which would take it for a promise that any name is there

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
            return value
        if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register()

__all__ = [
    "BERT4RecConfig",
    "BERT4RecModel",
    "ComiRecConfig",
    "ComiRecModel",
    "GRU4RecConfig",
    "GRU4RecModel",
    "ItemVectorsConfig",
    "ItemVectorsModel",
    "PromptTemplates",
    "RARecConfig",
    "RARecForSequentialRecommendation",
    "RARecOutput",
    "RARecProcessor",
    "Recommendation",
    "SASRecConfig",
    "SASRecModel",
    "SequentialRecommendationPipeline",
    "TextSASRecConfig",
    "TextSASRecModel",
    "load_backbone",
    "load_tokenizer",
    "recommendations_to_frame",
    "resolve_backbone",
]
