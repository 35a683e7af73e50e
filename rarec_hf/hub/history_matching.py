"""What a user writes of a history, item ids or titles, to item ids of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..processing_rarec import RARecProcessor

READINGS = ("auto", "ids", "titles")
_SHOWN = 5


def _plain(title: str) -> str:
    """A title without regard to case and to blanks around and between its words."""
    return " ".join(title.casefold().split())


class HistoryMatcher:
    """
    Finds the items that the entries of a history mean.

    Args:
        processor ([`RARecProcessor`]): whose item table is searched.
    """

    def __init__(self, processor: RARecProcessor) -> None:
        self.processor = processor
        self._holders: dict[str, list[int]] = {}  # plain title -> item indices
        for index, title in enumerate(processor.titles):
            if plain := _plain(title):
                self._holders.setdefault(plain, []).append(index)

    def item_ids(self, history: Sequence[Any], read_as: str = "auto") -> list[str]:
        """
        Item ids of a history's entries, in their order.

        Args:
            history (`list`): item ids or titles. A title is matched whole, without regard to case and blanks; where
                several items then share it, the one written exactly so.
            read_as (`str`): `"ids"` or `"titles"`; `"auto"`: ids where all entries are ids, otherwise each entry is an
                id or a title.

        Raises:
            ValueError: entries that mean no item, or more than one; all of them are named.
        """
        if read_as not in READINGS:
            raise ValueError(f"`history_as` must be one of {list(READINGS)}, got {read_as!r}.")
        entries = [self._entry(entry) for entry in history]
        if read_as == "ids":
            indices = self.processor.item_indices(entries)
        elif read_as == "titles":
            indices = self._matched(entries, [self._titled(entry) for entry in entries])
        else:
            indices = self._read_either_way(entries, history)
        return [self.processor.item_ids[index] for index in indices]

    def _entry(self, entry: Any) -> str:
        if isinstance(entry, bool) or not isinstance(entry, (str, int, np.integer)):
            raise ValueError(f"Expected item ids or titles in a history, got {type(entry).__name__} {entry!r:.100}.")
        return str(entry)

    def _titled(self, entry: str) -> list[int]:
        """Item indices that this title may mean."""
        found = self._holders.get(_plain(entry), [])
        exact = [index for index in found if self.processor.titles[index] == entry]
        return exact if len(exact) == 1 else found

    def _read_either_way(self, entries: list[str], history: Sequence[Any]) -> list[int]:
        of_id = [self.processor.index_of(entry) for entry in entries]
        titled = [self._titled(e) if isinstance(h, str) else [] for e, h in zip(entries, history, strict=True)]
        if None in of_id:
            both = zip(of_id, titled, strict=True)
            return self._matched(entries, [sorted({*t} | ({i} - {None})) for i, t in both])
        as_titles = [found[0] for found in titled if len(found) == 1]
        if of_id and len(as_titles) == len(of_id) and as_titles != of_id:
            titles = [self.processor.titles[index] for index in of_id[:_SHOWN]]
            ids = [self.processor.item_ids[index] for index in as_titles[:_SHOWN]]
            raise ValueError(
                f"The history {entries[:_SHOWN]} can be read as item ids (titled {titles}) and as titles (of the ids "
                f"{ids}). Say which: `history_as='ids'` or `history_as='titles'`."
            )
        return of_id

    def _matched(self, entries: list[str], candidates: list[list[int]]) -> list[int]:
        problems = [self._problem(e, found) for e, found in zip(entries, candidates, strict=True) if len(found) != 1]
        if problems:
            more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise ValueError(
                f"{len(problems)} of {len(entries)} entries of a history cannot be matched to the catalogue of "
                f"{len(self.processor.item_ids)} items: {'; '.join(problems[:_SHOWN])}{more}."
            )
        return [found[0] for found in candidates]

    def _problem(self, entry: str, found: list[int]) -> str:
        ids, titles = self.processor.item_ids, self.processor.titles
        if found:
            means = [f"{ids[index]!r} ({titles[index]!r})" for index in found[:_SHOWN]]
            return f"{entry!r} means {len(found)} items, give the id of one: {', '.join(means)}"
        plain = _plain(entry)
        alike = [titles[of[0]] for held, of in self._holders.items() if plain and (plain in held or held in plain)]
        hint = f"; titles like it are {alike[:3]}" if alike else ""
        return f"{entry!r} is no item id and no title (ids look like {ids[:3]}){hint}"


__all__ = ["READINGS", "HistoryMatcher"]
