"""RA-Rec for Hugging Face Transformers: pre-trained ID embeddings as per-layer soft prompts of a frozen LLM (arXiv
2402.04527)."""

from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .backbone_source import load_backbone, load_tokenizer, resolve_backbone
from .configuration_rarec import RARecConfig
from .hub.pipeline import TASK, SequentialRecommendationPipeline
from .id_encoders import ID_ENCODERS
from .modeling_bert4rec import BERT4RecConfig, BERT4RecModel
from .modeling_comirec import ComiRecConfig, ComiRecModel
from .modeling_gru4rec import GRU4RecConfig, GRU4RecModel
from .modeling_item_vectors import ItemVectorsConfig, ItemVectorsModel
from .modeling_rarec import RARecForSequentialRecommendation, RARecOutput
from .modeling_sasrec import SASRecConfig, SASRecModel
from .modeling_text_sasrec import TextSASRecConfig, TextSASRecModel
from .processing_rarec import RARecProcessor
from .prompts import PromptTemplates
from .recommendation import Recommendation, recommendations_to_frame

__version__ = "0.1.0"


def _write_card(folder, repo_id, model):
    from .hub import write_model_card  # with the evaluation and its charts, which nothing else here needs

    return write_model_card(folder, repo_id=repo_id, model=model)


RARecForSequentialRecommendation.card_writer = staticmethod(_write_card)

AutoConfig.register(RARecConfig.model_type, RARecConfig)
AutoModel.register(RARecConfig, RARecForSequentialRecommendation)
AutoProcessor.register(RARecConfig, RARecProcessor)
PIPELINE_REGISTRY.register_pipeline(TASK, SequentialRecommendationPipeline, pt_model=AutoModel, type="text")
for _encoder in ID_ENCODERS.values():
    AutoConfig.register(_encoder.config_class.model_type, _encoder.config_class)
    AutoModel.register(_encoder.config_class, _encoder)

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
