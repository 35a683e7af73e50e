"""Hard prompts: rows of the item table -> pieces of text. Pure text, no tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class PromptTemplates:
    """
    The wording of the hard prompts, free to change for a domain or a language.

    A prompt is an opening, entries, and a readout: the last words, at whose last token the representation is read.
    Titles are kept apart from the wording so that they can be tokenised as plain text, whatever they hold.

    Args:
        user_opening: before the history, which follows oldest first.
        history_separator: before each title of the history.
        user_readout: after the history.
        item_opening: before the item's title; its tokens are left out where an item's text states are averaged.
        attribute_format: wording between title and an attribute's value, given the attribute's `name`.
        item_readout: after the item's text.
    """

    user_opening: str = "A user chose these, oldest first:"
    history_separator: str = "\n- "
    user_readout: str = "\nNext choice:"
    item_opening: str = "Item:\n"
    attribute_format: str = "\n{name}: "
    item_readout: str = "\nSimilar to:"

    def __post_init__(self) -> None:
        for name in ("user_readout", "item_readout"):
            if not getattr(self, name):
                raise ValueError(
                    f"`{name}` must hold at least one word: the representation is read at its last token."
                )

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    def user_pieces(self, titles: Sequence[str]) -> list[tuple[str, bool]]:
        """The user's text as `(piece, is data)` pairs, the wording and the titles apart."""
        pieces = [(self.user_opening, False)]
        for title in titles:
            pieces += [(self.history_separator, False), (title, True)]
        return pieces

    def item_pieces(self, title: str, attributes: Mapping[str, str]) -> list[tuple[str, bool]]:
        """The item's text as `(piece, is data)` pairs."""
        pieces = [(self.item_opening, False), (title, True)]
        for name, value in attributes.items():
            pieces += [(self.attribute_format.format(name=name), False), (value, True)]
        return pieces


__all__ = ["PromptTemplates"]
