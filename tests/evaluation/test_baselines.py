from __future__ import annotations

import numpy as np
import pytest

from rarec_hf.evaluation import EASE, ItemKNN, Popularity, TitleTfidf

N_ITEMS = 5
# Users of item 0: {0, 1, 2}; of 1: {0, 1}; of 2: {1, 2}; of 3: {3}; item 4 has none.
HISTORIES = [np.array([0, 1]), np.array([0, 1, 2, 1]), np.array([2, 0]), np.array([3])]
EMPTY = np.array([], dtype=int)
TITLES = ["Blue cotton shirt", "Red cotton shirt", "Garden hose", "Blue hose", "!!"]


def test_popularity_counts_every_training_interaction():
    scores = Popularity().fit(HISTORIES, N_ITEMS)([EMPTY, np.array([3])])
    assert scores.tolist() == [[3, 3, 2, 1, 0]] * 2
    assert scores.dtype == np.float32


def test_item_knn_cosines_by_hand():
    knn = ItemKNN(shrinkage=0, decay=0.5).fit(HISTORIES, N_ITEMS)
    scores = knn([np.array([1]), np.array([0, 1]), np.array([3]), EMPTY])
    s01, s02, s12 = 2 / np.sqrt(6), 2 / np.sqrt(6), 1 / 2
    assert scores[0] == pytest.approx([s01, 0, s12, 0, 0])
    assert scores[1] == pytest.approx([s01, 0.5 * s01, 0.5 * s02 + s12, 0, 0])
    assert scores[2:].tolist() == [[0] * 5] * 2
    assert scores.dtype == np.float32 and scores.shape == (4, N_ITEMS)


def test_item_knn_shrinkage_and_repeats():
    scores = ItemKNN(shrinkage=3, decay=0.5).fit(HISTORIES, N_ITEMS)([np.array([1, 1])])
    assert scores[0] == pytest.approx([1.5 * 2 / (np.sqrt(6) + 3), 0, 1.5 * 1 / (2 + 3), 0, 0])


def test_item_knn_keeps_the_nearest_and_breaks_ties_by_index():
    knn = ItemKNN(neighbours=1, shrinkage=0, decay=1).fit(HISTORIES, N_ITEMS)
    assert np.count_nonzero(knn.similarities.toarray(), axis=1).tolist() == [1, 1, 1, 0, 0]
    assert knn([np.array([0])])[0] == pytest.approx([0, 2 / np.sqrt(6), 0, 0, 0])  # items 1 and 2 are equally near


@pytest.mark.parametrize("neighbours", [1, 4, 1000])
def test_item_knn_agrees_with_a_dense_computation(neighbours, monkeypatch):
    monkeypatch.setattr("rarec_hf.evaluation.baselines.BLOCK", 7)  # several blocks, the last one short
    rng = np.random.default_rng(0)
    histories = [rng.choice(40, size=rng.integers(1, 12), replace=False) for _ in range(60)]
    seen = np.zeros((60, 40))
    for row, history in enumerate(histories):
        seen[row, history] = 1
    counts = seen.T @ seen
    norms = np.sqrt(np.diag(counts))
    dense = counts / (norms[:, None] * norms + 10)
    np.fill_diagonal(dense, 0)
    for row in dense:
        row[np.argsort(-row, kind="stable")[neighbours:]] = 0
    ours = ItemKNN(neighbours=neighbours).fit(histories, 40).similarities.toarray()
    assert np.sort(ours, axis=1) == pytest.approx(np.sort(dense, axis=1), abs=1e-6)
    if neighbours == 1000:
        assert ours == pytest.approx(dense, abs=1e-6)


def test_ease_by_hand():
    # Two items, both seen by one user and item 1 by another: G + 1 = [[2, 1], [1, 3]], its inverse is
    # [[3, -1], [-1, 2]] / 5, so B[0, 1] = 1/2 and B[1, 0] = 1/3.
    ease = EASE(regularization=1).fit([np.array([0, 1, 1]), np.array([1])], 2)
    assert ease.weights == pytest.approx(np.array([[0, 1 / 2], [1 / 3, 0]]), abs=1e-6)
    scores = ease([np.array([0]), np.array([0, 1, 0]), EMPTY])
    assert scores == pytest.approx(np.array([[0, 1 / 2], [1 / 3, 1 / 2], [0, 0]]), abs=1e-6)
    assert scores.dtype == np.float32


def test_ease_is_the_least_squares_solution_with_an_empty_diagonal(monkeypatch):
    monkeypatch.setattr("rarec_hf.evaluation.ease.BLOCK", 7)  # several blocks, the last one short
    rng = np.random.default_rng(0)
    histories = [rng.choice(30, size=rng.integers(1, 12), replace=False) for _ in range(80)]
    seen = np.zeros((80, 30))
    for row, history in enumerate(histories):
        seen[row, history] = 1
    weights = EASE(regularization=5).fit(histories, 30).weights
    for item in range(30):  # ridge regression of each column on all others
        others = np.delete(np.arange(30), item)
        gram = seen[:, others].T @ seen[:, others] + 5 * np.eye(29)
        expected = np.linalg.solve(gram, seen[:, others].T @ seen[:, item])
        assert weights[others, item] == pytest.approx(expected, abs=1e-5)
        assert weights[item, item] == 0


def test_ease_refuses_a_catalogue_beyond_its_memory():
    with pytest.raises(ValueError, match=r"1,000,000 items needs 3,725.3 GiB.*`memory_gib` allows 8"):
        EASE().fit(HISTORIES, 1_000_000)
    with pytest.raises(ValueError, match="`regularization` > 0"):
        EASE(regularization=0)


def test_titles_with_shared_words_score_higher_and_the_last_title_counts_most():
    tfidf = TitleTfidf().fit(TITLES)
    first, recent, empty, wordless = tfidf([np.array([0]), np.array([2, 0]), EMPTY, np.array([4])])
    assert first[1] > first[3] > first[2] == 0  # two shared words, one, none
    assert first[0] == pytest.approx(1)
    assert recent[0] == pytest.approx(1) and recent[2] == pytest.approx(0.7)
    assert empty.tolist() == wordless.tolist() == [0] * 5


def test_tfidf_reads_only_the_last_titles():
    tfidf = TitleTfidf(last=1).fit(TITLES)
    assert tfidf([np.array([0, 2])])[0].tolist() == tfidf([np.array([2])])[0].tolist()


def test_equal_titles_tie_exactly():
    scores = TitleTfidf().fit([*TITLES, *TITLES])([np.array([0, 2, 3])])[0]
    assert scores[:5].tolist() == scores[5:].tolist()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ItemKNN(neighbours=0),
        lambda: ItemKNN(shrinkage=-1),
        lambda: ItemKNN(shrinkage=float("nan")),
        lambda: ItemKNN(decay=0),
        lambda: ItemKNN(decay=1.1),
        lambda: TitleTfidf(last=0),
        lambda: TitleTfidf(decay=-0.1),
        lambda: TitleTfidf().fit(["", "--"]),
        lambda: ItemKNN().fit([np.array([5])], N_ITEMS),
        lambda: Popularity().fit([np.array([-1])], N_ITEMS),
        lambda: ItemKNN().fit(HISTORIES, N_ITEMS)([np.array([5])]),
        lambda: TitleTfidf().fit(TITLES)([np.array([5])]),
    ],
)
def test_wrong_parameters_and_ids_are_refused(make):
    with pytest.raises(ValueError, match="Expected|holds a word|outside the catalogue"):
        make()


@pytest.mark.parametrize("scorer", [Popularity(), ItemKNN(), TitleTfidf(), EASE()])
def test_call_before_fit_is_refused(scorer):
    with pytest.raises(ValueError, match="has not been fitted"):
        scorer([EMPTY])
