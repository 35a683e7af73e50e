"""What the mixins of `RARecForSequentialRecommendation` find on the model they belong to; for type checkers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from .backbone_pass import BackboneSpec
    from .id_encoder import IDEncoderModel
    from .reading import Reading
    from .spread_catalogue import Catalogue
    from .text_pass import TextStates

    class ModelParts(PreTrainedModel):
        config: Any  # a `RARecConfig` whose two inner configs are no longer dicts
        language_model: PreTrainedModel
        id_encoder: IDEncoderModel
        score_head: Any  # one of `SCORES`
        soft_prompts: nn.ModuleDict
        id_scale: Tensor
        spec: BackboneSpec
        processor: Any  # a `RARecProcessor`, or None
        _catalogue: Any  # a `Catalogue`, or None

        @property
        def backbone(self) -> nn.Module: ...

        def get_input_embeddings(self) -> nn.Embedding: ...

        def read(self, side: str, *args: Any, **kwargs: Any) -> Reading: ...

        def text_means_of(self, ids: Tensor, mask: Tensor, with_values: bool) -> TextStates: ...

        def combine(self, users: Tensor, items: Tensor, user_vectors: Tensor, item_vectors: Tensor) -> Tensor: ...

        def catalogue_of(self, items: Tensor, keys: Tensor | None = None) -> Catalogue: ...

        def own_weights(self) -> dict[str, Tensor]: ...

else:
    ModelParts = object

__all__ = ["ModelParts"]
