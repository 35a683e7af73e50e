"""`RARecProcessor`: tokenizer, prompt templates, item table and id map; histories in, model inputs out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer
from transformers.processing_utils import ProcessorMixin
from transformers.utils import cached_file

from .id_encoder import padded_histories
from .prompts import PromptTemplates
from .whole_files import replacing

SETTINGS_FILE, ITEMS_FILE = "processor_config.json", "items.json"
_LIMITS = ("max_history_items", "max_title_tokens", "max_text_tokens")


class RARecProcessor(ProcessorMixin):
    """
    Turns histories and items into what the model reads. Titles are tokenised apart from the wording and never as
    control tokens.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): the backbone's.
        item_ids (`list[str]`): external ids in catalogue order; position is the item index.
        titles (`list[str]`): a title an item.
        attributes (`list[dict[str, str]]`, *optional*): further text an item, such as genres.
        templates ([`PromptTemplates`] or `dict`, *optional*): the wording.
        max_history_items (`int`): latest items of a history that stand in the text.
        max_title_tokens (`int`): a longer title or attribute is cut here.
        max_text_tokens (`int`): the oldest titles of a history are left out until the text fits.
    """

    def __init__(
        self,
        tokenizer,
        item_ids: Sequence[str] = (),
        titles: Sequence[str] = (),
        attributes: Sequence[Mapping[str, str]] | None = None,
        templates: PromptTemplates | Mapping[str, str] | None = None,
        max_history_items: int = 10,
        max_title_tokens: int = 24,
        max_text_tokens: int = 192,
    ):
        super().__init__(tokenizer)
        self.item_ids, self.titles = [str(i) for i in item_ids], list(titles)
        self.attributes = [dict(a) for a in attributes] if attributes is not None else [{} for _ in self.item_ids]
        if not len(self.item_ids) == len(self.titles) == len(self.attributes):
            raise ValueError(
                f"Expected one title and one set of attributes an item, got {len(self.item_ids)} ids, "
                f"{len(self.titles)} titles and {len(self.attributes)} attributes."
            )
        self._index = {item_id: index for index, item_id in enumerate(self.item_ids)}
        if len(self._index) != len(self.item_ids):
            repeated = next(i for n, i in enumerate(self.item_ids) if self._index[i] != n)
            raise ValueError(f"Item ids must be distinct, {repeated!r} stands twice.")
        self.templates = templates if isinstance(templates, PromptTemplates) else PromptTemplates(**(templates or {}))
        self.max_history_items, self.max_title_tokens, self.max_text_tokens = (
            max_history_items,
            max_title_tokens,
            max_text_tokens,
        )
        if min(max_history_items, max_title_tokens, max_text_tokens) < 1:
            raise ValueError(
                f"{_LIMITS} must be at least 1, got {(max_history_items, max_title_tokens, max_text_tokens)}."
            )
        self._pieces: dict[tuple[str, bool], list[int]] = {}
        special, unknown = set(tokenizer.all_special_ids), tokenizer.unk_token_id
        self._control = {  # an added token in brackets is one too, such as `<think>`, which is not declared special
            index: token.content
            for index, token in tokenizer.added_tokens_decoder.items()
            if index != unknown and (index in special or token.special or token.content[:1] in "<[")
        }
        first = tokenizer("a")["input_ids"][:1]
        self._opening = first if first == [tokenizer.bos_token_id] else []
        if (length := len(self._user_tokens([]))) > max_text_tokens:
            raise ValueError(
                f"`max_text_tokens` is {max_text_tokens}, but the user prompt's opening alone takes {length} tokens. "
                "Raise the limit or shorten `user_opening`."
            )

    def __repr__(self) -> str:
        tokenizer, titles = type(self.tokenizer).__name__, self.max_history_items
        return f"RARecProcessor({len(self.item_ids)} items, {tokenizer}, last {titles} titles)"

    # ids -------------------------------------------------------------------------------------------------------------

    def item_indices(self, item_ids: Sequence[str]) -> list[int]:
        """
        Item indices of external ids, matched by value.

        Raises:
            ValueError: some ids are not in the catalogue; names the first few.
        """
        ids = [str(i) for i in item_ids]
        if unknown := [i for i in ids if i not in self._index]:
            raise ValueError(
                f"{len(unknown)} of {len(ids)} item ids are not in the catalogue of {len(self.item_ids)} items, "
                f"the first: {unknown[:5]}. Ids of this catalogue look like {self.item_ids[:3]}. Leave "
                "unknown ids out of the history."
            )
        return [self._index[i] for i in ids]

    # text ------------------------------------------------------------------------------------------------------------

    def _tokens(self, piece: str, is_data: bool) -> list[int]:
        key = (piece, is_data)
        if key not in self._pieces:
            self._pieces[key] = self._data_tokens(piece) if is_data else self._encode(piece, False)
        return self._pieces[key]

    def _encode(self, piece: str, is_data: bool) -> list[int]:
        return (
            self.tokenizer(piece, add_special_tokens=False, split_special_tokens=is_data)["input_ids"] if piece else []
        )

    def _data_tokens(self, piece: str) -> list[int]:
        ids = self._encode(piece, True)
        if not self._control.keys().isdisjoint(ids):
            # `split_special_tokens` misses tokens not declared special, and those that are pieces of a Unigram
            # vocabulary
            for token in self._control.values():
                piece = piece.replace(token, " ".join(token))
            ids = [i for i in self._encode(piece, True) if i not in self._control]
        return ids[: self.max_title_tokens]

    def _user_tokens(self, history: Sequence[int]) -> list[int]:
        titles = [self.titles[i] for i in history[-self.max_history_items :]]
        while True:
            ids = self._opening + [t for piece in self.templates.user_pieces(titles) for t in self._tokens(*piece)]
            if len(ids) <= self.max_text_tokens or not titles:
                return ids
            titles = titles[1:]

    def _item_tokens(self, index: int) -> list[int]:
        pieces = self.templates.item_pieces(self.titles[index], self.attributes[index])
        ids = self._opening + [t for piece in pieces for t in self._tokens(*piece)]
        return ids[: self.max_text_tokens]

    def _check(self, indices: Sequence[int]) -> None:
        if len(indices) and not (0 <= min(indices) and max(indices) < len(self.item_ids)):
            raise ValueError(
                f"Item indices must be within 0..{len(self.item_ids) - 1}, got {min(indices)}..{max(indices)}."
            )

    def _padded(self, rows: list[list[int]], what: str) -> tuple[Tensor, Tensor]:
        if any(not row for row in rows):
            raise ValueError(f"A {what}'s text has no token. Give it an opening in the templates, or a title.")
        longest = max(map(len, rows), default=1)
        ids, mask = (
            torch.zeros(len(rows), longest, dtype=torch.long),
            torch.zeros(len(rows), longest, dtype=torch.long),
        )
        for n, row in enumerate(rows):
            ids[n, : len(row)], mask[n, : len(row)] = torch.tensor(row), 1
        return ids, mask

    def user_inputs(
        self, histories: Sequence[Sequence[int]], max_history: int, users: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """
        Args:
            histories: item indices, oldest first; may be empty.
            max_history (`int`): latest items that the ID encoder reads.
            users (`list[int]`, *optional*): user indices, -1 for an unknown user, for an ID encoder with a table of
                users. Only with the whole history of each: the table knows nothing of an earlier one.

        Returns:
            `user_text_ids` and `user_text_mask` `(batch, length)`, right-padded; `user_readout_ids` `(readout
            length,)`; `history` `(batch, max length)`, item indices right-padded with -1; `users` `(batch,)` if given.
        """
        histories = [[int(i) for i in h] for h in histories]
        for history in histories:
            self._check(history)
        ids, mask = self._padded([self._user_tokens(h) for h in histories], "user")
        padded = padded_histories(histories, max_history)
        readout = torch.tensor(self._tokens(self.templates.user_readout, False))
        inputs = {"user_text_ids": ids, "user_text_mask": mask, "user_readout_ids": readout, "history": padded}
        if users is not None:
            if len(users) != len(histories):
                raise ValueError(f"Expected one user for each of {len(histories)} histories, got {len(users)}.")
            inputs["users"] = torch.tensor([int(user) for user in users], dtype=torch.long)
        return inputs

    def item_inputs(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """
        `item_text_ids` and `item_text_mask` `(n, length)`, `item_readout_ids` `(readout length,)` and `items` `(n,)`
        of item indices.
        """
        indices = [int(i) for i in indices]
        self._check(indices)
        ids, mask = self._padded([self._item_tokens(i) for i in indices], "item")
        readout = torch.tensor(self._tokens(self.templates.item_readout, False))
        return {
            "item_text_ids": ids,
            "item_text_mask": mask,
            "item_readout_ids": readout,
            "items": torch.tensor(indices),
        }

    def item_lengths(self) -> list[int]:
        """Tokens of each item's text, to batch items of like length together."""
        return [len(self._item_tokens(i)) for i in range(len(self.item_ids))]

    # files -----------------------------------------------------------------------------------------------------------

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> list[str]:
        """Saves the tokenizer's files, `processor_config.json` and `items.json`."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder)
        settings = {"processor_class": type(self).__name__, "templates": self.templates.to_dict()}
        settings |= {name: getattr(self, name) for name in _LIMITS}
        table = {"item_ids": self.item_ids, "titles": self.titles, "attributes": self.attributes}
        for name, content in ((SETTINGS_FILE, settings), (ITEMS_FILE, table)):
            with replacing(folder / name) as temporary:
                temporary.write_text(
                    json.dumps(content, ensure_ascii=False, indent=1 if name == SETTINGS_FILE else None), "utf-8"
                )
        return [str(folder / SETTINGS_FILE), str(folder / ITEMS_FILE)]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> RARecProcessor:
        """Loads what `save_pretrained` wrote, from a folder or a Hub repository."""
        path = str(pretrained_model_name_or_path)
        found = {name: cached_file(path, name, **kwargs) for name in (SETTINGS_FILE, ITEMS_FILE)}
        settings = json.loads(Path(found[SETTINGS_FILE]).read_text("utf-8"))
        table = json.loads(Path(found[ITEMS_FILE]).read_text("utf-8"))
        tokenizer = AutoTokenizer.from_pretrained(path, **kwargs)
        return cls(tokenizer, **table, templates=settings["templates"], **{name: settings[name] for name in _LIMITS})


__all__ = ["RARecProcessor"]
