"""A page to try a trained model: what it recommends for a history, beside its ID encoder alone and text alone.

    python examples/app.py outputs/rarec

opens at http://127.0.0.1:7860. This file alone, where `rarec_hf` is installed, is a Hugging Face Space; the model is
named by the variable `RAREC_MODEL` or by `MODEL` below. See docs/app.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
from importlib.resources import files

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from rarec_hf import RARecForSequentialRecommendation
from rarec_hf.hub import page
from rarec_hf.hub.explain import Explainer, rank
from rarec_hf.hub.history import changed
from rarec_hf.hub.item_filters import ItemFilters
from rarec_hf.hub.item_map import ItemMap
from rarec_hf.hub.title_search import TitleSearch

MODEL = os.environ.get("RAREC_MODEL", "")  # a folder or a Hub repository, such as "me/my-rarec"
MAP_METHOD = os.environ.get("RAREC_MAP", "tsne")  # or "pca"
SEED = 0  # of the map and of the titles drawn for it
FONTS = ["system-ui", "sans-serif"]  # of the visitor's machine: nothing is fetched
# A click on a button with data-act is an event with the button's data
ON_LOAD = (
    "element.addEventListener('click', (e) => { const b = e.target.closest('button[data-act]'); "
    "if (b && b.getAttribute('aria-disabled') !== 'true') trigger('click', { ...b.dataset }); })"
)
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}

logger = logging.getLogger("rarec_hf.app")


class Demo:
    """What the page shows of a loaded model; computes once what all visitors share."""

    def __init__(self, model: RARecForSequentialRecommendation, map_method: str = MAP_METHOD, seed: int = SEED):
        if model.processor is None:
            raise ValueError("The model has no processor, so no titles. Save it with one: `model.processor = ...`.")
        try:
            model.catalogue_items()
        except ValueError:
            print("The catalogue is not indexed: encoding it now. `save_pretrained` would keep it.", flush=True)
            model.index_catalogue()
        self.titles, self.explain = model.processor.titles, Explainer(model)
        self.n_read = model.processor.max_history_items
        self.search = TitleSearch(self.titles)
        self.filters = ItemFilters(self.search, model.processor.attributes)
        self.map, n_items = None, len(self.titles)
        if n_items >= 3:
            drawn = ItemMap.draw(n_items, seed=seed)
            self.map = ItemMap(self.explain.map_vectors(drawn), drawn, map_method, seed)

    def category_choices(self) -> list[tuple[str, str]]:
        """What the filter offers, each with its place among `filters.categories`."""
        names = {name for name, _ in self.filters.categories}
        return [
            (f"{value} ({count:,})" if len(names) == 1 else f"{name}: {value} ({count:,})", str(n))
            for n, ((name, value), count) in enumerate(self.filters.counts.items())
        ]

    # what events call; whatever goes wrong is said on the page -----------------------------------------------------

    def show_matches(self, typed: str) -> str:
        items, n_matches = self.search.find(typed or "")
        return page.search_results(typed or "", items, n_matches, self.titles, len(self.titles))

    def add_first(self, typed: str, history: list[int]):
        items, _ = self.search.find(typed or "", limit=1)
        if not items:
            words = "Type part of a title first." if not (typed or "").strip() else "No title holds that."
            return typed, history, page.status(words)
        return "", *self.change(history, {"act": "add", "item": items[0]})

    def clicked(self, history: list[int], event: gr.EventData):
        return self.change(history, event._data if isinstance(event._data, dict) else {})

    def change(self, history: list[int], action: dict):
        if action.get("act") == "example":
            example = self.explain.example_history(random.randrange(2**32))
            return example, page.status("An example: a title and those that the ID encoder holds nearest to it.")
        try:
            history, words = changed(history, action, self.titles)
        except ValueError as error:
            words = str(error)
        return history, page.status(words)

    def show_history(self, history: list[int]) -> str:
        return page.history_list(history, self.titles, self.n_read)

    def recommend(self, history, k, exclude_seen, categories, title, least):
        """The recommendations and the map's foreground."""
        if not history:
            words = "Recommendations appear here once the history holds a title."
            return page.note(words), self.draw_marks([], [], None)
        try:
            return self._recommend(history, k, exclude_seen, categories, title, least)
        except Exception as error:  # a visitor gets words, the log the rest
            logger.exception("The recommendations failed")
            return page.note(f"This did not work: {error}", "problem"), self.draw_marks(history, [], None)

    def _recommend(self, history, k, exclude_seen, categories, title, least):
        if k is None or int(k) < 1:
            return page.note("Set how many to at least 1.", "problem"), self.draw_marks(history, [], None)
        explanation = self.explain(history)
        chosen = [self.filters.categories[int(n)] for n in categories or []]
        seen = history if exclude_seen else []
        allowed = self.filters.allowed(seen, chosen, title or "", explanation.likeness, float(least or 0))
        if not allowed.any():
            words = "No title passes the filters. Take one away, or lower the least likeness."
            return page.note(words), self.draw_marks(history, [], explanation.user)
        lists = {name: rank(explanation, name, allowed, int(k)) for name in explanation.rankings}
        recommended = [row.item for row in lists["RA-Rec"]]
        return page.rankings(lists, self.titles), self.draw_marks(history, recommended, explanation.user)

    def draw_marks(self, history, recommended, user) -> str:
        if self.map is None:
            return ""
        chosen, others = (self.map.place(self.explain.map_vectors(i), i) for i in (history, recommended))
        at = None if user is None else self.map.place(user[None])[0]
        return page.map_foreground(self.titles, history, chosen, recommended, others, at)


def build(demo: Demo, name: str) -> gr.Blocks:
    """The page; `name` is the model's."""
    n_items, buttons = len(demo.titles), {"js_on_load": ON_LOAD}
    with gr.Blocks(title=f"RA-Rec: {name}", analytics_enabled=False) as blocks, gr.Column(elem_id="rr-page"):
        gr.HTML(
            f"<h1>RA-Rec: {page.text(name)}</h1><p>{n_items:,} titles. Build a history; the model’s recommendations "
            "stand beside those of its ID encoder alone and of the LLM’s text vectors alone.</p>"
        )
        history = gr.State([])
        status = gr.HTML(page.status())
        with gr.Row():
            with gr.Column(min_width=280):
                typed = gr.Textbox(
                    label="Search titles", placeholder="Part of a title", elem_id="rr-search", max_lines=1
                )
                results = gr.HTML(demo.show_matches(""), elem_id="rr-results", **buttons)
            with gr.Column(min_width=280):
                gr.HTML("<h2>History</h2>")
                chips = gr.HTML(demo.show_history([]), elem_id="rr-history", **buttons)
        with gr.Accordion("How many, and filters", open=False, elem_id="rr-filters"):
            with gr.Row():
                k = gr.Slider(1, 50, 10, step=1, label="How many", elem_id="rr-k")
                least = gr.Slider(0, 1, 0, step=0.05, label="Least likeness to the history’s titles (0: any)")
            choices = demo.category_choices()
            categories = gr.Dropdown(
                choices, value=[], multiselect=True, label="Categories", visible=bool(choices), elem_id="rr-categories"
            )
            holds = gr.Textbox(label="The title must hold", placeholder="Any words", max_lines=1, elem_id="rr-holds")
            seen = gr.Checkbox(True, label="Leave out the titles of the history", elem_id="rr-seen")
        gr.HTML("<h2>Recommendations</h2>")
        settings = [k, seen, categories, holds, least]
        ranked, marks_now = demo.recommend([], *(setting.value for setting in settings))
        lists = gr.HTML(ranked, elem_id="rr-lists", **buttons)
        gr.HTML("<h2>Map</h2>")
        if demo.map is None:
            gr.HTML(page.note("A map needs a catalogue of at least 3 titles."))
        with gr.Row(elem_id="rr-map-row", visible=demo.map is not None):
            with gr.Column(elem_id="rr-map-frame", min_width=280, scale=2):
                gr.HTML(page.map_background(demo.map, demo.titles) if demo.map else "", elem_id="rr-map-items")
                marks = gr.HTML(marks_now, elem_id="rr-map-marks")
            with gr.Column(min_width=280):
                gr.HTML(page.map_caption(demo.map, n_items) if demo.map else "")

        # `change` and not `input`, which a text pasted or filled in does not raise
        typed.change(demo.show_matches, typed, results, trigger_mode="always_last", **PRIVATE)
        typed.submit(demo.add_first, [typed, history], [typed, history, status], **PRIVATE)
        for component in (results, chips, lists):
            component.click(demo.clicked, history, [history, status], trigger_mode="multiple", **PRIVATE)
        history.change(demo.show_history, history, chips, trigger_mode="always_last", **PRIVATE)
        gr.on(
            [history.change, *(setting.change for setting in settings)],
            demo.recommend,
            [history, *settings],
            [lists, marks],
            trigger_mode="always_last",
            **{**PRIVATE, "show_progress": "minimal"},
        )
    return blocks


def launch(blocks: gr.Blocks, **options):
    """Starts the page, with nothing from another machine."""
    package = files("rarec_hf.hub")
    return blocks.launch(
        theme=gr.themes.Default(font=FONTS, font_mono=["monospace"]),
        css=(package / "page.css").read_text("utf-8"),
        js=(package / "page.js").read_text("utf-8"),
        ssr_mode=False,
        footer_links=[],
        **options,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default=MODEL, help="folder or Hub repository (default: $RAREC_MODEL)")
    parser.add_argument("--map", choices=["tsne", "pca"], default=MAP_METHOD, help="how items become points")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    arguments = parser.parse_args()
    try:
        if not arguments.model:
            raise ValueError(
                "No model is named. Give a folder or a Hub repository: `python examples/app.py outputs/rarec`; in a "
                "Space, set the variable RAREC_MODEL."
            )
        model = RARecForSequentialRecommendation.from_pretrained(arguments.model)
        name = os.path.basename(os.path.normpath(arguments.model))
        blocks = build(Demo(model, arguments.map), name)
    except (ValueError, OSError) as error:
        if "SPACE_ID" not in os.environ:
            raise SystemExit(str(error)) from error
        logger.exception("The model could not be loaded")  # a Space's visitor sees why, not a page that never comes
        with gr.Blocks(title="RA-Rec", analytics_enabled=False) as blocks:
            gr.HTML(page.note(f"The model could not be loaded: {error}", "problem"))
    launch(blocks, server_port=arguments.port)


if __name__ == "__main__":
    main()
