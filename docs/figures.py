"""Draws the figures of docs/how_it_works.md: `python docs/figures.py`. Who reads whom is the package's rule."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from rarec_hf.attention_layout import READOUT, SOFT_PROMPT, TEXT, Columns, Window, visibility
from rarec_hf.chart_style import BLUE, GREY, INK, ORANGE, new_figure, save_png

FOLDER = Path(__file__).parent
COLOURS = {TEXT: GREY, SOFT_PROMPT: ORANGE, READOUT: BLUE}
NAMES = {TEXT: "text", SOFT_PROMPT: "soft prompts", READOUT: "readout"}
FROZEN, LEARNS = "#e8ebef", "#fbe7d2"


def overview(path: Path) -> Path:
    """From two inputs to a score: what is frozen, what learns."""
    figure = new_figure(10, 5.6)
    axis = figure.subplots()
    axis.set(xlim=(0, 100), ylim=(0, 60))
    axis.axis("off")

    def box(x, y, width, height, text, colour, size=9):
        axis.add_patch(
            FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.3", facecolor=colour, edgecolor=INK, lw=0.8)
        )
        axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, color=INK)

    def arrow(start, end, text="", dx=0.0, dy=1.2):
        axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=INK, lw=0.9))
        if text:
            middle = ((start[0] + end[0]) / 2 + dx, (start[1] + end[1]) / 2 + dy)
            axis.text(*middle, text, ha="center", fontsize=8, color=INK)

    box(1, 42, 17, 9, "history\nids, oldest first", "white")
    box(1, 15, 17, 9, "the same history\nas titles", "white")
    box(26, 42, 18, 9, "ID encoder\nSASRec, ComiRec, ...", FROZEN)
    box(54, 42, 18, 9, "a projector per layer\n+ contextual instruction", LEARNS)
    arrow((18.6, 46.5), (25.4, 46.5))
    arrow((44.6, 46.5), (53.4, 46.5), "user vector")
    axis.add_patch(FancyBboxPatch((25, 8), 48, 24, boxstyle="round,pad=0.3", facecolor=FROZEN, edgecolor=INK, lw=0.8))
    axis.text(26, 29.6, "LLM: any causal LM", fontsize=9, color=INK)
    for layer in range(3):
        y = 10.4 + 6 * layer
        axis.add_patch(Rectangle((27, y), 24, 4.4, facecolor="white", edgecolor=GREY, lw=0.7))
        axis.text(39, y + 2.2, f"layer {layer + 1}" if layer < 2 else "layer L", ha="center", va="center", fontsize=8)
        axis.add_patch(Rectangle((55, y), 16, 4.4, facecolor=LEARNS, edgecolor=ORANGE, lw=0.9))
        axis.text(63, y + 2.2, "keys, values", ha="center", va="center", fontsize=8, color=INK)
        arrow((54.8, y + 2.2), (51.3, y + 2.2))
    arrow((63, 41.4), (63, 27.2), "past_key_values", dx=7.6, dy=0.4)
    arrow((18.6, 19.5), (24.4, 19.5), "text\nprompt", dy=-4.6)
    box(81, 42, 17, 9, "score of every item\nin the catalogue", "white")
    box(81, 15, 17, 9, "head on the state of\nthe readout token", LEARNS)
    arrow((73.6, 19.5), (80.4, 19.5))
    arrow((89.5, 24.6), (89.5, 41.4), "added", dx=-3.4)
    bow = {"connectionstyle": "arc3,rad=-0.13", "arrowstyle": "-|>", "mutation_scale": 11}
    axis.add_patch(FancyArrowPatch((35, 51.6), (89.5, 51.6), color=INK, lw=0.9, **bow))
    axis.text(62, 56.6, "the ID encoder's own score, to which the LLM's is added", ha="center", fontsize=8, color=INK)
    items = "Items take the same way, once a catalogue: ID vector and title."
    axis.text(49, 3.2, items, ha="center", fontsize=8.5, color=INK)
    for x, colour, text in ((2, FROZEN, "frozen"), (14, LEARNS, "learns")):
        axis.add_patch(Rectangle((x, 0), 2.6, 2.2, facecolor=colour, edgecolor=INK, lw=0.6))
        axis.text(x + 3.4, 1.1, text, va="center", fontsize=8.5, color=INK)
    return save_png(figure, path)


def layouts() -> dict[str, Columns]:
    """One small sequence a layout: 6 text tokens, 2 soft prompts (a history of 3: one each), 2 readout tokens."""
    text, words = torch.ones(1, 6, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)

    def prompts(length, start, group=0):
        return Columns.soft_prompts(1, length, start, "cpu", group)

    positions = [Columns.text(text)]
    for group in (1, 2, 3):
        positions.append(prompts(1, 6, group))
    for group in (1, 2, 3):
        until = torch.tensor([2 * group])
        positions.append(Columns.readouts(words, 7, 6, group, until))
    before = Columns.cat([prompts(2, 0), Columns.text(text, 2), Columns.readouts(words, 8, 6)])
    after = Columns.cat([Columns.text(text), prompts(2, 6, 1), Columns.readouts(words, 8, 6, group=1)])
    return {
        "before_text (the paper's)": before,
        "after_text (default)": after,
        "the same, window of 4": after,
        "every position of a history of 3": Columns.cat(positions),
    }


def attention(path: Path) -> Path:
    """Who reads whom in each layout."""
    found = layouts()
    figure = new_figure(11, 3.6)
    axes = figure.subplots(1, len(found), width_ratios=[len(columns) for columns in found.values()])
    for axis, (name, columns) in zip(axes, found.items(), strict=True):
        seen = visibility(columns, columns, Window("sliding", 4) if "window" in name else None)[0].numpy()
        kinds = columns.kind[0].tolist()
        for row, column in zip(*np.nonzero(seen), strict=True):
            if kinds[row] != SOFT_PROMPT:  # given keys and values: they ask nothing
                axis.add_patch(Rectangle((column, row), 0.9, 0.9, facecolor=COLOURS[kinds[column]]))
        axis.set(xlim=(-0.2, len(kinds) + 0.1), ylim=(len(kinds) + 0.1, -0.2), aspect="equal")
        middles = {kind: [n for n, k in enumerate(kinds) if k == kind] for kind in NAMES}
        ticks = {np.mean(places) + 0.45: NAMES[kind] for kind, places in middles.items()}
        axis.set_xticks(list(ticks), ticks.values(), fontsize=7, rotation=30, color=INK)
        axis.set_yticks(list(ticks), ticks.values(), fontsize=7, color=INK)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_title(name, fontsize=9, color=INK)
    figure.supxlabel("is read", fontsize=8, color=INK)
    axes[0].set_ylabel("reads", fontsize=8, color=INK)
    return save_png(figure, path)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for path in (overview(FOLDER / "how_it_works.png"), attention(FOLDER / "attention.png")):
        print(path)


if __name__ == "__main__":
    main()
