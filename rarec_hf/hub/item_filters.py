"""Which items may be recommended: not the seen ones, of some category, with some words in the title."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from .title_search import TitleSearch

MOST_VALUES = 200
_SEPARATORS = re.compile(r"\s*[,|;]\s+|\|")  # "Animation, Children", "Animation|Children"; not "Smith,John"


class ItemFilters:
    """
    Masks of a catalogue.

    Args:
        search ([`TitleSearch`]): over the titles.
        attributes (`list[dict[str, str]]`): of each item; a text such as `"Animation, Children"` names several values.
            An attribute of more than 200 values is no category and is left out.
    """

    def __init__(self, search: TitleSearch, attributes: Sequence[Mapping[str, str]]) -> None:
        self._search, self.n_items = search, len(attributes)
        values = [{(name, value) for name, text in item.items() for value in _values(text)} for item in attributes]
        counts = Counter(pair for pairs in values for pair in pairs)
        of_name = Counter(name for name, _ in counts)
        few = {name for name, n in of_name.items() if n <= MOST_VALUES}
        self.categories = sorted(pair for pair in counts if pair[0] in few)
        self._holders: dict[tuple[str, str], list[int]] = {pair: [] for pair in self.categories}
        for item, pairs in enumerate(values):
            for pair in pairs:
                if pair in self._holders:
                    self._holders[pair].append(item)
        self.counts = {pair: len(items) for pair, items in self._holders.items()}

    def allowed(
        self,
        seen: Sequence[int] = (),
        categories: Sequence[tuple[str, str]] = (),
        title: str = "",
        likeness: np.ndarray | None = None,
        least_likeness: float = 0.0,
    ) -> np.ndarray:
        """
        Booleans `(n_items,)`.

        Args:
            seen: item indices to leave out.
            categories: `(attribute, value)`; an item needs one of the values of every attribute that is named.
            title (`str`): words that the title must hold, all of them.
            likeness (`np.ndarray` of shape `(n_items,)`, *optional*), least_likeness (`float`): items whose title is
                less like the history's are left out; 0 leaves out none.

        Raises:
            ValueError: a category that no item has.
        """
        mask = np.ones(self.n_items, dtype=bool)
        mask[list(seen)] = False
        if title.strip():
            held = np.zeros_like(mask)
            held[self._search.holding(title)] = True
            mask &= held
        if least_likeness > 0 and likeness is not None:
            mask &= likeness >= least_likeness
        by_name: dict[str, np.ndarray] = {}
        for pair in map(tuple, categories):
            if pair not in self._holders:
                raise ValueError(f"No item has the category {pair!r}; the catalogue has {len(self.categories)}.")
            by_name.setdefault(pair[0], np.zeros_like(mask))[self._holders[pair]] = True
        for some in by_name.values():
            mask &= some
        return mask


def _values(text: str) -> list[str]:
    return [value for value in (part.strip() for part in _SEPARATORS.split(text)) if value]


__all__ = ["ItemFilters"]
