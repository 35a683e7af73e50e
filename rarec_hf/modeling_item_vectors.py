"""Item vectors (and user vectors, if there are any) of another recommender as an ID encoder: nothing is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .configuration_id_encoders import ItemVectorsConfig
from .id_encoder import IDEncoderModel, catalogue_digest
from .ids import id_texts
from .vectors_by_id import MISSING, as_floats, check_rows, distinct_ids, rows_of_catalogue


class ItemVectorsModel(IDEncoderModel):
    """
    Item vectors from elsewhere. A user is the row of the table of users where there is one, and the recency-weighted
    mean of the history's item vectors otherwise, so that new users always work.

    Made by `from_vectors`.
    """

    config_class = ItemVectorsConfig
    base_model_prefix = "item_vectors"

    def __init__(self, config: ItemVectorsConfig) -> None:
        super().__init__(config)
        if config.n_users:
            self.user_embeddings = nn.Embedding(config.n_users, config.hidden_size)  # a row of zeros: no vector
            self.register_buffer("user_keys", torch.zeros(config.n_users, dtype=torch.long))
        self.post_init()

    @classmethod
    def from_vectors(
        cls,
        item_ids: Sequence,
        item_vectors: np.ndarray | Tensor,
        catalogue_ids: Sequence | None = None,
        *,
        user_ids: Sequence | None = None,
        user_vectors: np.ndarray | Tensor | None = None,
        missing: str = "error",
        strict: bool = False,
        **config: Any,
    ) -> ItemVectorsModel:
        """
        Ids are matched by value, whatever their order and type: 5, 5.0 and "5" are one id, "05" is another.

        Args:
            item_ids (`list`): ids of the rows of `item_vectors`.
            item_vectors (`np.ndarray` or `torch.Tensor` of shape `(n, width)`): finite, none of them all zeros.
            catalogue_ids (`list`, *optional*): the ids that are wanted, in catalogue order; rows of others are left
                out, with a warning that counts and names them. All rows in their own order if not given.
            user_ids (`list`, *optional*), user_vectors (`np.ndarray` or `torch.Tensor` of shape `(m, width)`,
                *optional*): the same for users, in the space of the items.
            missing (`str`, *optional*, defaults to `"error"`): `"zeros"` gives items without a vector, or with one of
                all zeros, a vector of zeros: the encoder then says nothing of them. Users likewise.
            strict (`bool`, *optional*, defaults to `False`): refuse rows of items that are not in `catalogue_ids`.
            config: further fields of [`ItemVectorsConfig`], such as `similarity`, or `training_data`.

        Raises:
            ValueError: ids are missing or stand twice, rows and ids differ in number, or vectors are not finite, all
                zeros or not of one width. The first few ids are named.
        """
        if missing not in MISSING:
            raise ValueError(f"`missing` must be one of {list(MISSING)}, got {missing!r}.")
        if (user_ids is None) != (user_vectors is None):
            raise ValueError("`user_ids` and `user_vectors` go together; give both or neither.")
        ids = distinct_ids(item_ids, "item_ids", "item")
        vectors = as_floats(item_vectors, len(ids), "item")
        wanted = ids
        if catalogue_ids is not None:
            wanted = distinct_ids(catalogue_ids, "catalogue_ids", "catalogue")
            vectors = rows_of_catalogue(ids, vectors, wanted, missing, strict)
        check_rows(vectors, wanted, "items", missing)
        n_users = 0 if user_ids is None else len(user_ids)
        sizes = {"n_items": len(wanted), "hidden_size": vectors.shape[1], "n_users": n_users}
        model = cls(ItemVectorsConfig(**sizes, **{"catalogue": catalogue_digest(wanted), **config}))
        with torch.no_grad():
            model.item_embeddings.weight.copy_(vectors)
        if n_users:
            users = distinct_ids(user_ids, "user_ids", "user")
            table = as_floats(user_vectors, len(users), "user")
            if table.shape[1] != vectors.shape[1]:
                raise ValueError(
                    f"User vectors are {table.shape[1]} wide and item vectors {vectors.shape[1]}. Their product is a "
                    "score, so both must come from one model."
                )
            check_rows(table, users, "users", missing)
            model._set_users(_keys(users), table)
        return model.eval()

    # users -----------------------------------------------------------------------------------------------------------

    @property
    def takes_users(self) -> bool:
        return self.config.n_users > 0

    @torch.no_grad()
    def _set_users(self, keys: Tensor, table: Tensor) -> None:
        if len(keys.unique()) != len(keys):
            raise ValueError("Two user ids have the same 64-bit hash. Rename one of them.")
        self.config.n_users = self.user_embeddings.num_embeddings = len(keys)
        # a new module would be one not initialised yet to a model around this one, which then draws its weights
        self.user_embeddings.weight = nn.Parameter(table.to(self.item_embeddings.weight))
        self.user_keys = keys.to(self.device)

    def arrange_users(self, user_ids: Sequence, without: np.ndarray | Sequence[int] = ()) -> dict[str, int]:
        """
        Puts the table of users into the order of `user_ids`, such as `Interactions.user_ids`: whoever scores by user
        index, as an evaluation does, must do so first. Users without a vector, and those at the places `without`, are
        the mean of their history from then on.

        Returns:
            counts: `users`, `users_with_vector`, `user_vectors_held_back` (of those at `without`) and
            `user_vectors_left_out` (of users that `user_ids` does not name).
        """
        if not self.takes_users:
            raise ValueError("This encoder has no user vectors to arrange. Give them to `from_vectors`.")
        keys = _keys(distinct_ids(user_ids, "user_ids", "user"))
        rows = self._rows_of(keys)
        had = self.user_embeddings.weight.any(1).cpu()
        table = self.user_embeddings.weight.detach().cpu()[rows.clamp(min=0)] * (rows >= 0).unsqueeze(1)
        held_back = torch.zeros(len(keys), dtype=torch.bool)
        held_back[torch.as_tensor(np.asarray(without, dtype=np.int64))] = True
        found = table.any(1)
        table[held_back] = 0.0
        self._set_users(keys, table)
        return {
            "users": len(keys),
            "users_with_vector": int(table.any(1).sum()),
            "user_vectors_held_back": int((found & held_back).sum()),
            "user_vectors_left_out": int(had.sum()) - int(found.sum()),
        }

    def user_indices(self, user_ids: Sequence) -> Tensor:
        """Rows `(n,)` of these users in the table; -1 for those it has no vector of, whose mean is taken instead."""
        rows = self._rows_of(_keys(id_texts(user_ids, "user_ids")))
        return torch.where(self.user_embeddings.weight.any(1).cpu()[rows.clamp(min=0)], rows, -1)

    def _rows_of(self, keys: Tensor) -> Tensor:
        table, order = self.user_keys.cpu().sort()
        place = torch.searchsorted(table, keys).clamp(max=len(table) - 1)
        return torch.where(table[place] == keys, order[place], -1)

    # vectors ---------------------------------------------------------------------------------------------------------

    def position_vectors(self, history: Tensor) -> Tensor:
        embedded, length = self._scaled(self.embedded(history)), history.shape[1]
        age = torch.arange(length, device=history.device).unsqueeze(1) - torch.arange(length, device=history.device)
        weights = torch.where(age >= 0, float(self.config.recency_decay) ** age.clamp(min=0), 0.0)
        return (weights / weights.sum(1, keepdim=True) @ embedded).unsqueeze(2)

    def user_vectors(self, history: Tensor, users: Tensor | None = None) -> Tensor:
        """
        User vectors `(batch, 1, hidden_size)`: of the table for the users it has a vector of, of the history for
        others.

        Args:
            users (`torch.LongTensor` of shape `(batch,)`, *optional*): rows of the table, -1 for an unknown user. The
                table knows nothing of a history's length: leave `users` out for any but the latest history.

        Raises:
            ValueError: `users` is not one row of the table for each history.
        """
        vectors = super().user_vectors(history)
        if users is None or not self.takes_users:
            return vectors
        if users.shape != history.shape[:1]:
            raise ValueError(f"Expected one user for each of {len(history)} histories, got {tuple(users.shape)}.")
        if bool(((users < -1) | (users >= self.config.n_users)).any()):
            raise ValueError(
                f"Users must be within 0..{self.config.n_users - 1}, or -1 if not known, got "
                f"{int(users.min())}..{int(users.max())}."
            )
        table = self.user_embeddings(users.clamp(min=0))
        known = (users >= 0) & table.any(1)
        return torch.where(known.view(-1, 1, 1), table.unsqueeze(1), vectors)

    def scores(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        return super().scores(self._scaled(user_vectors), self._scaled(item_vectors))

    def _scaled(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1) if self.config.similarity == "cosine" else vectors


def _keys(user_ids: Sequence[str]) -> Tensor:
    """A 64-bit hash of each id: of one length, so that it is saved as a tensor of the model's."""
    digests = b"".join(hashlib.sha256(user.encode()).digest()[:8] for user in user_ids)
    return torch.from_numpy(np.frombuffer(digests, dtype="<i8").astype(np.int64))


__all__ = ["ItemVectorsConfig", "ItemVectorsModel"]
