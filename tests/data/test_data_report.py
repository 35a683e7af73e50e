from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rarec_hf.data import DataReport, build_interactions

DAY = 86_400
ROWS = [
    ("u", "a", 1_404_172_800),
    ("u", "b", 1_404_172_800),
    ("u", "c", 1_404_172_800 + DAY),
    ("v", "a", 1_404_172_800 + DAY),  # the same time as the row above, but another user's
    ("v", "a", 1_404_172_800 + DAY),
    ("w", "a", 1_404_172_800 + 2 * DAY),
    (None, "a", 5),
]


def report(rows=ROWS, titles=(("a", "Same"), ("b", "Same")), **options):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    table = pd.DataFrame(titles, columns=["item_id", "title"])
    return DataReport.of(build_interactions(frame, table, on_broken_row="drop", **options))


def test_figures_by_hand():
    found = report()
    assert found.lengths.tolist() == [3, 1, 1] and found.popularity.tolist() == [3, 1, 1]
    assert found.n_interactions == 5 and found.density == 5 / 9
    assert (found.ties, found.pairs) == (1, 2)
    assert found.items_sharing_a_title == 2
    assert found.top_share(0.1) == found.top_share(0.01) == 3 / 5
    # mean absolute difference of (1, 1, 3) over twice the mean: (0 + 2 + 2) * 2 / 9 / (2 * 5 / 3)
    assert found.gini == pytest.approx(8 / 9 / (10 / 3))


def test_gini_of_equal_items_is_zero():
    assert report([("u", "a", 1), ("v", "b", 1)]).gini == pytest.approx(0)


def test_irregularities_count_against_their_own_total():
    found = {name: (count, total) for name, count, total in report().irregularities()}
    assert found == {
        "consecutive times that tie": (1, 2),
        "rows that are broken": (1, 7),
        "rows that are exact duplicates": (1, 7),
        "rows that repeat user and item": (0, 7),
        "users with one interaction": (2, 3),
        "items without a title": (1, 3),
        "items that share their title": (2, 3),
    }


def test_the_page_says_it_all():
    page = report().to_markdown()
    for line in (
        "| users | 3 |",
        "| density | 55.56 % |",
        "| time | 2014-07-01 00:00 to 2014-07-03 00:00 (UTC) |",
        "| unit of the timestamps | seconds |",
        "| equal times in a row of one user | 1 (50.0 %) |",
        "| users with one interaction | 2 (66.7 %) |",
        "| interactions of the most popular 10 % of the items | 60.0 % |",
        "| a user | 1 | 1 | 1 | 1 | 2 | 3 | 3 | 1.7 |",
        "| reason of 7 rows | rows |",
        "| rows without a user id | 1 |",
        "| rows equal to another in user, item and time | 1 |",
        "| items without a title | 1 |",
        "| items that share their title with another | 2 (66.7 %) |",
    ):
        assert line in page, line
    assert "The first broken row: data row 7" in page
    assert len(page.splitlines()) < 60  # one page


def test_without_drops_and_with_a_k_core():
    assert "None of 2 rows." in report([("u", "a", 1), ("v", "b", 1)]).to_markdown()
    rows = [("u", "a", 1), ("u", "b", 2), ("v", "a", 1), ("v", "b", 2), ("w", "b", 2)]
    page = report(rows, k_core=2).to_markdown()
    assert "| interactions of users or items below the k-core | 1 |" in page
    assert "The 2-core left out 1 users and 0 items." in page
    assert "| order numbers (no known unit of time) | 1 to 2 |" in page


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        [("u", "a", 1)],
        [("u", "a", 1_404_172_800)],
        [(user, item, 1_404_172_800) for user in "uv" for item in "ab"],
        [("u", f"i{n}", 1.5 * n) for n in range(300)] + [("v", "a", 1)],
    ],
)
def test_files_are_written_whatever_the_data(rows, tmp_path):
    files = report(rows, titles=[("a", "$A_"), ("b", "B")]).save(tmp_path / "run")
    assert [file.name for file in files] == ["data.md", "data.png"]
    assert files[0].read_text("utf-8").startswith("# Data")
    from matplotlib.image import imread

    image = imread(files[1])
    assert image.shape[0] > 500 and 0.02 < np.mean(image[..., :3] < 0.9) < 0.6  # something is drawn
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["data.md", "data.png"]
