"""Alignment samples as a data set, and the collator that makes a batch of them: users, their distinct targets,
negatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ..data.interactions import Interactions
from ..data.sequences import covered
from ..data.splits import Targets
from ..processing_rarec import RARecProcessor, SharedTexts


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
        n_negatives (`int`): further items drawn evenly from the catalogue for each batch.
    """

    def __init__(
        self,
        processor: RARecProcessor,
        max_history: int,
        log_q: np.ndarray | None = None,
        texts: SharedTexts | None = None,
        n_negatives: int = 0,
    ) -> None:
        self.processor, self.max_history, self.log_q, self.texts = processor, max_history, log_q, texts
        self.n_negatives = n_negatives

    def __call__(self, samples: Sequence[dict]) -> dict[str, torch.Tensor]:
        chosen = np.array([sample["target"] for sample in samples])
        drawn = torch.randint(0, len(self.processor.item_ids), (self.n_negatives,)).numpy()
        items = np.unique(np.concatenate([chosen, drawn]))
        targets = np.searchsorted(items, chosen)
        negatives = np.stack([~np.isin(items, sample["history"]) for sample in samples])
        negatives[np.arange(len(samples)), targets] = False
        users = np.array([sample.get("user", -1 - n) for n, sample in enumerate(samples)])
        first, second = np.nonzero(users[:, None] == users)
        negatives[first, targets[second]] = False
        shared = None
        if self.texts is not None:
            used, rows = np.unique([sample["text"] for sample in samples], return_inverse=True)
            ends = [sample["text_end"] for sample in samples]
            shared = SharedTexts([self.texts.texts[text] for text in used], rows.tolist(), ends)
        batch = self.processor.user_inputs([sample["history"] for sample in samples], self.max_history, shared=shared)
        batch |= self.processor.item_inputs(items)
        batch |= {"targets": torch.as_tensor(targets), "negatives": torch.as_tensor(negatives)}
        if self.log_q is not None:
            # How often an item is expected in a batch, as a target or drawn, for each sample of the batch
            drawn_evenly = self.n_negatives / (len(self.processor.item_ids) * len(samples))
            with np.errstate(divide="ignore"):
                log_q = np.logaddexp(self.log_q[items], np.log(drawn_evenly))
            batch["item_log_q"] = torch.as_tensor(log_q.astype(np.float32))
        return batch


class TextGroupedSampler(Sampler[int]):
    """
    Sample rows in a new random order each epoch: those of one text side by side, and texts of like length near each
    other, so that little is computed for padding.

    Args:
        texts ([`SharedTexts`]): which text each sample reads.
        batch_size (`int`): samples a batch; lengths are compared within fifty of them.
        seed (`int`): of the first epoch; the next ones follow.
    """

    def __init__(self, texts: SharedTexts, batch_size: int, seed: int) -> None:
        self.lengths = torch.tensor([len(text) for text in texts.texts])
        self.rows_of: list[list[int]] = [[] for _ in texts.texts]
        for row, text in enumerate(texts.rows):
            self.rows_of[text].append(row)
        self.batch_size, self.n_samples = batch_size, len(texts.rows)
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.n_samples

    def __iter__(self) -> Iterator[int]:
        rows: list[int] = []
        order = torch.randperm(len(self.lengths), generator=self.generator)
        a_text = max(1, round(self.n_samples / max(1, len(self.lengths))))
        for part in order.split(max(1, 50 * self.batch_size // a_text)):
            for text in part[self.lengths[part].argsort(stable=True)].tolist():
                mine = torch.randperm(len(self.rows_of[text]), generator=self.generator)
                rows += [self.rows_of[text][place] for place in mine.tolist()]
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        *whole, last = batches if batches else [[]]
        for place in torch.randperm(len(whole), generator=self.generator).tolist():
            yield from whole[place]
        yield from last  # a short batch anywhere else would shift the others


__all__ = ["AlignmentCollator", "AlignmentDataset", "TextGroupedSampler"]
