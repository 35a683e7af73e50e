"""Hard prompts: rows of the item table -> pieces of text. Pure text, no tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from string import Formatter

from .ids import is_unicode, shown


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
        for field in fields(self):
            if not isinstance(value := getattr(self, field.name), str) or not is_unicode(value):
                raise ValueError(f"`{field.name}` of the prompt templates must be a text, got {shown(value)}.")
        for name in ("user_readout", "item_readout"):
            if not getattr(self, name):
                raise ValueError(
                    f"`{name}` must hold at least one word: the representation is read at its last token."
                )
        try:
            asked = [field for _, *field in Formatter().parse(self.attribute_format) if field[0] is not None]
        except ValueError:  # no format at all
            asked = [[]]
        if any(field != ["name", "", None] for field in asked):
            raise ValueError(
                "`attribute_format` may hold `{name}` and no other field (write other braces twice), got "
                f"{self.attribute_format!r:.100}."
            )

    @classmethod
    def of(cls, wording: Mapping[str, str] | None) -> PromptTemplates:
        """
        Of a table such as `to_dict()` gives; what it leaves out is the default.

        Raises:
            ValueError: no table, an unknown field, or one that is no text.
        """
        wording = {} if wording is None else wording
        if not isinstance(wording, Mapping):
            raise ValueError(f"`templates` must be a table of texts, got {shown(wording)}.")
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in wording if name not in known]:
            raise ValueError(f"`templates` has no field {shown(unknown[0])}; known are {known}.")
        return cls(**wording)

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
