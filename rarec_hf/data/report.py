"""One page about the data: sizes, lengths, popularity, time, and everything that was dropped or is missing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..whole_files import replacing
from .interactions import Interactions
from .report_charts import draw_data_report
from .timestamps import format_time

__all__ = ["DataReport"]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
# What the counts of `Interactions.report` mean, in the order in which they were dropped.
DROPPED = {
    "malformed_rows_dropped": "rows of a file with the wrong number of fields, or no JSON object",
    "rows_without_user_id_dropped": "rows without a user id",
    "rows_without_item_id_dropped": "rows without an item id",
    "rows_without_time_dropped": "rows whose time is missing or cannot be read",
    "exact_duplicates_dropped": "rows equal to another in user, item and time",
    "repeats_dropped": "later interactions of a user with the same item",
    "k_core_interactions_dropped": "interactions of users or items below the k-core",
}
ABOUT_ITEMS = {
    "items_in_table": "items in the items table",
    "items_without_interactions": "of them without interactions, left out",
    "items_missing_from_table": "items that the items table lacks",
    "item_rows_without_id_dropped": "rows of the items table without an id, dropped",
    "duplicate_item_rows_dropped": "rows of the items table for an item that had one, dropped",
    "conflicting_item_titles": "items with several different titles",
    "titles_cleaned": "titles with entities or blanks cleaned",
    "untitled_items": "items without a title",
}


@dataclass(frozen=True, eq=False)
class DataReport:
    """
    What a reader must know about the data before believing a result on them.

    Attributes:
        counts (`Mapping[str, int | str]`): `Interactions.report`.
        lengths (`np.ndarray` of shape `(n_users,)`): interactions of each user.
        popularity (`np.ndarray` of shape `(n_items,)`): interactions of each item, falling.
        timestamps (`np.ndarray` of shape `(n_interactions,)`): as they are.
        timestamp_unit (`str`): their unit.
        ties (`int`): consecutive interactions of a user at the same time.
        items_sharing_a_title (`int`): items whose title another item has, too.
    """

    counts: Mapping[str, int | str]
    lengths: np.ndarray
    popularity: np.ndarray
    timestamps: np.ndarray
    timestamp_unit: str
    ties: int
    items_sharing_a_title: int

    def __repr__(self) -> str:
        users, items, events = len(self.lengths), len(self.popularity), len(self.timestamps)
        return f"DataReport(n_users={users}, n_items={items}, n_interactions={events})"

    @classmethod
    def of(cls, interactions: Interactions) -> DataReport:
        """The report on these interactions; nothing is written yet."""
        times, starts = interactions.timestamps, interactions.offsets[1:-1]
        equal = times[1:] == times[:-1]
        equal[starts[(starts > 0) & (starts < len(times))] - 1] = False  # the next user's first interaction
        popularity = np.bincount(interactions.item_index, minlength=interactions.n_items)
        titles = pd.Series(list(interactions.items.titles), dtype="str")
        return cls(
            counts=interactions.report,
            lengths=np.diff(interactions.offsets),
            popularity=np.sort(popularity)[::-1],
            timestamps=times,
            timestamp_unit=interactions.timestamp_unit,
            ties=int(equal.sum()),
            items_sharing_a_title=int(titles.duplicated(keep=False).sum()),
        )

    @property
    def n_interactions(self) -> int:
        return len(self.timestamps)

    @property
    def density(self) -> float:
        """Interactions by users times items."""
        return self.n_interactions / (len(self.lengths) * len(self.popularity))

    @property
    def pairs(self) -> int:
        """Consecutive interactions of one user."""
        return self.n_interactions - int((self.lengths > 0).sum())

    def top_share(self, share: float) -> float:
        """The share of all interactions that the most popular `share` of the items (one at least) hold."""
        top = max(1, round(share * len(self.popularity)))
        return float(self.popularity[:top].sum() / max(self.n_interactions, 1))

    @property
    def gini(self) -> float:
        """Gini coefficient of the items' popularity: 0 when all are equally popular, near 1 when one has all."""
        counts, n = self.popularity[::-1].astype(float), len(self.popularity)
        return float(2 * (np.arange(1, n + 1) * counts).sum() / (n * counts.sum()) - (n + 1) / n)

    def to_markdown(self) -> str:
        """The page."""
        n_users, n_items = len(self.lengths), len(self.popularity)
        sources = [f"`{self.counts[key]}`" for key in ("interactions_source", "items_source") if key in self.counts]
        lines = ["# Data", ""]
        if sources:
            lines += [f"From {' and '.join(sources)}.", ""]
        first_and_last = (self.timestamps.min(), self.timestamps.max())
        span = " to ".join(format_time(time, self.timestamp_unit) for time in first_and_last)
        known = self.timestamp_unit != "unknown"
        rows = [
            ("users", f"{n_users:,}"),
            ("items", f"{n_items:,}"),
            ("interactions", f"{self.n_interactions:,}"),
            ("density", f"{100 * self.density:.4g} %"),
            ("time" if known else "order numbers (no known unit of time)", span + (" (UTC)" if known else "")),
            ("unit of the timestamps", self.timestamp_unit),
            ("equal times in a row of one user", _share(self.ties, self.pairs)),
            ("users with one interaction", _share(int((self.lengths == 1).sum()), n_users)),
            ("interactions of the most popular 1 % of the items", f"{100 * self.top_share(0.01):.1f} %"),
            ("interactions of the most popular 10 % of the items", f"{100 * self.top_share(0.1):.1f} %"),
            ("Gini coefficient of popularity", f"{self.gini:.3f}"),
        ]
        lines += _table(("", ""), rows)
        header = ("interactions of", *(_quantile_name(q) for q in QUANTILES), "mean")
        spreads = [
            (name, *(f"{value:,.0f}" for value in np.quantile(counts, QUANTILES)), f"{counts.mean():,.1f}")
            for name, counts in (("a user", self.lengths), ("an item", self.popularity))
        ]
        lines += ["", *_table(header, spreads)]
        lines += ["", "![The same in charts](data.png)", "", "## Dropped", ""]
        read = self.counts.get("interactions_read")
        dropped = [(text, int(self.counts[key])) for key, text in DROPPED.items() if self.counts.get(key)]
        total = f" of {read:,} rows" if isinstance(read, int) else ""
        if dropped:
            lines += _table((f"reason{total}", "rows"), [(text, f"{count:,}") for text, count in dropped])
        else:
            lines.append(f"None{total}.")
        if "first_row_dropped" in self.counts:
            lines += ["", f"The first broken row: {self.counts['first_row_dropped']}."]
        if self.counts.get("k_core"):
            lines += [
                "",
                f"The {self.counts['k_core']}-core left out {self.counts['k_core_users_dropped']:,} users and "
                f"{self.counts['k_core_items_dropped']:,} items.",
            ]
        about = [(text, f"{self.counts[key]:,}") for key, text in ABOUT_ITEMS.items() if self.counts.get(key)]
        about.append(("items that share their title with another", _share(self.items_sharing_a_title, n_items)))
        lines += ["", "## Items", "", *_table(("", ""), about)]
        return "\n".join(lines) + "\n"

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """
        Write `data.md` and `data.png`, each whole or not at all.

        Returns:
            the two files.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "data.md") as temporary:
            temporary.write_text(self.to_markdown(), "utf-8")
        draw_data_report(self, folder / "data.png")
        return [folder / "data.md", folder / "data.png"]

    def irregularities(self) -> list[tuple[str, int, int]]:
        """What is odd about the data, as (what, how many, of how many)."""
        counts, n_items = self.counts, len(self.popularity)
        read = int(counts.get("interactions_read", self.n_interactions))
        broken = sum(int(counts.get(key, 0)) for key in list(DROPPED)[:4])
        return [
            ("consecutive times that tie", self.ties, self.pairs),
            ("rows that are broken", broken, read),
            ("rows that are exact duplicates", int(counts.get("exact_duplicates_dropped", 0)), read),
            ("rows that repeat user and item", int(counts.get("repeats_dropped", 0)), read),
            ("users with one interaction", int((self.lengths == 1).sum()), len(self.lengths)),
            ("items without a title", int(counts.get("untitled_items", 0)), n_items),
            ("items that share their title", self.items_sharing_a_title, n_items),
        ]


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / max(total, 1):.1f} %)"


def _quantile_name(quantile: float) -> str:
    return {0.0: "least", 0.5: "median", 1.0: "most"}.get(quantile, f"{100 * quantile:.0f} %")


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    rule = "| " + " | ".join([":---", *["---:"] * (len(header) - 1)]) + " |"
    return ["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)]
