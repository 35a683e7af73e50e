"""Items that came after the training: with a title and no interactions they can be recommended at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .catalogue_index import CatalogueMixin
from .histories import whole_number
from .id_encoder import catalogue_digest
from .processing_rarec import RARecProcessor
from .scoring import EncoderPlusLLMScore


class NewItemsMixin(CatalogueMixin):
    """`add_items` of `RARecForSequentialRecommendation`."""

    @torch.no_grad()
    def add_items(
        self,
        item_ids: Sequence[str],
        titles: Sequence[str],
        attributes: Sequence[Mapping[str, str]] | None = None,
        neighbours: int = 10,
        batch_size: int = 64,
        progress: bool = False,
    ) -> None:
        """
        Adds items to the catalogue's end; nothing is trained. A new item's ID vector is the mean of those of the known
        items whose texts are nearest (cosine of the LLM's whitened text vectors), so that it enters soft prompts and
        scores as they do. Only the new items pass the LLM. `save_pretrained` keeps them.

        Args:
            item_ids, titles (`list[str]`): one each an item.
            attributes (`list[dict[str, str]]`, *optional*): further text an item.
            neighbours (`int`): how many known items an ID vector is made of.

        Raises:
            ValueError: ids that are in the catalogue or stand twice, lengths that differ, `neighbours` that is no
                count, or a catalogue that was not indexed since weights changed.
        """
        processor = self._need_processor()
        neighbours = whole_number(neighbours, "neighbours")
        n_known = len(processor.item_ids)
        self.catalogue_items()  # raises where it is stale: only the new ones shall be encoded below
        extended = processor.with_items(item_ids, titles, attributes)
        new = range(n_known, len(extended.item_ids))
        if not len(new):
            return
        texts = self._texts_with_new(extended, batch_size, progress)
        nearest = (texts[n_known:] @ texts[:n_known].T).topk(min(neighbours, n_known), 1).indices
        self.processor = extended
        self.id_encoder.add_items(nearest, texts[n_known:])
        self.id_encoder.config.catalogue = catalogue_digest(extended.item_ids)
        self.config.id_encoder_config = self.id_encoder.config
        self.index_catalogue(batch_size, progress)

    def _texts_with_new(self, extended: RARecProcessor, batch_size: int, progress: bool) -> Tensor:
        """Text vectors `(n_items, text_dim)` of the known items and the new ones."""
        n_known, head = len(self.processor.item_ids), self.score_head
        if head.uses_text:
            new = extended.item_texts(range(n_known, len(extended.item_ids)))
            states = self._encode_texts(new, batch_size, progress).to(head.text_mean.device)
            return torch.cat([self._catalogue.texts.cpu(), head.text(states).cpu()])
        states = self._encode_texts(extended.item_texts(range(len(extended.item_ids))), batch_size, progress)
        n_layers = len(self.config.text_layers)
        head = EncoderPlusLLMScore(states.shape[1] // n_layers, self.config.text_dim, 1, n_layers)
        head.fit_whitening(states[:n_known], self.config.text_ridge)
        return head.text(states)


__all__ = ["NewItemsMixin"]
