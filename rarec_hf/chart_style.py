"""How all charts look: colours, figures without a global backend, axes without clutter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .whole_files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, INK = "#2f6db3", "#d9822b", "#8c96a3", "#30363d"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    from matplotlib.figure import Figure  # not pyplot: it would choose a backend for the whole process

    return Figure(figsize=(width, height), layout="constrained")


def tidy(axis: Axes, grid: Literal["x", "y", "both"]) -> None:
    """Takes away what an axis does not need; `grid` is `"x"`, `"y"` or `"both"`."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9, colors=INK)
    axis.grid(axis=grid, color="#e3e6ea", linewidth=0.8)
    axis.set_axisbelow(True)


def save_png(figure: Figure, path: Path) -> Path:
    """Writes the figure, whole or not at all."""
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return Path(path)


__all__ = ["BLUE", "GREY", "INK", "ORANGE", "new_figure", "save_png", "tidy"]
