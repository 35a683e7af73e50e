"""Pieces of a prompt to token ids: wording as the tokenizer reads it, data as plain text and no control tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from .ids import shown

LONG_TEXT = 4096  # characters; a longer title is cut before it is tokenized, which takes seconds for a megabyte
# A fast tokenizer keeps in itself whether control tokens are split, and each call sets it: one thread at a time. One
# lock for all, as a processor is copied
_TOKENIZING = threading.Lock()


class PieceTokens:
    """
    Token ids of pieces, each tokenized once.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): the backbone's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._known: dict[tuple[str, int | None], list[int]] = {}
        special, unknown = set(tokenizer.all_special_ids), tokenizer.unk_token_id
        self._control = {  # an added token in brackets is one too, such as `<think>`, which is not declared special
            index: token.content
            for index, token in tokenizer.added_tokens_decoder.items()
            if index != unknown and (index in special or token.special or token.content[:1] in "<[")
        }

    def __call__(self, piece: str, limit: int | None = None) -> list[int]:
        """Token ids of a piece of the wording; with `limit` of data: at most so many, no control token among them."""
        key = (piece, limit)
        if key not in self._known:
            self._known[key] = self._encode(piece, False) if limit is None else self._data_tokens(piece, limit)
        return self._known[key]

    def check_names(self, names: Iterable[str], attribute_format: str) -> None:
        """
        Names of attributes stand in the wording, not beside it.

        Raises:
            ValueError: a name would be a control token there.
        """

        def control(name: str) -> list[int]:
            piece = attribute_format.format(name=name)
            return [token for token in self._encode(piece, False) if token in self._control]

        for name in sorted(names):
            if control(name) != control("a"):
                raise ValueError(
                    f"The attribute {shown(name)} has a control token of the tokenizer in its name. Rename the column."
                )

    def _encode(self, piece: str, is_data: bool) -> list[int]:
        if not piece:
            return []
        with _TOKENIZING:
            return self.tokenizer(piece, add_special_tokens=False, split_special_tokens=is_data)["input_ids"]

    @cached_property
    def _longest_token(self) -> int:
        """Characters; a walk through the whole vocabulary."""
        return max(map(len, self.tokenizer.get_vocab()))

    def _data_tokens(self, piece: str, limit: int) -> list[int]:
        if len(piece) > LONG_TEXT:  # no token is longer than the longest: what follows could not be among the first
            piece = piece[: max(LONG_TEXT, limit * self._longest_token)]
        ids = self._encode(piece, True)
        if not self._control.keys().isdisjoint(ids):
            # `split_special_tokens` misses tokens not declared special, and those that are pieces of a Unigram
            # vocabulary
            for token in self._control.values():
                piece = piece.replace(token, " ".join(token))
            ids = [i for i in self._encode(piece, True) if i not in self._control]
        return ids[:limit]


__all__ = ["PieceTokens"]
