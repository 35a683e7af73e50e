"""Millions of ids and titles as one block of memory that reads like a list of `str`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import index
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Texts"]

AT_ONCE = 1 << 16  # texts that iteration turns into `str` together


class Texts(Sequence):
    """
    A read-only list of texts; each becomes a `str` when it is looked at.

    Equal to a list (or any other sequence) of the same texts. `list(texts)` is the list, which `json` wants;
    `pa.array(texts)` and `np.asarray(texts)` work without one.

    Args:
        texts (`pa.Array` or an iterable of `str`): without missing ones.

    Raises:
        ValueError: a missing text.
    """

    def __init__(self, texts: pa.Array | Iterable[str]) -> None:
        import pyarrow as pa

        if not isinstance(texts, pa.Array):
            texts = pa.array(texts if isinstance(texts, (Sequence, np.ndarray)) else list(texts), pa.large_string())
        self._texts = texts.cast(pa.large_string())
        if self._texts.null_count:
            raise ValueError(f"Expected a text in every place, {self._texts.null_count} of {len(texts)} are missing.")

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, place: SupportsIndex) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Texts: ...

    def __getitem__(self, place: SupportsIndex | slice) -> str | Texts:
        if isinstance(place, slice):
            return Texts(self._texts[place])
        return self._texts[index(place)].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), AT_ONCE):
            yield from self._texts[start : start + AT_ONCE].to_pylist()

    def __contains__(self, text: object) -> bool:
        import pyarrow.compute as pc

        return isinstance(text, str) and pc.any(pc.equal(self._texts, text)).as_py() is True

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return self._texts.equals(other._texts)
        if isinstance(other, str) or not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"Texts([{shown}{f', ... {len(self)} in all' if len(self) > 3 else ''}])"

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        return self._texts if type is None else self._texts.cast(type)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(list(self), dtype=dtype)

    def take(self, places: np.ndarray) -> Texts:
        """The texts at these places, in their order."""
        import pyarrow as pa

        return Texts(self._texts.take(pa.array(places)))
