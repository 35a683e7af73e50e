"""What the buttons of the page do to a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MOST_ITEMS = 100


def changed(history: Sequence[int], action: Mapping[str, object], titles: Sequence[str]) -> tuple[list[int], str]:
    """
    The history of item indices, oldest first, after an action, and what happened in words.

    Args:
        action (`dict`): `act` is `"add"` with the `item`, `"up"`, `"down"` or `"remove"` with the place `at`, from 0,
            or `"clear"`. Numbers may be text, as a browser sends them.

    Raises:
        ValueError: an unknown act, an item or a place that is not there, or a history of 100 items already.
    """
    history, act = list(history), action.get("act")
    if act == "clear":
        return [], "The history is empty now."
    if act == "add":
        item = _number(action.get("item"), "item", len(titles))
        if len(history) >= MOST_ITEMS:
            raise ValueError(f"The history holds {MOST_ITEMS} titles, the most there may be. Remove one first.")
        return [*history, item], f"Added: {titles[item]}"
    if act not in ("up", "down", "remove"):
        raise ValueError(f"Expected add, up, down, remove or clear, got {str(act)[:40]!r}.")
    at = _number(action.get("at"), "place", len(history))
    item = history.pop(at)
    if act == "remove":
        return history, f"Removed: {titles[item]}"
    to = min(max(at + (1 if act == "down" else -1), 0), len(history))
    history.insert(to, item)
    return history, f"Now {to + 1} of {len(history)}: {titles[item]}"


def _number(value: object, what: str, below: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number < below:
        raise ValueError(f"There is no {what} {str(value)[:40]!r}; there are {below}. Reload the page.")
    return number


__all__ = ["MOST_ITEMS", "changed"]
