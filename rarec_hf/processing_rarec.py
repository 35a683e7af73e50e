"""`RARecProcessor`: tokenizer, prompt templates, item table and id map; histories in, model inputs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .id_encoder import padded_histories
from .ids import WRITTEN_AS_FLOAT, id_text, shown
from .item_table_checks import checked_attributes, checked_ids, checked_limits, checked_titles
from .piece_tokens import PieceTokens
from .processor_files import LIMITS, PROCESSOR_SETTINGS, ProcessorFilesMixin
from .prompts import PromptTemplates
from .token_texts import SharedTexts, UserText, padded_texts


class RARecProcessor(ProcessorFilesMixin):
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
        history_block (`int`): titles are left out in blocks of this many, counted from the start of the history. With
            1 the text always holds as many of the latest as it may; with more it holds up to `history_block - 1`
            fewer, but begins at the same title for that many events, so that all that was computed of it stays valid.
        item_titles (`bool`): False leaves title and attributes out of an item's text: only its soft prompts say which
            item it is.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        item_ids: Sequence[str] = (),
        titles: Sequence[str] = (),
        attributes: Sequence[Mapping[str, str]] | None = None,
        templates: PromptTemplates | Mapping[str, str] | None = None,
        max_history_items: int = 10,
        max_title_tokens: int = 24,
        max_text_tokens: int = 192,
        history_block: int = 1,
        item_titles: bool = True,
    ) -> None:
        super().__init__(tokenizer)
        self.item_ids = checked_ids(item_ids)
        self.titles = checked_titles(titles, self.item_ids)
        self.attributes = checked_attributes(attributes, self.item_ids)
        if not len(self.item_ids) == len(self.titles) == len(self.attributes):
            raise ValueError(
                f"Expected one title and one set of attributes an item (`item_ids`), got {len(self.item_ids)} ids, "
                f"{len(self.titles)} titles and {len(self.attributes)} attributes."
            )
        self._index = {item_id: index for index, item_id in enumerate(self.item_ids)}
        self.templates = templates if isinstance(templates, PromptTemplates) else PromptTemplates.of(templates)
        self.max_history_items, self.max_title_tokens = max_history_items, max_title_tokens
        self.max_text_tokens, self.history_block = max_text_tokens, history_block
        checked_limits(**{name: getattr(self, name) for name in LIMITS})
        if not isinstance(item_titles, bool):
            raise ValueError(f"`item_titles` must be True or False, got {shown(item_titles)}.")
        self.item_titles = item_titles
        self._pieces = PieceTokens(tokenizer)
        self._pieces.check_names({name for row in self.attributes for name in row}, self.templates.attribute_format)
        first = tokenizer("a")["input_ids"][:1]
        self._opening = first if first == [tokenizer.bos_token_id] else []
        if (length := len(self._user_tokens([]))) > max_text_tokens:
            raise ValueError(
                f"`max_text_tokens` is {max_text_tokens}, but the user prompt's opening alone takes {length} tokens. "
                "Raise the limit or shorten `user_opening`."
            )

    def with_items(
        self, item_ids: Sequence[str], titles: Sequence[str], attributes: Sequence[Mapping[str, str]] | None = None
    ) -> RARecProcessor:
        """A processor of the same settings with more items at the catalogue's end."""
        ids = checked_ids(item_ids)
        titles, attributes = checked_titles(titles, ids), checked_attributes(attributes, ids)
        if not len(ids) == len(titles) == len(attributes):
            raise ValueError(
                f"Expected one title and one set of attributes an item, got {len(ids)} ids, {len(titles)} titles and "
                f"{len(attributes)} attributes."
            )
        settings = {name: getattr(self, name) for name in PROCESSOR_SETTINGS}
        table = ([*self.item_ids, *ids], [*self.titles, *titles], [*self.attributes, *attributes])
        return type(self)(self.tokenizer, *table, templates=self.templates, **settings)

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
        ids = [self._known_id(i) for i in item_ids]
        if unknown := [i for i in ids if i not in self._index]:
            raise ValueError(
                f"{len(unknown)} of {len(ids)} item ids are not in the catalogue of {len(self.item_ids)} items, "
                f"the first: {unknown[:5]}. Ids of this catalogue look like {self.item_ids[:3]}. Leave "
                "unknown ids out of the history."
            )
        return [self._index[i] for i in ids]

    def _known_id(self, item_id: str | int | float) -> str:
        """The catalogue's way to write an id: as it stands, else by value, as ids of tables are read."""
        if isinstance(item_id, str) and item_id in self._index:
            return item_id
        if isinstance(item_id, bool) or not isinstance(item_id, (str, bytes, int, float, np.integer, np.floating)):
            raise ValueError(
                f"A history must hold texts or numbers as item ids, got a {type(item_id).__name__}: {shown(item_id)}."
            )
        text = id_text(item_id, "A history")
        return text[:-2] if text not in self._index and WRITTEN_AS_FLOAT.fullmatch(text) else text

    def index_of(self, item_id: str) -> int | None:
        """The item index of an external id, `None` if the catalogue has no such id."""
        return self._index.get(item_id)

    # text ------------------------------------------------------------------------------------------------------------

    def _tokens(self, piece: str, is_data: bool) -> list[int]:
        return self._pieces(piece, self.max_title_tokens if is_data else None)

    def _user_tokens(self, history: Sequence[int] | np.ndarray) -> list[int]:
        return self.user_text(history).ids

    def user_text(self, history: Sequence[int] | np.ndarray) -> UserText:
        """
        The user's text of a whole history of item indices, oldest first. Of two histories of one user whose texts
        begin at the same title, the shorter one's text is the beginning of the longer one's.
        """
        self._check(history)
        first = max(0, len(history) - self.max_history_items)
        first = self._block_start(first, len(history))
        opening, *entries = self.templates.user_pieces([self.titles[i] for i in history[first:]])
        opening = [*self._opening, *self._tokens(*opening)]
        entries = [self._tokens(*entries[n]) + self._tokens(*entries[n + 1]) for n in range(0, len(entries), 2)]
        room = self.max_text_tokens - len(opening) - sum(map(len, entries))
        left_out = 0
        while room < 0 and left_out < len(entries):
            stop = self._block_start(first + left_out + 1, len(history)) - first
            room += sum(map(len, entries[left_out:stop]))
            left_out = stop
        ends = [len(opening)]
        for entry in entries[left_out:]:
            ends.append(ends[-1] + len(entry))
        return UserText([*opening, *(token for entry in entries[left_out:] for token in entry)], ends)

    def _block_start(self, first: int, length: int) -> int:
        """The first block that begins at title `first` or later; where that leaves no title, `first` itself."""
        start = -(-first // self.history_block) * self.history_block
        return start if start < length else first

    @property
    def item_opening_length(self) -> int:
        """Tokens that stand before the title in every item's text."""
        return len(self._opening) + len(self._tokens(self.templates.item_opening, False))

    def _item_tokens(self, index: int) -> list[int]:
        title, attributes = (self.titles[index], self.attributes[index]) if self.item_titles else ("", {})
        pieces = self.templates.item_pieces(title, attributes)
        ids = self._opening + [t for piece in pieces for t in self._tokens(*piece)]
        return ids[: self.max_text_tokens]

    def _check(self, indices: Sequence[int] | np.ndarray) -> None:
        if len(indices) and not (0 <= min(indices) and max(indices) < len(self.item_ids)):
            raise ValueError(
                f"Item indices must be within 0..{len(self.item_ids) - 1}, got {min(indices)}..{max(indices)}."
            )

    def _padded(self, rows: list[list[int]], what: str) -> tuple[Tensor, Tensor]:
        if any(not row for row in rows):
            raise ValueError(f"A {what}'s text has no token. Give it an opening in the templates, or a title.")
        return padded_texts(rows)

    def shared_texts(self, histories: Sequence[Sequence[int] | np.ndarray]) -> SharedTexts:
        """The texts of histories of item indices, each distinct text once and none that begins another."""
        tokens = [tuple(self._user_tokens(history)) for history in histories]
        order = sorted(range(len(tokens)), key=tokens.__getitem__, reverse=True)  # a text follows those it begins
        texts: list[list[int]] = []
        rows, ends = [0] * len(tokens), [len(text) for text in tokens]
        for n in order:
            if not texts or tuple(texts[-1][: ends[n]]) != tokens[n]:
                texts.append(list(tokens[n]))
            rows[n] = len(texts) - 1
        return SharedTexts(texts, rows, ends)

    def user_inputs(
        self,
        histories: Sequence[Sequence[int] | np.ndarray],
        max_history: int,
        users: Sequence[int] | np.ndarray | None = None,
        shared: SharedTexts | None = None,
    ) -> dict[str, Tensor]:
        """
        Args:
            histories: item indices, oldest first; may be empty.
            max_history (`int`): latest items that the ID encoder reads.
            users (`list[int]`, *optional*): user indices, -1 for an unknown user, for an ID encoder with a table of
                users. Only with the whole history of each: the table knows nothing of an earlier one.
            shared ([`SharedTexts`], *optional*): the texts of these histories, several of which may be read from one.

        Returns:
            `user_text_ids` and `user_text_mask` `(batch, length)`, right-padded; `user_readout_ids` `(readout
            length,)`; `history` `(batch, max length)`, item indices right-padded with -1; `users` `(batch,)` if given;
            with `shared`, the texts are its, with `user_text_rows` and `user_text_ends` `(batch,)`.
        """
        histories = [[int(i) for i in h] for h in histories]
        for history in histories:
            self._check(history)
        texts = [self._user_tokens(h) for h in histories] if shared is None else shared.texts
        ids, mask = self._padded(texts, "user")
        padded = padded_histories(histories, max_history)
        readout = torch.tensor(self._tokens(self.templates.user_readout, False))
        inputs = {"user_text_ids": ids, "user_text_mask": mask, "user_readout_ids": readout, "history": padded}
        if shared is not None:
            if len(shared.rows) != len(histories):
                raise ValueError(f"Expected a text for each of {len(histories)} histories, got {len(shared.rows)}.")
            inputs["user_text_rows"] = torch.tensor(shared.rows, dtype=torch.long)
            inputs["user_text_ends"] = torch.tensor(shared.ends, dtype=torch.long)
        if users is not None:
            if len(users) != len(histories):
                raise ValueError(f"Expected one user for each of {len(histories)} histories, got {len(users)}.")
            inputs["users"] = torch.tensor([int(user) for user in users], dtype=torch.long)
        return inputs

    def item_inputs(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
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

    def item_texts(self, indices: Sequence[int] | np.ndarray) -> list[list[int]]:
        """
        Token ids of the texts of item indices.

        Raises:
            ValueError: an item has neither a title nor a wording of the prompt, so that its text has no token.
        """
        self._check(indices)
        texts = [self._item_tokens(index) for index in indices]
        if without := [self.item_ids[index] for index, text in zip(indices, texts, strict=True) if not text]:
            raise ValueError(
                f"The texts of {len(without)} items have no token, the first item ids: {without[:5]}. Give them a "
                "title, or an opening in the templates."
            )
        return texts


__all__ = ["RARecProcessor"]
