"""The splits by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .by_users import by_users
from .global_time import global_time
from .interactions import Interactions
from .leave_one_out import leave_one_out
from .splits import Split

__all__ = ["SPLITS", "split_interactions"]

SPLITS: dict[str, Callable[..., Split]] = {
    "leave_one_out": leave_one_out,
    "global_time": global_time,
    "by_users": by_users,
}


def split_interactions(interactions: Interactions, name: str = "leave_one_out", **options: Any) -> Split:
    """
    Split by name.

    Args:
        interactions (`Interactions`): all of them.
        name (`str`, *optional*, defaults to `"leave_one_out"`): a key of [`SPLITS`].
        options: of that split, such as `alignment_fraction` and `seed`, which all of them take. One that is `None`
            counts as not given.

    Raises:
        ValueError: an unknown split, an option that it does not take, or what the split itself refuses.

    Example:
        ```python
        >>> split_interactions(interactions, "global_time", test_from="2014-07-01").rule
        ```
    """
    if name not in SPLITS:
        raise ValueError(f"Unknown split {name!r}; expected one of {sorted(SPLITS)} (`--split`).")
    options = {option: value for option, value in options.items() if value is not None}
    takes = {split: list(inspect.signature(function).parameters)[1:] for split, function in SPLITS.items()}
    for option in options:
        if option not in takes[name]:
            others = [split for split in SPLITS if option in takes[split]]
            raise ValueError(
                f"The split `{name}` takes no `{option}`"
                + (f", which is an option of {' and '.join(others)}" if others else "")
                + f"; its options are {', '.join(takes[name])}."
            )
    return SPLITS[name](interactions, **options)
