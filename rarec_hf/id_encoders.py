"""The ID encoders there are; a new one is one file, its config and one line here and in the package's `__init__`."""

from __future__ import annotations

from .id_encoder import IDEncoderModel
from .modeling_bert4rec import BERT4RecModel
from .modeling_comirec import ComiRecModel
from .modeling_gru4rec import GRU4RecModel
from .modeling_item_vectors import ItemVectorsModel
from .modeling_sasrec import SASRecModel
from .modeling_text_sasrec import TextSASRecModel

ID_ENCODERS: dict[str, type[IDEncoderModel]] = {
    model.config_class.model_type: model
    for model in (SASRecModel, TextSASRecModel, ComiRecModel, GRU4RecModel, BERT4RecModel, ItemVectorsModel)
}

__all__ = ["ID_ENCODERS"]
