"""Titles by what somebody types."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def folded(text: str) -> str:
    """Lower case without accents: what somebody types who looks for `"Amélie"`."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


class TitleSearch:
    """
    Finds titles that hold every word typed, in any order and also as a part of a word.

    Args:
        titles (`list[str]`): of the catalogue; the position is the item index.
    """

    def __init__(self, titles: Sequence[str]) -> None:
        self._folded = [folded(title) for title in titles]

    def holding(self, text: str) -> list[int]:
        """Item indices of the titles that hold every word, in catalogue order; all of them for no word."""
        words = folded(text).split()
        return [n for n, title in enumerate(self._folded) if all(word in title for word in words)]

    def find(self, text: str, limit: int = 10) -> tuple[list[int], int]:
        """
        The best matches and how many there are: titles that begin with the text first, then those where every typed
        word begins a word, then the others; among equals the shortest, then catalogue order. None for no word.
        """
        words = folded(text).split()
        if not words:
            return [], 0
        typed, matches = " ".join(words), self.holding(text)

        def order(item: int) -> tuple[bool, bool, int, int]:
            title = self._folded[item]
            begins = all(title.startswith(word) or f" {word}" in title or f"({word}" in title for word in words)
            return not title.startswith(typed), not begins, len(title), item

        return sorted(matches, key=order)[:limit], len(matches)


__all__ = ["TitleSearch", "folded"]
