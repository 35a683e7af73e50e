"""RA-Rec for Hugging Face Transformers: pre-trained ID embeddings as per-layer soft prompts of a frozen LLM (arXiv
2402.04527)."""

from transformers import AutoConfig, AutoModel

from .backbone_source import load_backbone, load_tokenizer, resolve_backbone
from .configuration_rarec import RARecConfig
from .modeling_rarec import RARecForSequentialRecommendation, RARecOutput
from .modeling_sasrec import SASRecConfig, SASRecModel
from .processing_rarec import RARecProcessor
from .prompts import PromptTemplates
from .recommendation import Recommendation

__version__ = "0.1.0"

AutoConfig.register(RARecConfig.model_type, RARecConfig)
AutoConfig.register(SASRecConfig.model_type, SASRecConfig)
AutoModel.register(RARecConfig, RARecForSequentialRecommendation)
AutoModel.register(SASRecConfig, SASRecModel)

__all__ = [
    "PromptTemplates",
    "RARecConfig",
    "RARecForSequentialRecommendation",
    "RARecOutput",
    "RARecProcessor",
    "Recommendation",
    "SASRecConfig",
    "SASRecModel",
    "load_backbone",
    "load_tokenizer",
    "resolve_backbone",
]
