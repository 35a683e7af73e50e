"""The item side of every score: representations of a whole catalogue through the LLM, each text once."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers.utils import logging

from .backbone_fingerprint import backbone_identity, weights_digest
from .catalogue_texts import CatalogueTextsMixin, text_batches
from .evaluation_mode import evaluation_mode
from .histories import as_indices
from .processes import PartialState, dealt, filled, several, speaks
from .spread_catalogue import Catalogue
from .token_texts import padded_texts
from .whole_files import replacing

logger = logging.get_logger(__name__)

KEY_BYTES = 16
BATCHES_BETWEEN_SAVES = 50


def take_known(
    items: Tensor, missing: list[int], keys: Sequence[bytes], known_keys: Tensor, known: Tensor
) -> list[int]:
    """
    Fills missing rows of `items` whose keys are known.

    Args:
        keys (`list[bytes]`): of all rows of `items`.
        known_keys (`torch.ByteTensor` of shape `(m, 16)`), known (`torch.FloatTensor` of shape `(m, width)`): of any
            items.

    Returns:
        `list[int]`: what is missing still.
    """
    of_keys = [bytes(key) for key in known_keys.numpy()]
    rows = {key: row for row, key in enumerate(of_keys)}
    # Items of one key may differ in their last bits: what an item has it keeps
    rows_of = [i if i < len(of_keys) and of_keys[i] == keys[i] else rows.get(keys[i], -1) for i in missing]
    found = [(index, row) for index, row in zip(missing, rows_of, strict=True) if row >= 0]
    if found:
        to, of = torch.tensor(found).T
        items[to] = known[of]
    return [index for index, row in zip(missing, rows_of, strict=True) if row < 0]


class CatalogueMixin(CatalogueTextsMixin):
    """Catalogue methods of `RARecForSequentialRecommendation`."""

    def forget_representations(self) -> None:
        """Drops item representations, which no longer fit once weights changed; the frozen LLM's text vectors stay."""
        if self._catalogue is not None:
            self._catalogue.items = self._catalogue.keys = None

    def catalogue_of(self, items: Tensor, keys: Tensor | None = None, rows: range | None = None) -> Catalogue:
        """A catalogue from item representations `(n_items, width)`, or those of `rows`, whose first columns are the
        text vectors where the score has them."""
        if items.data_ptr() % 64:
            items = items.clone()  # of a mapped file: the last bits of a product may depend on where its terms lie
        texts = items[:, : self.score_head.text_dim] if self.score_head.uses_text else None
        return Catalogue(texts, items, keys, rows)

    def check_catalogue(self, whole: bool = True) -> None:
        """
        Args:
            whole (`bool`): whether the representations must all be in this process.

        Raises:
            ValueError: `recommend()` would refuse to answer: there is no processor, it has another catalogue, or item
                representations are missing or older than the weights.
        """
        self._need_processor()
        self.catalogue_items(whole)

    def catalogue_items(self, whole: bool = True) -> Tensor:
        """Representations `(n_items, width)` of the whole catalogue, or, unless it must be `whole`, of the rows that
        this process holds."""
        if whole:
            self._need_whole_catalogue()
        if self._catalogue is None or self._catalogue.items is None:
            raise ValueError(
                "Item representations are missing or older than the weights. Call `model.index_catalogue()` first."
            )
        return self._catalogue.items

    @torch.no_grad()
    def index_catalogue(
        self,
        batch_size: int = 64,
        progress: bool = True,
        resume_file: str | Path | None = None,
        process: PartialState | None = None,
        by_rows: bool = False,
    ) -> int:
        """
        Computes the representation of every item of the catalogue through the LLM; needed once after training.

        Each distinct text runs once. Items whose text, ID vector and weights are those of the present catalogue, or of
        the `resume_file`, are not encoded again: after a change to some titles only these are.

        Args:
            resume_file (`str` or `Path`, *optional*): a safetensors file written now and then, from which a call after
                an interruption goes on; it may stay, and is used as far as it fits.
            process (`PartialState`, *optional*): each process of `accelerate launch` encodes its share; all of them
                must call this alike, and all get the whole index.
            by_rows (`bool`): each process gets its rows of the index only, the same to the bit. What needs the whole
                then raises `RowsElsewhereError`. One process alone holds all rows either way.

        Returns:
            `int`: how many items were encoded; the others were known.

        Raises:
            ValueError: an item without a text, representations that are not finite, or a `resume_file` in several
                processes, each of which knows its own share only.
        """
        if resume_file is not None and several(process):
            raise ValueError("`resume_file` is for one process; leave it out where several share the work.")
        processor = self._need_processor()
        with evaluation_mode(self):
            if by_rows and several(process):
                return self._index_rows(batch_size, progress, process)
            vectors = self.id_encoder.item_vectors()
            texts = processor.item_texts(range(len(processor.item_ids)))
            readout = processor.item_inputs([])["item_readout_ids"]
            keys = self._item_keys(texts, vectors, readout)
            items, missing = torch.empty(len(texts), self.score_head.width), list(range(len(texts)))
            for known_keys, known in self._known_items(None if resume_file is None else Path(resume_file)):
                missing = take_known(items, missing, keys, known_keys, known)
            stacked = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, KEY_BYTES)
            done = torch.ones(len(texts), dtype=torch.bool)
            done[missing] = False
            batches = dealt(list(text_batches([texts[index] for index in missing], batch_size)), process)
            next_save, shown = BATCHES_BETWEEN_SAVES, progress and speaks(process)
            items[missing] = 0.0
            for number, (some, holders) in enumerate(
                tqdm(batches, desc="Encoding the catalogue", unit="batch", disable=not shown), 1
            ):
                indices, encoded = self._encoded(some, holders, missing, readout, vectors)
                items[indices], done[indices] = encoded, True
                # Ever rarer, as each writes all there is
                if resume_file is not None and (number >= next_save or number == len(batches)):
                    next_save = number + max(BATCHES_BETWEEN_SAVES, number // 4)
                    with replacing(Path(resume_file)) as path:
                        save_file({"items": items[done], "keys": stacked[done]}, path)
            items[missing] = filled(items[missing], process)
        self._check_finite(items, range(len(items)), "the representations of {} items")
        self._catalogue = self.catalogue_of(items, stacked)
        return len(missing)

    @torch.no_grad()
    def represent_items(self, indices: Sequence[int] | np.ndarray, batch_size: int = 64) -> Tensor:
        """Representations `(n, width)` of some items by the weights as they are now; the index of the catalogue stays
        as it was. Raises `ValueError` for indices that are none."""
        processor = self._need_processor()
        with evaluation_mode(self):
            indices = as_indices(indices, "`indices`")
            vectors, readout = self.id_encoder.item_vectors(), processor.item_inputs([])["item_readout_ids"]
            found = torch.empty(len(indices), self.score_head.width)
            for some, holders in text_batches(processor.item_texts(indices), batch_size):
                places = [place for group in holders for place in group]
                found[places] = self._encoded(some, holders, indices, readout, vectors)[1]
        return found

    def _encoded(
        self,
        texts: list[list[int]],
        holders: list[list[int]],
        wanted: list[int],
        readout: Tensor,
        vectors: Tensor,
        of_batch: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Which items hold these distinct texts, and their representations; `holders` are places in `wanted`, the item
        indices, and `vectors` are those of the whole catalogue, or of these items in their order."""
        items = torch.tensor([wanted[place] for group in holders for place in group])
        rows = torch.tensor([row for row, group in enumerate(holders) for _ in group])
        id_vectors = vectors if of_batch else vectors[items.to(vectors.device)]
        ids, mask = padded_texts(texts, self.get_input_embeddings().weight.device)
        wants_text, rows = self.score_head.uses_text, rows.to(ids.device)
        reading = self.read(
            "item", ids, mask, readout, id_vectors.unsqueeze(1).to(ids.device), wants_text, rows, mask.sum(1)[rows]
        )
        text = self.score_head.text(reading.text_state) if wants_text else None
        return items, self.score_head.item(reading.state, text).cpu()

    def _item_keys(self, texts: list[list[int]], vectors: Tensor, readout: Tensor) -> list[bytes]:
        """What each item's representation depends on, as a digest."""
        head = self.score_head.state_dict()
        own = {name: t for name, t in head.items() if name.split(".")[0] not in self.score_head.user_side}
        if "item" in self.soft_prompts:
            own |= self.soft_prompts["item"].state_dict()
        made_by = weights_digest(own | {"id_scale": self.id_scale})
        backbone = backbone_identity(self.language_model, self.config.backbone_fingerprint)
        names = ("soft_prompt_position", "bidirectional", "text_layers", "text_opening")
        settings = [getattr(self.config, name) for name in names] + [backbone]
        shared = f"{made_by} {settings} {self.backbone.dtype} {readout.tolist()}".encode()
        return [
            hashlib.blake2b(shared + array("i", text).tobytes() + vector.tobytes(), digest_size=KEY_BYTES).digest()
            for text, vector in zip(texts, vectors.detach().float().cpu().numpy(), strict=True)
        ]

    def _known_items(self, file: Path | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and representations of the present catalogue, then of the file."""
        if self._catalogue is not None and self._catalogue.items is not None and self._catalogue.keys is not None:
            yield self._catalogue.keys.cpu(), self._catalogue.items.cpu()
        if file is not None and file.exists():
            try:
                content = load_file(file)
                keys, items = content["keys"], content["items"]
                if items.shape[1:] == (self.score_head.width,) and len(keys) == len(items):
                    yield keys, items
            except (SafetensorError, KeyError, ValueError, OSError) as problem:
                logger.warning("%s is not a file of item representations (%s); it is not used.", file, problem)


__all__ = ["KEY_BYTES", "Catalogue", "CatalogueMixin", "take_known"]
