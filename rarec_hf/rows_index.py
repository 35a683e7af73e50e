"""The index of a catalogue by rows: each process encodes its share of the batches and keeps its rows."""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from .catalogue_index import KEY_BYTES, CatalogueMixin, take_known
from .catalogue_rows import rows_held, rows_of_all, together
from .catalogue_texts import text_batches
from .processes import PartialState, dealt, speaks

ROUNDS_BETWEEN_EXCHANGES = 8


class RowsIndexMixin(CatalogueMixin):
    """`index_catalogue(by_rows=True)` of `RARecForSequentialRecommendation`."""

    def _index_rows(self, batch_size: int, progress: bool, process: PartialState) -> int:
        """
        `index_catalogue` of this process's rows. The batches are those of the whole catalogue, dealt out, so that each
        vector is what one process alone would compute; what was encoded goes to whoever holds it now and then.
        """
        processor = self._need_processor()
        rows = rows_held(len(processor.item_ids), process)
        texts = processor.item_texts(range(len(processor.item_ids)))
        readout = processor.item_inputs([])["item_readout_ids"]
        vectors = self.id_encoder.item_vectors(slice(rows.start, rows.stop))
        keys = self._item_keys(texts[rows.start : rows.stop], vectors, readout)
        items, missing = torch.empty(len(rows), self.score_head.width), list(range(len(rows)))
        for known_keys, known in self._known_items(None):
            missing = take_known(items, missing, keys, known_keys, known)
        self._catalogue = None  # else two of them lie in memory
        missing = [item for some in together([rows[place] for place in missing], process) for item in some]
        batches = list(text_batches([texts[item] for item in missing], batch_size))
        mine, shown, encoded = iter(dealt(batches, process)), progress and speaks(process), []
        n_rounds = -(-len(batches) // process.num_processes)
        for number in tqdm(range(n_rounds), desc="Encoding the catalogue", unit="batch", disable=not shown):
            some, holders = next(mine, ([], []))
            wanted = torch.tensor([missing[place] for group in holders for place in group], dtype=torch.long)
            of_batch = rows_of_all(vectors, rows, wanted, process)
            if some:
                encoded.append(self._encoded(some, holders, missing, readout, of_batch, of_batch=True))
            if (number + 1) % ROUNDS_BETWEEN_EXCHANGES and number + 1 < n_rounds:
                continue
            for indices, vectors_of in (pair for pairs in together(encoded, process) for pair in pairs):
                held = (indices >= rows.start) & (indices < rows.stop)
                items[indices[held] - rows.start] = vectors_of[held]
            encoded = []
        stacked = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8) if keys else torch.empty(0).byte()
        bad = [rows[place] for place in (~torch.isfinite(items).all(1)).nonzero().flatten().tolist()]
        bad = [item for some in together(bad, process) for item in some]
        if bad:
            self._refuse_not_finite(bad, len(texts), "the representations of {} items")
        self._catalogue = self.catalogue_of(items, stacked.view(len(keys), KEY_BYTES), rows)
        return len(missing)


__all__ = ["ROUNDS_BETWEEN_EXCHANGES", "RowsIndexMixin"]
