"""Charts of an evaluation and of a training, as PNG files that are written whole or not at all."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from ..chart_style import BLUE, GREY, INK, ORANGE, new_figure, save_png, tidy
from .metrics import metric_label, metric_per_user
from .ranks import Ranks

PARTS = ("#d9822b", "#3f9b62", "#9a5fb5", "#b8433f", "#6f7b87")  # colours of the loss's parts


def plot_metrics(
    rows: Sequence[tuple[str, Ranks | Sequence[Ranks]]],
    reference: str,
    metrics: Sequence[str],
    path: str | os.PathLike,
) -> Path:
    """
    Draw the metrics of several methods side by side, each mean with its normal 95 % interval.

    Args:
        rows (`list[tuple[str, Ranks]]`): The methods' names and ranks, in the order drawn; of several seeds a list of
            ranks, whose mean is drawn.
        reference (`str`): Name of the row drawn in grey.
        metrics (`list[str]`): One panel each, such as `"ndcg@10"`.
        path (`str`): PNG to write, whole or not at all.
    """
    figure = new_figure(8.5, 1.5 + 0.42 * len(rows))
    axes = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True))
    height = np.arange(len(rows))
    colours = [GREY if name == reference else BLUE for name, _ in rows]
    for axis, metric in zip(axes, metrics, strict=True):
        values = [metric_per_user(ranks, metric) for _, ranks in rows]
        means = np.array([v.mean() for v in values])
        # Half-width of the normal 95 % interval of each mean; a mean of shares cannot be below 0.
        half = np.array([1.96 * v.std(ddof=1) / math.sqrt(len(v)) for v in values])
        axis.barh(height, means, height=0.62, color=colours)
        axis.errorbar(
            means, height, xerr=[np.minimum(half, means), half], fmt="none", ecolor=INK, elinewidth=1, capsize=3
        )
        top = float((means + half).max()) or 1.0
        for y, mean, reach in zip(height, means, means + half, strict=True):
            axis.text(reach + 0.02 * top, y, f"{mean:.4f}", va="center", fontsize=8, color=INK)
        axis.set_xlim(0, 1.28 * top)  # room for the numbers
        axis.locator_params(axis="x", nbins=5)
        axis.set_title(metric_label(metric), loc="left", fontsize=11)
        tidy(axis, grid="x")
    axes[0].set_yticks(height, [textwrap.fill(name, 28) for name, _ in rows], parse_math=False)
    axes[0].invert_yaxis()
    first = rows[0][1]
    users = (first if isinstance(first, Ranks) else first[0]).n_users
    figure.supxlabel(
        f"mean over {users:,} users with its 95 % interval; grey: {reference} (reference)",
        parse_math=False,
        fontsize=8,
        color=INK,
    )
    return save_png(figure, Path(path))


def plot_learning_curve(history: list[dict], path: str | os.PathLike, metric: str = "eval_ndcg@10") -> Path:
    """
    Draw what a Trainer logged over its steps: the training loss with its parts, and a validation metric.

    Args:
        history (`list[dict]`): `trainer.state.log_history`. The loss is the key `loss`; its parts are the keys that
            begin with `loss_` or end with `_loss` (`train_loss` and `eval_loss` aside).
        path (`str`): PNG to write, whole or not at all.
        metric (`str`, *optional*, defaults to `"eval_ndcg@10"`): The validation metric's key.

    Raises:
        ValueError: Neither a training loss nor the metric was logged.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in history:
        for key, value in entry.items():
            part = (key.startswith("loss_") or key.endswith("_loss")) and key not in ("train_loss", "eval_loss")
            if (key in ("loss", metric) or part) and "step" in entry and math.isfinite(value):
                curves.setdefault(key, []).append((entry["step"], value))
    measured = curves.pop(metric, None)
    if not curves and not measured:
        raise ValueError(f"Nothing to draw: no entry of `history` holds both `step` and `loss` or {metric!r}.")

    figure = new_figure(7, 3.0 * (bool(curves) + bool(measured)) + 0.4)
    axes = list(np.atleast_1d(figure.subplots(bool(curves) + bool(measured), 1, sharex=True)))
    axes[-1].set_xlabel("optimizer step", fontsize=9, color=INK)
    if measured:
        axis, (steps, values) = axes[-1], np.array(measured).T
        best = int(values.argmax())
        axis.plot(steps, values, color=ORANGE, marker="o", markersize=3.5, linewidth=1.6)
        axis.plot(steps[best], values[best], "o", color=ORANGE, markersize=8, markerfacecolor="white")
        axis.set_title(
            f"Validation {metric_label(metric.removeprefix('eval_'))}: "
            f"best {values[best]:.4f} at step {steps[best]:,.0f}",
            loc="left",
            fontsize=11,
        )
        axis.set_ylim(min(0, values.min() * 1.1), values.max() * 1.15 or 1)
        tidy(axis, grid="y")
    if curves:
        axis, colours = axes[0], cycle(PARTS)
        for key in sorted(curves, key=lambda key: (key != "loss", key)):
            steps, values = np.array(curves[key]).T
            style = {"color": BLUE, "linewidth": 1.8} if key == "loss" else {"color": next(colours), "linewidth": 1.1}
            marker = "o" if len(steps) < 3 else None  # a line of one point is invisible
            label = "total" if key == "loss" else key.removeprefix("loss_").removesuffix("_loss").replace("_", " ")
            axis.plot(steps, values, label=label, marker=marker, **style)
        axis.set_title("Training loss", loc="left", fontsize=11)
        drawn = np.concatenate([np.array(points)[:, 1] for points in curves.values()])
        axis.set_ylim(min(0, drawn.min() * 1.1), drawn.max() * 1.1 or 1)
        if len(curves) > 1:
            axis.legend(frameon=False, fontsize=8)
        tidy(axis, grid="y")
    return save_png(figure, Path(path))


__all__ = ["plot_learning_curve", "plot_metrics"]
