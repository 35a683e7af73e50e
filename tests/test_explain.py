"""What the page shows, without a browser: parts of a score, rankings, search, filters, map, histories, HTML."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from rarec_hf.hub import page
from rarec_hf.hub.explain import ENCODER, LLM, READOUT, TEXT, Explainer, rank
from rarec_hf.hub.history import MOST_ITEMS, changed
from rarec_hf.hub.item_filters import ItemFilters
from rarec_hf.hub.item_map import ItemMap
from rarec_hf.hub.title_search import TitleSearch
from rarec_hf.training.table import text_only_scorer

EVERYTHING = np.ones(12, dtype=bool)


# parts of a score ----------------------------------------------------------------------------------------------------


def test_parts_add_up_to_the_models_score(trained):
    model = trained()
    explanation = Explainer(model)([1, 2, 5])
    assert list(explanation.parts) == [ENCODER, TEXT, READOUT]
    scores = model.score_histories([[1, 2, 5]])[0]
    np.testing.assert_allclose(explanation.total, scores, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sum(explanation.parts.values()), scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(explanation.parts[ENCODER], explanation.encoder)
    assert all(np.ptp(part) > 1e-3 for part in explanation.parts.values())


def test_text_and_readout_are_the_gains_times_cosines(trained):
    model = trained()
    model.score_head.set_gains(3.0, 0.0)
    model.index_catalogue(progress=False)
    explanation = Explainer(model)([4, 7])
    np.testing.assert_allclose(explanation.parts[READOUT], 0, atol=1e-6)
    np.testing.assert_allclose(explanation.parts[TEXT], 3 * explanation.likeness, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(explanation.likeness, text_only_scorer(model)([[4, 7]])[0])


@pytest.mark.parametrize("score", ["dot_product", "trained_head"])
def test_a_score_without_parts_is_the_llms_alone(trained, score):
    model = trained(score=score)
    explanation = Explainer(model)([1, 2])
    assert list(explanation.parts) == [LLM]
    np.testing.assert_allclose(explanation.parts[LLM], model.score_histories([[1, 2]])[0], rtol=1e-4, atol=1e-4)
    assert np.ptp(explanation.encoder) > 0 and np.ptp(explanation.likeness) > 0


def test_the_best_are_those_of_recommend_with_their_places(trained):
    model = trained()
    explanation = Explainer(model)([1, 2])
    allowed = EVERYTHING.copy()
    allowed[[1, 2]] = False
    rows = rank(explanation, "RA-Rec", allowed, 4)
    answer = model.recommend(["i1", "i2"], k=4)
    assert [f"i{row.item}" for row in rows] == answer.item_ids
    assert [row.score for row in rows] == pytest.approx(answer.scores, abs=1e-4)
    assert [row.places["RA-Rec"] for row in rows] == [1, 2, 3, 4]
    others = {name: rank(explanation, name, allowed, 12) for name in explanation.rankings}
    for name, places in others.items():
        order = [row.item for row in places]
        assert len(order) == 10
        assert [row.places[name] for row in rows] == [order.index(row.item) + 1 for row in rows]
    for row in rows:
        assert sum(row.parts.values()) == pytest.approx(row.score, abs=1e-4)
        means = {name: part.mean() for name, part in explanation.parts.items()}
        assert row.above_average == pytest.approx({n: row.parts[n] - means[n] for n in means}, abs=1e-5)


def test_equal_scores_keep_the_catalogues_order(trained):
    explanation = Explainer(trained())([])
    assert not explanation.likeness.any()  # an empty history is like nothing
    rows = rank(explanation, "Text alone", EVERYTHING, 5)
    assert [row.item for row in rows] == [0, 1, 2, 3, 4]
    assert [row.places["Text alone"] for row in rows] == [1, 2, 3, 4, 5]


def test_answers_are_kept_and_given_up(trained):
    model = trained()
    explain = Explainer(model, kept=2)
    asked = []
    original = model.represent_users
    model.represent_users = lambda histories: asked.append(histories) or original(histories)
    first = explain([1])
    assert explain([1]) is first
    explain([2]), explain([1]), explain([3])
    assert explain([1]) is first  # asked for lately, so [2] went
    assert asked == [[[1]], [[2]], [[3]]]
    explain([2])
    assert len(asked) == 4


def test_damaged_weights_and_stale_catalogues_are_refused(trained):
    model = trained()
    model._catalogue.items[3, -1] = float("nan")
    with pytest.raises(ValueError, match="not numbers"):
        Explainer(model)([1])
    model.forget_representations()
    with pytest.raises(ValueError, match="index_catalogue"):
        Explainer(model)


@pytest.mark.parametrize(
    ("by", "allowed", "k", "message"),
    [
        ("nothing", EVERYTHING, 3, "`by` must be one of"),
        ("RA-Rec", EVERYTHING, 0, "`k` must be at least 1, got 0"),
        ("RA-Rec", EVERYTHING[:5], 3, "for each of 12 items"),
    ],
)
def test_bad_questions_are_refused(trained, by, allowed, k, message):
    with pytest.raises(ValueError, match=message):
        rank(Explainer(trained())([1]), by, allowed, k)


def test_an_example_is_an_item_and_its_nearest(trained):
    model = trained()
    example = Explainer(model).example_history(3)
    vectors = torch.nn.functional.normalize(model.id_encoder.item_vectors(), dim=-1)
    order = (vectors @ vectors[example[-1]]).argsort(descending=True).tolist()
    assert example == [order[2], order[1], order[0]]
    assert Explainer(model).example_history(3) == example


# search and filters --------------------------------------------------------------------------------------------------

TITLES = ["Toy Story (1995)", "Story of Toys", "Amélie", "STAR WARS", "The Stars", "Toy Story 2", "Costar", "Star"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("toy story", [5, 0, 1]),  # begins with it, the shorter first; then the others
        ("story toy", [5, 1, 0]),
        ("amelie", [2]),
        ("AMÉLIE", [2]),
        ("star", [7, 3, 4, 6]),  # the word itself, beginnings, a word's beginning, within a word
        ("(1995)", [0]),
        ("   ", []),
        ("nothing", []),
    ],
)
def test_search(typed, expected):
    assert TitleSearch(TITLES).find(typed) == (expected, len(expected))


def test_search_gives_the_first_and_says_how_many():
    assert TitleSearch(TITLES).find("s", limit=2) == ([7, 3], 7)
    assert TitleSearch(TITLES).holding("") == list(range(8))


ATTRIBUTES = [{"genres": "Animation, Children", "year": "1995"}, {"genres": "Drama"}, {"genres": "Children|Drama"}, {}]


def test_filters():
    filters = ItemFilters(TitleSearch(TITLES[:4]), ATTRIBUTES)
    assert filters.counts == {
        **{("genres", "Animation"): 1, ("genres", "Children"): 2, ("genres", "Drama"): 2, ("year", "1995"): 1}
    }

    def left(**arguments):
        return np.flatnonzero(filters.allowed(**arguments)).tolist()

    assert left() == [0, 1, 2, 3]
    assert left(seen=[1, 1]) == [0, 2, 3]
    assert left(categories=[("genres", "Children")]) == [0, 2]
    assert left(categories=[("genres", "Animation"), ("genres", "Drama")]) == [0, 1, 2]  # any of one attribute
    assert left(categories=[("genres", "Children"), ("year", "1995")]) == [0]  # each attribute
    assert left(title="story") == [0, 1]
    likeness = np.array([0.1, 0.5, 0.9, -0.2])
    assert left(likeness=likeness, least_likeness=0.5) == [1, 2]
    assert left(likeness=likeness, least_likeness=0.0) == [0, 1, 2, 3]
    assert left(seen=[2], categories=[("genres", "Drama")], title="toys", likeness=likeness, least_likeness=0.3) == [1]
    with pytest.raises(ValueError, match="No item has the category"):
        left(categories=[("genres", "Western")])


def test_an_attribute_of_many_values_is_no_category():
    attributes = [{"plot": f"text {n}", "kind": "film, long"} for n in range(201)]
    filters = ItemFilters(TitleSearch([str(n) for n in range(201)]), attributes)
    assert filters.categories == [("kind", "film"), ("kind", "long")]


# histories -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "expected", "words"),
    [
        ({"act": "add", "item": "3"}, [5, 0, 2, 3], "Added: STAR WARS"),
        ({"act": "up", "at": "2"}, [5, 2, 0], "Now 2 of 3: Amélie"),
        ({"act": "down", "at": "0"}, [0, 5, 2], "Now 2 of 3: Toy Story 2"),
        ({"act": "up", "at": "0"}, [5, 0, 2], "Now 1 of 3: Toy Story 2"),
        ({"act": "down", "at": 2}, [5, 0, 2], "Now 3 of 3: Amélie"),
        ({"act": "remove", "at": "1"}, [5, 2], "Removed: Toy Story (1995)"),
        ({"act": "clear"}, [], "The history is empty now."),
    ],
)
def test_what_buttons_do(action, expected, words):
    before = [5, 0, 2]
    assert changed(before, action, TITLES) == (expected, words)
    assert before == [5, 0, 2]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"act": "add", "item": "8"}, "There is no item '8'"),
        ({"act": "add", "item": "-1"}, "There is no item '-1'"),
        ({"act": "add", "item": "<b>"}, "There is no item '<b>'"),
        ({"act": "remove", "at": "3"}, "There is no place '3'"),
        ({"act": "up"}, "There is no place 'None'"),
        ({"act": "format"}, "Expected add, up, down, remove or clear, got 'format'"),
        ({}, "got 'None'"),
    ],
)
def test_what_no_button_does_is_refused(action, message):
    with pytest.raises(ValueError, match=message):
        changed([5, 0, 2], action, TITLES)


def test_a_history_has_an_end():
    with pytest.raises(ValueError, match=f"holds {MOST_ITEMS} titles"):
        changed([0] * MOST_ITEMS, {"act": "add", "item": 1}, TITLES)


# the map -------------------------------------------------------------------------------------------------------------


def clusters(n: int = 60, seed: int = 0) -> np.ndarray:
    """Vectors around three directions, n // 3 each."""
    rng = np.random.default_rng(seed)
    return np.repeat(np.eye(3, 8), n // 3, axis=0) + 0.05 * rng.standard_normal((n, 8))


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_is_the_same_each_time_and_places_others_by_their_vectors(method):
    vectors, items = clusters(), np.arange(100, 160)
    item_map = ItemMap(vectors, items, method)
    np.testing.assert_array_equal(item_map.points, ItemMap(vectors, items, method).points)
    assert item_map.points.min() >= -1e-6 and item_map.points.max() <= 1 + 1e-6
    centres = [item_map.points[start : start + 20].mean(0) for start in (0, 20, 40)]
    new = item_map.place(np.eye(3, 8))
    for n in range(3):
        distances = [np.linalg.norm(new[n] - centre) for centre in centres]
        assert int(np.argmin(distances)) == n
        assert distances[n] < 0.15
    # an item that is drawn stands where it is drawn, whatever its neighbours
    np.testing.assert_array_equal(item_map.place(vectors[:2], items[:2]), np.clip(item_map.points[:2], 0, 1))
    assert item_map.place(np.empty((0, 8))).shape == (0, 2)


def test_what_is_drawn_is_seeded_and_bounded():
    assert ItemMap.draw(30).tolist() == list(range(30))
    drawn = ItemMap.draw(9000, 2000)
    assert len(set(drawn.tolist())) == 2000 and drawn.tolist() == sorted(drawn)
    np.testing.assert_array_equal(drawn, ItemMap.draw(9000, 2000))
    assert drawn.tolist() != ItemMap.draw(9000, 2000, seed=1).tolist()


def test_maps_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="`method` must be one of"):
        ItemMap(clusters(), np.arange(60), "umap")
    with pytest.raises(ValueError, match="at least 3 items"):
        ItemMap(clusters()[:2], np.arange(2))
    with pytest.raises(ValueError, match="finite"):
        ItemMap(np.full((5, 4), np.nan), np.arange(5), "pca")


def test_products_on_the_map_are_the_llms_part_of_the_score(trained):
    model = trained()
    explain = Explainer(model)
    explanation = explain([1, 2])
    expected = explanation.parts[TEXT] + explanation.parts[READOUT]
    vectors = explain.map_vectors(range(12))
    np.testing.assert_allclose(vectors @ explanation.user, expected, rtol=1e-3, atol=1e-4)
    model.score_head.set_gains(0, 0)
    model.index_catalogue(progress=False)
    untrained = Explainer(model)
    assert untrained([1, 2]).user is None  # the LLM says nothing of this user
    assert np.isfinite(untrained.map_vectors(range(12))).all()


# HTML ----------------------------------------------------------------------------------------------------------------

BAD = "<img src=x onerror=alert(1)>\"'`${x}</svg></script>&amp;"


class Elements(HTMLParser):
    """Tags with their attributes, and all text, entities read."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.attributes, self.data = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.data.append(data)


def test_a_title_is_text_wherever_it_stands(trained):
    titles = [BAD] * 12
    explanation = Explainer(trained())([1, 2])
    lists = {name: rank(explanation, name, EVERYTHING, 3) for name in explanation.rankings}
    item_map, point = ItemMap(clusters(12), np.arange(12), "pca"), np.full((1, 2), 0.5)
    pieces = {
        "results": (page.search_results(BAD, [0], 1, titles, 12), {"p", "ul", "li", "button", "span"}),
        "no result": (page.search_results(BAD, [], 0, titles, 12), {"p"}),
        "history": (page.history_list([0, 1], titles, 10), {"p", "ol", "li", "span", "button"}),
        "rankings": (
            page.rankings(lists, titles),
            {"div", "section", "h3", "ol", "li", "span", "button", "i", "b", "p"},
        ),
        "map": (page.map_background(item_map, titles), {"svg", "circle"}),
        "marks": (
            page.map_foreground(titles, [0], point, [1], point, point[0]),
            {"svg", "g", "circle", "rect", "text", "path"},
        ),
        "note": (page.note(BAD, "problem"), {"p"}),
        "status": (page.status(BAD), {"p"}),
    }
    for name, (html, allowed) in pieces.items():
        elements = Elements(html)
        assert set(elements.tags) <= allowed, name
        assert not [a for a, _ in elements.attributes if a.startswith("on")], name
        whole = "".join(elements.data) + "".join(str(value) for _, value in elements.attributes)
        assert BAD[:60] in whole, name


def test_rankings_show_parts_places_and_bars(trained):
    explanation = Explainer(trained())([1, 2])
    lists = {name: rank(explanation, name, EVERYTHING, 3) for name in explanation.rankings}
    html = page.rankings(lists, [f"title {n}" for n in range(12)])
    data = Elements(html).data
    best = lists["RA-Rec"][0]
    assert f"{best.score:z.2f}" in data
    for name, value in best.parts.items():
        assert f"{'ID' if name == ENCODER else name} {value:z.2f}" in data
    assert f"ID #{best.places['ID encoder alone']} · text #{best.places['Text alone']}" in data
    widths = [float(piece.split("%")[0]) for piece in html.split("width:")[1:]]
    assert len(widths) == 3 * 3 * 3
    assert max(widths) == 50.0  # the widest bar fills its half


def test_history_buttons_say_where_they_lead():
    html = page.history_list([0, 1], TITLES, 1)
    assert html.count('aria-disabled="true"') == 2  # the first cannot go up, nor the last down
    assert "the text of the latest 1 is read" in html
    assert 'aria-label="Remove: Story of Toys"' in html
    assert "1 title, oldest first" in page.history_list([0], TITLES, 10)
