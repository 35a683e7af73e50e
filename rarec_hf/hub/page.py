"""
The pieces of the page that shows a model, as HTML. Every title, attribute and message passes [`text`], so that markup
in one stays text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from .explain import RankedItem
from .item_map import ItemMap

WIDTH, HEIGHT = 400, 400  # of the map, in its own units
_SHORT = {"ID encoder": "ID"}
_NAMES = {"RA-Rec": "RA-Rec", "ID encoder alone": "ID", "Text alone": "text"}


def text(value: object) -> str:
    """Text for a place in HTML, an attribute's value too."""
    return escape(str(value), quote=True)


def note(words: str, kind: str = "hint") -> str:
    """A paragraph that says what to do (`kind` `"hint"`) or what went wrong (`"problem"`)."""
    role = ' role="alert"' if kind == "problem" else ""
    return f'<p class="rr-{text(kind)}"{role}>{text(words)}</p>'


def status(words: str = "") -> str:
    """What just happened, also for those who listen to the page."""
    return f'<p class="rr-status" role="status" aria-live="polite">{text(words)}</p>'


def search_results(query: str, items: Sequence[int], n_matches: int, titles: Sequence[str], n_items: int) -> str:
    """The titles found, each a button that adds it."""
    if not query.strip():
        return note(f"Type part of a title to search {n_items:,} of them. Enter adds the first one found.")
    if not items:
        return note(f"No title holds “{query.strip()[:60]}”. Try fewer letters, or another word.")
    rows = "".join(
        f'<li><button type="button" data-act="add" data-item="{int(item)}">'
        f'<span aria-hidden="true">+</span> <span class="rr-title">{text(titles[item])}</span></button></li>'
        for item in items
    )
    more = f"{n_matches:,} found, the first {len(items)} shown" if n_matches > len(items) else f"{n_matches:,} found"
    label = text(f"Titles found for “{query.strip()[:60]}”")
    return f'<p class="rr-quiet">{more}</p><ul class="rr-results" aria-label="{label}">{rows}</ul>'


def history_list(history: Sequence[int], titles: Sequence[str], n_read: int) -> str:
    """The history, oldest first, each title with buttons to move and to remove it."""
    if not history:
        return (
            note("The history is empty. Search for a title and add it.")
            + '<button type="button" class="rr-plain" data-act="example">Fill in an example</button>'
        )
    last = len(history) - 1
    rows = []
    for at, item in enumerate(history):
        title = text(titles[item])
        buttons = "".join(
            f'<button type="button" data-act="{act}" data-at="{at}" data-key="{act}-{at}" '
            f'aria-label="{words}: {title}" aria-disabled="{"true" if off else "false"}">{sign}</button>'
            for act, words, sign, off in (
                ("up", "Earlier", "↑", at == 0),
                ("down", "Later", "↓", at == last),
                ("remove", "Remove", "×", False),
            )
        )
        rows.append(f'<li class="rr-chip"><span class="rr-title">{title}</span><span>{buttons}</span></li>')
    cut = f"; the text of the latest {n_read} is read" if len(history) > n_read else ""
    count = f"{len(history)} title{'s' if last else ''}, oldest first{cut}"
    return (
        f'<p class="rr-quiet">{count}</p><ol class="rr-history" aria-label="History">{"".join(rows)}</ol>'
        '<button type="button" class="rr-plain" data-act="clear">Clear the history</button>'
    )


def rankings(lists: Mapping[str, Sequence[RankedItem]], titles: Sequence[str]) -> str:
    """
    The recommendations side by side, each item with its score's parts as numbers, with bars of how far each part is
    above that of the average item, and with its places in the other rankings.
    """
    widest = max((abs(v) for rows in lists.values() for row in rows for v in row.above_average.values()), default=0.0)
    columns = []
    for name, rows in lists.items():
        entries = "".join(_entry(n, name, row, titles[row.item], widest or 1.0) for n, row in enumerate(rows, 1))
        columns.append(f'<section aria-label="{text(name)}"><h3>{text(name)}</h3><ol>{entries}</ol></section>')
    legend = (
        '<p class="rr-quiet">Numbers: the parts that RA-Rec’s score is the sum of. Bars: how far each part is above '
        "(right) or below (left) that of the average item.</p>"
    )
    return f'<div class="rr-rankings">{"".join(columns)}</div>{legend}'


def _entry(place: int, ranking: str, row: RankedItem, title: str, widest: float) -> str:
    parts = "".join(
        f'<span class="rr-part rr-part-{n}"><span>{text(_SHORT.get(name, name))} {value:z.2f}</span>'
        f"{_bar(row.above_average[name] / widest)}</span>"
        for n, (name, value) in enumerate(row.parts.items())
    )
    others = " · ".join(
        f"{text(_NAMES.get(name, name))} #{other:,}" for name, other in row.places.items() if name != ranking
    )
    return (
        f'<li><div class="rr-head"><span class="rr-place">{place}</span><span class="rr-title">{text(title)}</span>'
        f'<span class="rr-score">{row.score:z.2f}</span><button type="button" data-act="add" data-item="{row.item}" '
        f'aria-label="Add to the history: {text(title)}">+</button></div>'
        f'<div class="rr-parts">{parts}</div><p class="rr-quiet">{others}</p></li>'
    )


def _bar(share: float) -> str:
    width = min(50.0, 50.0 * abs(share))
    side = "left" if share >= 0 else "right"
    return f'<i class="rr-bar" aria-hidden="true"><b style="{side}:50%;width:{width:.1f}%"></b></i>'


def map_background(item_map: ItemMap, titles: Sequence[str]) -> str:
    """The items drawn, as grey points that name their title under the pointer."""
    points = "".join(
        f'<circle cx="{x}" cy="{y}" r="1.3" data-title="{text(titles[item])}"/>'
        for item, (x, y) in zip(item_map.items, _at(item_map.points), strict=True)
    )
    return f'<svg class="rr-map rr-map-items" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{points}</svg>'


def map_foreground(
    titles: Sequence[str],
    history: Sequence[int],
    history_points: np.ndarray,
    recommended: Sequence[int],
    recommended_points: np.ndarray,
    user_point: np.ndarray | None,
) -> str:
    """The user, the history and the recommendations, over the grey points. Points are within 0..1."""
    marks = []
    for n, (item, (x, y)) in enumerate(zip(recommended, _at(recommended_points), strict=True), 1):
        named = f"{n}. recommended: {titles[item]}"
        marks.append(
            f'<g class="rr-recommended" data-title="{text(named)}" data-x="{x}" data-y="{y}">'
            f'<circle cx="{x}" cy="{y}" r="6.5"/><text x="{x}" y="{y + 2.6:.1f}">{n}</text></g>'
        )
    for n, (item, (x, y)) in enumerate(zip(history, _at(history_points), strict=True), 1):
        named = f"{n}. of the history: {titles[item]}"
        marks.append(
            f'<g class="rr-chosen" data-title="{text(named)}" data-x="{x}" data-y="{y}">'
            f'<rect x="{x - 5.5:.1f}" y="{y - 5.5:.1f}" width="11" height="11" rx="2"/>'
            f'<text x="{x}" y="{y + 2.6:.1f}">{n}</text></g>'
        )
    if user_point is not None:
        ((x, y),) = _at(user_point[None])
        marks.append(
            f'<g class="rr-user" data-title="the user" data-x="{x}" data-y="{y}">'
            f'<path d="M{x} {y - 9:.1f}L{x + 7:.1f} {y + 6:.1f}H{x - 7:.1f}Z"/></g>'
        )
    words = f"Map: {len(history)} of the history, {len(recommended)} recommended; arrow keys step through them"
    return (
        f'<svg class="rr-map rr-map-marks" viewBox="0 0 {WIDTH} {HEIGHT}" tabindex="0" role="group" '
        f'aria-label="{text(words)}">{"".join(marks)}</svg>'
    )


def map_caption(item_map: ItemMap, n_items: int) -> str:
    """What the map shows, with its legend."""
    many = f"{len(item_map.items):,} of {n_items:,} titles" if len(item_map.items) < n_items else f"{n_items:,} titles"
    placing = "their nearest titles are" if item_map.method == "tsne" else "the same two components put them"
    method = "t-SNE" if item_map.method == "tsne" else "the first two principal components"
    return (
        '<ul class="rr-legend"><li><span class="rr-key rr-key-user"></span>the user</li>'
        '<li><span class="rr-key rr-key-chosen"></span>history</li><li><span class="rr-key rr-key-recommended"></span>'
        'recommended by RA-Rec</li><li><span class="rr-key rr-key-item"></span>other titles</li></ul>'
        f'<p class="rr-quiet">{many} by {method} of the '
        f"LLM’s item representations; the user, and titles not drawn, stand where {placing}. Point at the map, touch "
        "it, or step with the arrow keys to read titles.</p>"
    )


def _at(points: np.ndarray) -> list[tuple[float, float]]:
    inner = 12 + np.asarray(points, dtype=np.float64).reshape(-1, 2) * (np.array([WIDTH, HEIGHT]) - 24)
    return [(round(x, 1), round(y, 1)) for x, y in inner.tolist()]


__all__ = [
    "history_list",
    "map_background",
    "map_caption",
    "map_foreground",
    "note",
    "rankings",
    "search_results",
    "status",
    "text",
]
