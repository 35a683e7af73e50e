"""An ID encoder's tables of items, whole or by rows over processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .catalogue_rows import RowsElsewhereError, rows_of_all
from .processes import PartialState

if TYPE_CHECKING:

    class _Encoder(nn.Module):
        config: Any

        def user_vectors(self, history: Tensor, users: Tensor | None = None) -> Tensor: ...

else:
    _Encoder = object


class SpreadTablesMixin(_Encoder):
    """What of an ID encoder's tables is in this process, and what comes from the others."""

    item_tables: tuple[str, ...] = ("item_embeddings.weight",)  # parameters and buffers with a row for each item
    rows: range | None = None  # that the tables here hold; None: all of them

    @torch.no_grad()
    def keep_rows(self, rows: range) -> None:
        """
        Drops all rows of the tables of items but these; other processes hold them. Nothing can be trained or saved
        from then on, and users' vectors are [`user_vectors_of_all`].

        Args:
            rows (`range`): item indices, as [`rows_held`] deals them.

        Raises:
            RowsElsewhereError: the tables are spread already.
        """
        if self.rows is not None:
            raise self._elsewhere("be spread again")
        for name in self.item_tables:
            table = self._table(name)
            self._set_table(name, table[rows.start : rows.stop].clone())  # a view would keep the whole in memory
        self.rows = rows

    def held_rows(self, rows: slice | None) -> slice:
        """
        Where the tables of this process hold some rows of the catalogue, or all of it.

        Raises:
            RowsElsewhereError: other processes hold some of them.
        """
        if self.rows is None:
            return slice(None) if rows is None else rows
        if rows is None:
            raise self._elsewhere("give all items' vectors")
        start, stop, _ = rows.indices(self.config.n_items)
        if start >= stop:
            return slice(0, 0)
        if start < self.rows.start or stop > self.rows.stop:
            raise self._elsewhere(f"give the vectors of items {start}..{stop - 1}")
        return slice(start - self.rows.start, stop - self.rows.start)

    def need_whole_tables(self, to: str = "look items up") -> None:
        """Raises `RowsElsewhereError` where other processes hold rows of the tables."""
        if self.rows is not None:
            raise self._elsewhere(to)

    def user_vectors_of_all(self, history: Tensor, users: Tensor | None = None) -> Tensor:
        """
        `user_vectors`, to the bit, also where the tables are spread: there every process must call it, or
        [`take_part`].

        Args:
            history (`torch.LongTensor` of shape `(batch, length)`): right-padded with -1.
        """
        if self.rows is None:
            return self.user_vectors(history, users)
        items, places = history.clamp(min=0).unique(return_inverse=True)
        if int(items[-1]) >= self.config.n_items:
            raise ValueError(f"Item indices must be within 0..{self.config.n_items - 1}, got {int(items[-1])}.")
        with self._tables_of(items):
            return self.user_vectors(places.masked_fill(history < 0, -1), users)

    def take_part(self) -> None:
        """What a process without a history does while others look theirs up."""
        if self.rows is not None:
            self._rows_from_all(torch.empty(0, dtype=torch.long))

    @contextmanager
    def _tables_of(self, items: Tensor) -> Iterator[None]:
        """The tables hold the rows of these items, in their order, for a while."""
        here, rows = {name: self._table(name) for name in self.item_tables}, self.rows
        found = self._rows_from_all(items)
        try:
            for name, table in found.items():
                self._set_table(name, table)
            self.rows = None
            yield
        finally:
            self.rows = rows
            for name, table in here.items():
                self._set_table(name, table)

    def _rows_from_all(self, items: Tensor) -> dict[str, Tensor]:
        rows = self.rows
        if rows is None:
            raise ValueError("The tables of items are whole in this process; there is nothing to ask of others.")
        found = {}
        for name in self.item_tables:
            table = self._table(name)
            found[name] = rows_of_all(table, rows, items, PartialState()).to(table.device)
        return found

    def _table(self, name: str) -> Tensor:
        owner, _, attribute = name.rpartition(".")
        return getattr(self.get_submodule(owner), attribute).detach()

    def _set_table(self, name: str, table: Tensor) -> None:
        owner, _, attribute = name.rpartition(".")
        module = self.get_submodule(owner)
        of_parameter = attribute in module._parameters
        setattr(module, attribute, nn.Parameter(table, requires_grad=False) if of_parameter else table)

    def _elsewhere(self, what: str) -> RowsElsewhereError:
        held = range(0) if self.rows is None else self.rows
        return RowsElsewhereError(
            f"The ID encoder's tables of items are spread over processes; this one holds {len(held)} of "
            f"{self.config.n_items} rows, from row {held.start}, and cannot {what}. Rank and answer by "
            "`rank_targets(model.scorer(), ..., process=...)`, `recommend_together` or `recommend_to_shards` in every "
            "process; to train, save or explain load it without `by_rows_of`."
        )


__all__ = ["SpreadTablesMixin"]
