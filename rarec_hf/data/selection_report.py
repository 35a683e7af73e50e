"""What a selection of alignment samples kept, as text and as a chart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..chart_style import BLUE, GREY, INK, new_figure, save_png, tidy
from ..whole_files import replacing

__all__ = ["Distribution", "SelectionReport"]

WIDTH, GAP = 0.4, 0.02  # of the paired bars


@dataclass(frozen=True)
class Distribution:
    """
    How samples spread over the buckets of one property, before and after the selection.

    Attributes:
        labels (`list[str]`): the range of values of each bucket.
        available, drawn (`np.ndarray` of shape `(n_buckets,)`): how many samples each bucket holds.
    """

    labels: Sequence[str]
    available: np.ndarray
    drawn: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, buckets: np.ndarray, drawn: np.ndarray) -> Distribution:
        """From the value and the bucket of every available sample, and the rows of the drawn ones."""
        filled = np.bincount(buckets) > 0
        place = (filled.cumsum() - 1)[buckets]
        filled = np.flatnonzero(filled)
        low, high = np.full(len(filled), np.iinfo(np.int64).max), np.full(len(filled), -1)
        np.minimum.at(low, place, values)
        np.maximum.at(high, place, values)
        labels = [f"{a:,}" if a == b else f"{a:,}–{b:,}" for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        return cls(labels, *(np.bincount(p, minlength=len(filled)) for p in (place, place[drawn])))


@dataclass(frozen=True)
class SelectionReport:
    """
    What [`select_samples`] kept.

    Attributes:
        counts (`dict[str, int]`): samples available, dropped as noise and drawn; buckets, cells, users, items; seed.
        rules (`dict[str, bool]`): which of denoising, user diversity and item diversity were used.
        history_length, target_popularity ([`Distribution`]): all available samples beside the drawn ones.
    """

    counts: dict[str, int]
    rules: dict[str, bool]
    history_length: Distribution
    target_popularity: Distribution

    def __repr__(self) -> str:
        drawn, available = self.counts["samples_drawn"], self.counts["samples_available"]
        rules = [name for name, used in self.rules.items() if used]
        return f"SelectionReport({drawn} of {available} samples, rules={rules})"

    def to_markdown(self) -> str:
        """The counts of each rule, and both distributions as tables."""
        c = self.counts
        kept = c["samples_available"] - c["samples_dropped_as_noise"]
        effects = {
            "denoise": (
                kept,
                f"{c['samples_dropped_as_noise']:,} dropped: no word of the target's title in those of the history",
            ),
            "user_diversity": (
                c["samples_drawn"],
                f"drawn evenly over {c['length_buckets']} buckets of history length",
            ),
            "item_diversity": (
                c["samples_drawn"],
                f"drawn evenly over {c['popularity_buckets']} buckets of target popularity",
            ),
        }
        lines = [
            f"Alignment samples: {c['samples_drawn']:,} of {c['samples_available']:,} drawn, from "
            f"{c['cells_drawn_from']} of {c['cells_filled']} cells of the buckets' grid; {c['users_drawn']:,} users, "
            f"{c['target_items_drawn']:,} target items, seed {c['seed']}.",
            "",
            "| rule | samples left | what it did |",
            "| :--- | ---: | :--- |",
            f"| none | {c['samples_available']:,} | |",
        ]
        for rule, (left, effect) in effects.items():
            cells = f"{left:,} | {effect}" if self.rules[rule] else " | not used"
            lines.append(f"| {rule.replace('_', ' ')} | {cells} |")
        for title, part in self._parts():
            lines += ["", f"| {title} | available | | drawn | |", "| ---: | ---: | ---: | ---: | ---: |"]
            shares = [counts / max(1, counts.sum()) for counts in (part.available, part.drawn)]
            for row, label in enumerate(part.labels):
                before, after = (f"{counts[row]:,}" for counts in (part.available, part.drawn))
                lines.append(f"| {label} | {before} | {shares[0][row]:.1%} | {after} | {shares[1][row]:.1%} |")
        return "\n".join(lines) + "\n"

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes `selection.md` and `selection.png` into `folder`, each whole or not at all; returns the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "selection.md") as path:
            path.write_text(self.to_markdown(), "utf-8")
        self.plot(folder / "selection.png")
        return folder

    def plot(self, path: str | os.PathLike) -> Path:
        """Draws the shares of both distributions before and after the selection, as a PNG; returns the path."""
        figure = new_figure(8.5, 6.2)
        axes = figure.subplots(2, 1)
        for axis, (title, part) in zip(axes, self._parts(), strict=True):
            place = np.arange(len(part.labels))
            for shift, counts, colour, name in (
                (-(WIDTH + GAP) / 2, part.available, GREY, "all available"),
                ((WIDTH + GAP) / 2, part.drawn, BLUE, "drawn"),
            ):
                share = 100 * counts / max(1, counts.sum())
                axis.bar(place + shift, share, WIDTH, color=colour, label=f"{name} ({counts.sum():,})")
                for x, height in zip(place + shift, share, strict=True):
                    text = f"{height:.0f}" if height >= 9.95 or height == 0 else f"{height:.1f}"
                    axis.text(x, height, text, ha="center", va="bottom", fontsize=7, color=INK)
            axis.set_xticks(place, part.labels)
            axis.set_ylabel("% of samples", fontsize=9, color=INK)
            axis.set_title(title[0].upper() + title[1:], loc="left", fontsize=11)
            axis.margins(y=0.12)
            tidy(axis, grid="y")
        axes[0].legend(frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
        used = [name.replace("_", " ") for name, is_used in self.rules.items() if is_used]
        note = f"rules used: {', '.join(used) or 'none'}"
        if self.rules["denoise"]:
            dropped, available = (self.counts[name] for name in ("samples_dropped_as_noise", "samples_available"))
            note += f"; {dropped:,} of {available:,} samples dropped as noise"
        figure.supxlabel(note, fontsize=8, color=INK)
        return save_png(figure, Path(path))

    def _parts(self) -> tuple[tuple[str, Distribution], ...]:
        return (
            ("items in the history", self.history_length),
            ("interactions of the target in the training part", self.target_popularity),
        )
