"""Alignment samples as a data set, and the collator that makes a batch of them: users, their distinct targets,
negatives."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import PartialState
from torch.utils.data import Dataset

from ..data.interactions import Interactions
from ..data.sequences import covered
from ..data.splits import Targets
from ..processes import chunk, several
from ..processing_rarec import RARecProcessor
from ..token_texts import SharedTexts
from .shared_batches import SeededOrders


class AlignmentDataset(Dataset):
    """
    One row a sample: `history` (item indices, oldest first), `target` and `user`. The user tells which samples belong
    together and never reaches the model: an encoder's vector of a known user has seen the whole training part, and a
    sample stands in its middle.

    `log_q[i]` is the log of item i's share among the targets: its chance to stand in a batch as somebody's target.

    Args:
        processor ([`RARecProcessor`], *optional*): makes the texts once, of which several samples may share one; a row
            then also has `text` (its row among `texts.texts`) and `text_end` (tokens of it that the sample reads).
    """

    def __init__(self, interactions: Interactions, samples: Targets, processor: RARecProcessor | None = None) -> None:
        self.interactions, self.samples = interactions, samples
        self.texts: SharedTexts | None = None
        if processor is not None:
            self.texts = processor.shared_texts([samples.history(interactions, row) for row in range(len(samples))])
        counts = np.bincount(samples.targets, minlength=interactions.n_items)
        with np.errstate(divide="ignore"):
            self.log_q = np.log(counts / max(1, len(samples))).astype(np.float32)

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        texts = "" if self.texts is None else f", {self.texts!r}"
        return f"AlignmentDataset({len(self)} samples{texts})"

    def __getitem__(self, row: int) -> dict:
        sample = {
            "history": self.samples.history(self.interactions, row),
            "target": int(self.samples.targets[row]),
            "user": int(self.samples.users[row]),
        }
        if self.texts is not None:
            sample |= {"text": self.texts.rows[row], "text_end": self.texts.ends[row]}
        return sample

    def items(self, latest: int) -> np.ndarray:
        """Distinct items that stand in the latest part of a history or are a target: whose texts training needs."""
        samples, interactions = self.samples, self.interactions
        windows = np.minimum(samples.ends, latest)
        firsts = interactions.offsets[samples.users] + samples.ends - windows
        recent = interactions.item_index[covered(firsts, windows, len(interactions.item_index))]
        return np.unique(np.concatenate([recent, samples.targets]))


class AlignmentCollator:
    """
    Makes model inputs of a batch of samples. A target that several users share is encoded once; an item is a negative
    of a sample unless it is its target, stands in its whole history or is the target of another sample of its user.

    Args:
        max_history (`int`): latest items that the ID encoder reads.
        log_q (`np.ndarray` of shape `(n_items,)`, *optional*): see [`AlignmentDataset`].
        texts ([`SharedTexts`], *optional*): the data set's; a text stands once in a batch, however many samples read
            it.
        n_negatives (`int`): further items drawn evenly from the catalogue for each batch; -1 for the whole catalogue,
            where nothing is drawn and `item_log_q` left out.
        process (`PartialState`, *optional*): every process is given the whole batch and makes inputs of its part of
            the users and of the items; `own_rows` says how many these are, and `targets`, `negatives` and `item_log_q`
            are of the whole. The model puts all together.
    """

    def __init__(
        self,
        processor: RARecProcessor,
        max_history: int,
        log_q: np.ndarray | None = None,
        texts: SharedTexts | None = None,
        n_negatives: int = 0,
        process: PartialState | None = None,
    ):
        self.processor, self.max_history, self.log_q, self.texts = processor, max_history, log_q, texts
        self.n_negatives, self.process = n_negatives, process

    def __call__(self, samples: Sequence[dict]) -> dict[str, torch.Tensor]:
        chosen = np.array([sample["target"] for sample in samples])
        users = np.array([sample.get("user", -1 - n) for n, sample in enumerate(samples)])
        # Drawn from what the batch holds: alike in every process, and again when a run goes on within an epoch
        generator = torch.Generator().manual_seed(zlib.crc32(np.stack([chosen, users]).tobytes()))
        n_items = len(self.processor.item_ids)
        if self.n_negatives < 0:
            drawn = np.arange(n_items)
        else:
            drawn = torch.randint(0, n_items, (self.n_negatives,), generator=generator).numpy()
        items = np.unique(np.concatenate([chosen, drawn]))
        targets = np.searchsorted(items, chosen)
        negatives = np.stack([~np.isin(items, sample["history"]) for sample in samples])
        negatives[np.arange(len(samples)), targets] = False
        first, second = np.nonzero(users[:, None] == users)
        negatives[first, targets[second]] = False
        own, own_items = chunk(len(samples), self.process), chunk(len(items), self.process)
        mine = [samples[row] for row in own] or samples[:1]  # a process without its own reads one for nothing
        shared = None
        if self.texts is not None:
            used, rows = np.unique([sample["text"] for sample in mine], return_inverse=True)
            ends = [sample["text_end"] for sample in mine]
            shared = SharedTexts([self.texts.texts[text] for text in used], rows.tolist(), ends)
        batch = self.processor.user_inputs([sample["history"] for sample in mine], self.max_history, shared=shared)
        batch |= self.processor.item_inputs(items[own_items.start : own_items.stop] if own_items else items[:1])
        batch |= {"targets": torch.as_tensor(targets), "negatives": torch.as_tensor(negatives)}
        if several(self.process):
            batch["own_rows"] = (len(own), len(own_items))
        if self.log_q is not None and self.n_negatives >= 0:
            # How often an item is expected in a batch, as a target or drawn, for each sample of the batch
            drawn_evenly = self.n_negatives / (n_items * len(samples))
            with np.errstate(divide="ignore"):
                log_q = np.logaddexp(self.log_q[items], np.log(drawn_evenly))
            batch["item_log_q"] = torch.as_tensor(log_q.astype(np.float32))
        return batch


def text_grouped_orders(texts: SharedTexts, batch_size: int, seed: int) -> SeededOrders:
    """
    Sample rows in a new random order each epoch: those of one text side by side, and texts of like length near each
    other, so that little is computed for padding.

    Args:
        texts ([`SharedTexts`]): which text each sample reads.
        batch_size (`int`): samples a batch, of all processes together; lengths are compared within fifty of them.
        seed (`int`): of the first epoch; the next ones follow.
    """
    lengths = torch.tensor([len(text) for text in texts.texts])
    rows_of: list[list[int]] = [[] for _ in texts.texts]
    for row, text in enumerate(texts.rows):
        rows_of[text].append(row)
    n_samples = len(texts.rows)

    def draw(generator: torch.Generator) -> list[int]:
        rows: list[int] = []
        order = torch.randperm(len(lengths), generator=generator)
        a_text = max(1, round(n_samples / max(1, len(lengths))))
        for part in order.split(max(1, 50 * batch_size // a_text)):
            for text in part[lengths[part].argsort(stable=True)].tolist():
                mine = torch.randperm(len(rows_of[text]), generator=generator)
                rows += [rows_of[text][place] for place in mine.tolist()]
        batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        *whole, last = batches if batches else [[]]
        shuffled = [whole[place] for place in torch.randperm(len(whole), generator=generator).tolist()]
        return [row for batch in [*shuffled, last] for row in batch]  # a short batch elsewhere would shift the others

    return SeededOrders(n_samples, draw, seed)


__all__ = ["AlignmentCollator", "AlignmentDataset", "text_grouped_orders"]
