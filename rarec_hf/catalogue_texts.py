"""The text side of a catalogue: what the frozen LLM gives of items' texts alone, and histories pooled from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .histories import whole_number
from .packed_texts import text_key
from .processes import PartialState, dealt, filled, speaks
from .processing_rarec import RARecProcessor
from .spread_catalogue import Catalogue, SpreadCatalogueMixin
from .token_texts import padded_texts


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> list[np.ndarray]:
    """Batches of positions with like lengths, longest first so that memory shows its peak at once."""
    batch_size = whole_number(batch_size, "batch_size")
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def text_batches(texts: Sequence[Sequence[int]], batch_size: int) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
    """Batches of distinct texts of like length, longest first, each with the positions that hold it."""
    holders: dict[bytes, list[int]] = {}
    for position, text in enumerate(texts):
        holders.setdefault(text_key(text), []).append(position)
    groups = list(holders.values())
    for batch in length_sorted_batches([len(texts[group[0]]) for group in groups], batch_size):
        mine = [groups[n] for n in batch]
        yield [list(texts[group[0]]) for group in mine], mine


def recency_pooled(vectors: Tensor, history: Tensor, latest: int, decay: float) -> Tensor:
    """
    The mean of the `latest` items' vectors, each weighing `decay` times the next more recent one.

    Args:
        vectors (`torch.FloatTensor` of shape `(n_items, width)`): of the catalogue.
        history (`torch.LongTensor` of shape `(batch, length)`): item indices, oldest first, right-padded with -1.

    Returns:
        `(batch, width)`, of length 1; zeros for an empty history.
    """
    age = (history >= 0).sum(1, keepdim=True) - 1 - torch.arange(history.shape[1], device=history.device)  # 0: latest
    used = (age >= 0) & (age < latest)
    weights = torch.where(used, decay ** age.clamp(min=0).float(), 0.0)
    chosen = vectors.to(history.device)[history.clamp(min=0)].masked_fill(~used.unsqueeze(-1), 0.0)
    return torch.nn.functional.normalize((chosen * weights.unsqueeze(-1)).sum(1), dim=-1)


class CatalogueTextsMixin(SpreadCatalogueMixin):
    """Methods of `RARecForSequentialRecommendation` about the texts of items."""

    def _inputs_to_device(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        device = self.get_input_embeddings().weight.device
        return {name: value.to(device) for name, value in inputs.items()}

    def _need_processor(self) -> RARecProcessor:
        if self.processor is None:
            raise ValueError("The model has no processor. Set `model.processor`, or load a folder that holds one.")
        if len(self.processor.item_ids) != self.config.id_encoder_config.n_items:
            raise ValueError(
                f"The processor's item table has {len(self.processor.item_ids)} items, the ID encoder "
                f"{self.config.id_encoder_config.n_items}. They must be of one catalogue."
            )
        return self.processor

    @torch.no_grad()
    def encode_texts(
        self,
        indices: Sequence[int],
        batch_size: int = 64,
        progress: bool = True,
        process: PartialState | None = None,
    ) -> Tensor:
        """
        Mean text states `(n, n_layers * hidden_size)` that the frozen LLM gives of items' texts alone, no soft
        prompts: of the layers that `text_layers` names, side by side.

        Args:
            process (`PartialState`, *optional*): each process of `accelerate launch` reads its share of the texts; all
                of them must call this alike, and all get all states.

        Raises:
            ValueError: an item without a text, or states that are not finite.
        """
        states = self._encode_texts(self._need_processor().item_texts(indices), batch_size, progress, process)
        self._check_finite(states, indices, "the backbone's states of {} item texts")
        return states

    def _check_finite(self, rows: Tensor, indices: Sequence[int], what: str) -> None:
        bad = (~torch.isfinite(rows).all(1)).nonzero().flatten().tolist()
        if bad:
            self._refuse_not_finite([indices[row] for row in bad], len(rows), what)

    def _refuse_not_finite(self, bad: list[int], n_items: int, what: str) -> None:
        named = [self.processor.item_ids[item] for item in bad[:5]]
        raise ValueError(
            f"{what.format(f'{len(bad)} of {n_items}')} are not finite, the first item ids: {named}. Check the "
            "weights of the backbone and of the checkpoint; load the backbone in bfloat16 or float32, not float16."
        )

    def _encode_texts(
        self, texts: list[list[int]], batch_size: int, progress: bool, process: PartialState | None = None
    ) -> Tensor:
        hidden_size = self.config.text_config.get_text_config(decoder=True).hidden_size
        states = torch.zeros(len(texts), len(self.config.text_layers) * hidden_size)
        mine = dealt(list(text_batches(texts, batch_size)), process)
        device, shown = self.get_input_embeddings().weight.device, progress and speaks(process)
        for some, holders in tqdm(mine, desc="Reading item texts", unit="batch", disable=not shown):
            means = cast(Tensor, self.text_means_of(*padded_texts(some, device), False).mean)
            for mean, positions in zip(means.cpu(), holders, strict=True):
                states[positions] = mean
        return filled(states, process)

    @torch.no_grad()
    def prepare_texts(
        self,
        indices: Sequence[int],
        batch_size: int = 64,
        progress: bool = True,
        process: PartialState | None = None,
    ) -> None:
        """
        Reads the texts of these items once, fits the score's whitening on them and keeps their text vectors: all that
        training needs of the items in its histories. Does nothing for a score that pools no text. `process` as in
        `encode_texts`.
        """
        if not self.score_head.uses_text:
            return
        indices = sorted({int(i) for i in indices})
        states = self.encode_texts(indices, batch_size, progress, process).to(self.score_head.text_mean.device)
        self.score_head.fit_whitening(states, self.config.text_ridge)
        texts = states.new_full((self.config.id_encoder_config.n_items, self.score_head.text_dim), float("nan"))
        texts[indices] = self.score_head.text(states)
        self._catalogue = Catalogue(texts)

    @torch.no_grad()
    def take_texts_of(self, other: CatalogueTextsMixin) -> None:
        """
        Takes the text vectors and the whitening that another model around the same backbone and catalogue has from
        `prepare_texts`, instead of reading the texts again.

        Raises:
            ValueError: it has none, or of other widths.
        """
        mine, its = self.score_head, other.score_head
        if other._catalogue is None or other._catalogue.texts is None:
            raise ValueError("The other model has no text vectors. Call its `prepare_texts(...)` first.")
        if not (mine.uses_text and its.uses_text) or mine.text_whitening.shape != its.text_whitening.shape:
            raise ValueError("Both models need a score with text vectors of the same `text_layers` and `text_dim`.")
        mine.text_mean.copy_(its.text_mean)
        mine.text_whitening.copy_(its.text_whitening)
        self._catalogue = Catalogue(other._catalogue.texts)

    def catalogue_texts(self) -> Tensor:
        """Text vectors `(n_items, text_dim)` of the whole catalogue."""
        self._need_whole_catalogue()
        if not self.has_all_texts:
            raise ValueError(
                "The catalogue's text vectors are not there. Call `model.index_catalogue()`, or `prepare_texts` of "
                "all items."
            )
        return self._catalogue.texts

    @property
    def has_all_texts(self) -> bool:
        """Whether the text vectors of the whole catalogue are there."""
        texts = None if self._catalogue is None else self._catalogue.texts
        return texts is not None and not self.has_rows_elsewhere and not bool(texts[:, 0].isnan().any())

    def pooled_text(self, history: Tensor) -> Tensor:
        """
        The recency-weighted mean `(batch, text_dim)` of the text vectors of the latest `pooled_history` items, each
        weighing `pooling_decay` times the next more recent one; of length 1, zeros for an empty history.
        """
        head = self.score_head
        if self.config.pooled_history == 0:
            return torch.zeros(len(history), head.text_dim, device=history.device)
        if self._catalogue is None or self._catalogue.texts is None:
            raise ValueError(
                "The items' text vectors are not there. Call `model.prepare_texts(...)` or `model.index_catalogue()`."
            )
        table = self._catalogue.texts
        if self.has_rows_elsewhere:
            table, history = self._texts_from_all(history)
        texts = recency_pooled(table, history, self.config.pooled_history, self.config.pooling_decay)
        if bool(texts.isnan().any()):
            raise ValueError("Some items of the histories have no text vector yet. Give them all to `prepare_texts`.")
        return texts


__all__ = ["CatalogueTextsMixin", "length_sorted_batches", "recency_pooled", "text_batches"]
