"""Texts as token ids: of one user, of several histories together, and padded to one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class UserText(NamedTuple):
    """Token ids of a user's text, and how many of them stand before the first title and up to the end of each."""

    ids: list[int]
    ends: list[int]


class SharedTexts(NamedTuple):
    """
    Texts of several histories without those that are the beginning of another: history n's text is the first
    `ends[n]` tokens of `texts[rows[n]]`.
    """

    texts: list[list[int]]
    rows: list[int]
    ends: list[int]

    def __repr__(self) -> str:
        return f"SharedTexts({len(self.texts)} texts, {sum(map(len, self.texts))} tokens, {len(self.rows)} histories)"


def padded_texts(texts: Sequence[Sequence[int]], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Token ids and mask of texts, both `(n, longest)` and long, padded on the right."""
    longest = max(map(len, texts), default=1)
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], dtype=torch.long, device=device)
    lengths = torch.tensor([len(text) for text in texts], dtype=torch.long, device=device)
    mask = torch.arange(longest, device=device) < lengths.unsqueeze(1)
    return ids.view(len(texts), longest), mask.long()


__all__ = ["SharedTexts", "UserText", "padded_texts"]
