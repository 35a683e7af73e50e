"""The charts of the data report: one PNG of four panels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..chart_style import BLUE, GREY, INK, ORANGE, new_figure, save_png, tidy
from .timestamps import UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from .report import DataReport

__all__ = ["draw_data_report"]

SECONDS_OF_A_DAY = 86_400


def draw_data_report(report: DataReport, path: str | os.PathLike[str]) -> Path:
    """
    Draw history lengths, item popularity, interactions over time (or, without a unit of time, the share of the top
    items) and irregularities.

    Args:
        report (`DataReport`): what to draw.
        path (`str` or `os.PathLike`): PNG to write, whole or not at all.
    """
    figure = new_figure(11, 7.5)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    figure.suptitle(
        f"{len(report.lengths):,} users, {len(report.popularity):,} items, {report.n_interactions:,} interactions",
        x=0.01,
        ha="left",
        fontsize=13,
        color=INK,
    )
    top, bottom = figure.subfigures(2, 1)  # the names of the last panel must not narrow the one above
    (lengths, popularity), (third, irregular) = top.subplots(1, 2), bottom.subplots(1, 2)
    _draw_lengths(lengths, report.lengths)
    _draw_popularity(popularity, report)
    if report.timestamp_unit in UNITS:
        _draw_time(third, report)
    else:
        _draw_concentration(third, report)
    _draw_irregularities(irregular, report)
    return save_png(figure, Path(path))


def _draw_lengths(axis: Axes, lengths: np.ndarray) -> None:
    low, high = int(lengths.min()), int(lengths.max())
    # whole numbers, each its own bar as long as there are few, evenly spaced on the log axis beyond
    edges = np.unique(np.round(np.geomspace(max(low, 1), high + 1, 41)).astype(int))
    axis.hist(lengths, bins=edges - 0.5 if len(edges) > 1 else [low - 0.5, low + 0.5], color=BLUE)
    if high > 20 * max(low, 1):
        axis.set_xscale("log")
        _plain_ticks(axis.xaxis)
    axis.axvline(np.median(lengths), color=ORANGE, linewidth=1.5)
    title = f"History lengths: median {np.median(lengths):,.0f} (line), from {low:,} to {high:,}"
    _finish(axis, title, "interactions of a user (bars widen with the length)", "users")


def _draw_popularity(axis: Axes, report: DataReport) -> None:
    counts = report.popularity
    # points evenly spaced on the log axis: a million of them would only make the file slow
    ranks = np.unique(np.round(np.geomspace(1, len(counts), 600)).astype(int))
    axis.plot(ranks, counts[ranks - 1], color=BLUE, linewidth=1.8, marker="o" if len(ranks) < 3 else None)
    axis.set_xscale("log")
    axis.set_yscale("log")
    _plain_ticks(axis.xaxis)
    _plain_ticks(axis.yaxis)
    top = 100 * report.top_share(0.01)
    title = f"Item popularity: the top 1 % hold {top:.0f} % of the interactions"
    _finish(axis, title, "rank of the item", "interactions")


def _draw_time(axis: Axes, report: DataReport) -> None:
    import matplotlib.dates as dates

    days = report.timestamps / (UNITS[report.timestamp_unit] * SECONDS_OF_A_DAY)
    counts, edges = np.histogram(days, bins=60)
    axis.stairs(counts, edges, fill=True, color=BLUE)
    locator = dates.AutoDateLocator(minticks=3, maxticks=8)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    width = edges[1] - edges[0]
    each = f"{width:.0f} days" if width >= 2 else f"{24 * width:.1f} hours" if width >= 1 / 12 else "bar"
    _finish(axis, "Interactions over time", "date (UTC)", f"interactions in {each}")


def _draw_concentration(axis: Axes, report: DataReport) -> None:
    shares = np.concatenate([[0.0], report.popularity.cumsum() / max(report.n_interactions, 1)])
    places = np.unique(np.linspace(0, len(report.popularity), 400).astype(int))
    axis.plot(100 * places / len(report.popularity), 100 * shares[places], color=BLUE, linewidth=1.8)
    axis.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle="--")
    title = f"Concentration: Gini coefficient {report.gini:.2f}"
    _finish(axis, title, "most popular items, % of the catalogue", "% of the interactions")


def _draw_irregularities(axis: Axes, report: DataReport) -> None:
    rows = report.irregularities()
    shares = np.array([100 * count / max(total, 1) for _, count, total in rows])
    places = np.arange(len(rows))
    axis.barh(places, shares, height=0.6, color=[BLUE if share < 50 else ORANGE for share in shares])
    for place, share, (_, count, _) in zip(places, shares, rows, strict=True):
        text = f"{share:.1f} % ({count:,})" if count else "none"
        axis.text(share + 1.5, place, text, va="center", fontsize=8, color=INK)
    axis.set_yticks(places, [name for name, _, _ in rows])
    axis.invert_yaxis()
    axis.set_xlim(0, 135)  # room for the numbers
    axis.set_xticks([0, 25, 50, 75, 100])
    _finish(axis, "Irregularities", "% of the rows, users or items", "", grid="x")


def _finish(axis: Axes, title: str, x: str, y: str, grid: Literal["x", "y", "both"] = "y") -> None:
    axis.set_title(title, loc="left", fontsize=11, color=INK)
    axis.set_xlabel(x, fontsize=9, color=INK)
    axis.set_ylabel(y, fontsize=9, color=INK)
    tidy(axis, grid)
    if grid == "y" and axis.get_yscale() == "linear":
        axis.yaxis.set_major_formatter("{x:,.0f}")


def _plain_ticks(axis: Axis) -> None:
    """Numbers instead of powers on a log axis, also between the powers where these are few."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = axis.get_data_interval()
    few = high < 1000 * max(low, 1)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=12))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.set_minor_formatter(NullFormatter())
