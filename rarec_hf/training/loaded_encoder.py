"""An ID encoder brought along instead of trained: loaded and checked."""

from __future__ import annotations

from transformers import AutoModel

from ..data.splits import Split
from ..id_encoder import IDEncoderModel, catalogue_digest
from ..id_encoders import ID_ENCODERS


def load_id_encoder(path: str, split: Split, trust: bool = False) -> IDEncoderModel:
    """
    Loads an encoder and refuses one that is of another catalogue or has seen the alignment's targets.

    Args:
        trust (`bool`): take an encoder that does not say what it was trained on; its user vectors may then be far
            better on the alignment samples than in use, and the alignment learns to copy them.

    Raises:
        ValueError: another catalogue, or training data other than this split's encoder users.
    """
    encoder = AutoModel.from_pretrained(path)
    if not isinstance(encoder, IDEncoderModel):
        raise ValueError(
            f"{path} holds a {type(encoder).__name__}, not an ID encoder. Known types are {sorted(ID_ENCODERS)}; "
            "vectors of another recommender become one by `ItemVectorsModel.from_vectors(...)`."
        )
    config, expected = encoder.config, catalogue_digest(split.interactions.items.item_ids)
    if config.n_items != split.interactions.n_items or (config.catalogue or expected) != expected:
        raise ValueError(
            f"The ID encoder at {path} is of another catalogue ({config.n_items} items) than the interactions "
            f"({split.interactions.n_items} items, in another order or with other ids). Train it on these "
            "interactions."
        )
    if config.training_data != split.seen_by_encoder_digest() and not trust:
        said = (
            "does not say what it was trained on"
            if config.training_data is None
            else "was trained on other interactions"
        )
        raise ValueError(
            f"The ID encoder at {path} {said} than this split's encoder users, so it may have seen the targets that "
            "the alignment learns from. Use the same data, seed and alignment fraction as in its training, train a "
            "new one, or pass --trust_id_encoder if you know that it has not."
        )
    return encoder.eval()


__all__ = ["load_id_encoder"]
