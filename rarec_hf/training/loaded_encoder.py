"""An ID encoder brought along instead of trained: a folder or a file of vectors, loaded and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import AutoModel
from transformers.utils import logging

from ..data.splits import Split
from ..data.vector_files import UNPICKLED, VECTOR_FORMATS, read_vectors
from ..id_encoder import IDEncoderModel, catalogue_digest
from ..id_encoders import ID_ENCODERS
from ..modeling_item_vectors import ItemVectorsModel
from ..whole_files import reading

logger = logging.get_logger(__name__)


def load_id_encoder(
    path: str,
    split: Split,
    trust: bool = False,
    *,
    user_vectors: str | None = None,
    trust_user_vectors: bool = False,
    similarity: str | None = None,
    missing: str = "error",
    max_history: int = 50,
    held_out: np.ndarray | None = None,
) -> IDEncoderModel:
    """
    Loads an encoder and refuses one that is of another catalogue or has seen the alignment's targets.

    User vectors are put into the order of the split's users. Those of users whom the ID encoder may not learn from (of
    the alignment, or measured only) are held back: their vectors know the targets, the mean of a history does not.

    Args:
        path (`str`): folder or Hub id of an encoder, or a file that `rarec_hf.data.read_vectors` reads.
        trust (`bool`): take an encoder that does not say what it was trained on; its user vectors may then be far
            better on the alignment samples than in use, and the alignment learns to copy them.
        user_vectors (`str`, *optional*): a second file, of user vectors.
        trust_user_vectors (`bool`): keep the vectors that would be held back. Alignment samples never use them.
        similarity (`str`, *optional*), missing (`str`), max_history (`int`): of the vectors in a file; see
            [`ItemVectorsModel`].
        held_out (`np.ndarray`, *optional*): users whose validation targets gains are fitted on: an encoder that was
            trained a last time on the validation targets of all others is taken too.

    Raises:
        ValueError: another catalogue, training data other than this split's encoder users, or vectors that cannot be
            used.
        FileNotFoundError: no such file of vectors.
    """
    if Path(path).is_file() or Path(path).suffix.lower() in {*VECTOR_FORMATS, *UNPICKLED}:
        read = read_vectors(path, user_vectors)
        encoder = ItemVectorsModel.from_vectors(
            read.item_ids,
            read.item_vectors,
            split.interactions.items.item_ids,
            user_ids=read.user_ids,
            user_vectors=read.user_vectors,
            missing=missing,
            similarity=similarity or "dot",
            max_history=max_history,
        )
    else:
        if user_vectors is not None or similarity is not None:
            raise ValueError(
                f"--user_vectors and --vector_similarity belong to a file of item vectors, and {path} is none. An "
                "encoder's folder holds both already."
            )
        with reading(f"A file of the ID encoder in {path}"):
            encoder = AutoModel.from_pretrained(path)
    _check(encoder, path, split, trust, held_out)
    if encoder.takes_users:
        _arrange_users(encoder, split, trust_user_vectors)
    return encoder.eval()


def _check(encoder: IDEncoderModel, path: str, split: Split, trust: bool, held_out: np.ndarray | None) -> None:
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
    fit = {split.seen_by_encoder_digest()}
    if held_out is not None:
        fit.add(split.seen_by_encoder_digest(split.refit_sequences(split.encoder_users, held_out)))
    if config.training_data not in fit and not trust:
        said = (
            "does not say what it was trained on"
            if config.training_data is None
            else "was trained on other interactions than this split's encoder users"
        )
        raise ValueError(
            f"The ID encoder at {path} {said}, so it may have seen the targets that the alignment "
            "learns from. Use the same data, seed and alignment fraction as in its training, train a "
            "new one, or pass --trust_id_encoder if you know that it has not."
        )


def _arrange_users(encoder: ItemVectorsModel, split: Split, trust: bool) -> None:
    others = np.setdiff1d(np.arange(split.interactions.n_users), split.encoder_users)
    counts = encoder.arrange_users(split.interactions.user_ids, without=() if trust else others)
    logger.warning(
        "User vectors: %(users_with_vector)d of %(users)d users have one, the others are the mean of their history. "
        "%(user_vectors_held_back)d of users whom the ID encoder may not learn from are held back "
        "(--trust_user_vectors keeps them), %(user_vectors_left_out)d of users outside the data left out.",
        counts,
    )


__all__ = ["load_id_encoder"]
