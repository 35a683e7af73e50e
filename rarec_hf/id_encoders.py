"""The ID encoders there are; a new one is one file and one line here."""

from __future__ import annotations

from transformers import PreTrainedConfig, PreTrainedModel

from .ids import shown
from .modeling_bert4rec import BERT4RecConfig, BERT4RecModel
from .modeling_comirec import ComiRecConfig, ComiRecModel
from .modeling_gru4rec import GRU4RecConfig, GRU4RecModel
from .modeling_item_vectors import ItemVectorsConfig, ItemVectorsModel
from .modeling_sasrec import SASRecConfig, SASRecModel
from .modeling_text_sasrec import TextSASRecConfig, TextSASRecModel

ID_ENCODERS: dict[str, type[PreTrainedModel]] = {
    config.model_type: model
    for config, model in (
        (SASRecConfig, SASRecModel),
        (TextSASRecConfig, TextSASRecModel),
        (ComiRecConfig, ComiRecModel),
        (GRU4RecConfig, GRU4RecModel),
        (BERT4RecConfig, BERT4RecModel),
        (ItemVectorsConfig, ItemVectorsModel),
    )
}


def id_encoder_config(fields: dict) -> PreTrainedConfig:
    """The config that `fields`, with their `model_type`, describe."""
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or model_type not in ID_ENCODERS:
        raise ValueError(
            f"`id_encoder_config`: Unknown ID encoder type {shown(model_type)}; known are {sorted(ID_ENCODERS)}."
        )
    return ID_ENCODERS[model_type].config_class(**fields)


__all__ = ["ID_ENCODERS", "id_encoder_config"]
