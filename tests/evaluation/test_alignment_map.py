"""Maps of representations, and the numbers beside them."""

import numpy as np
import pytest

from rarec_hf.evaluation.alignment_map import (
    chosen_together,
    linear_cka,
    neighbour_overlap,
    plot_alignment,
    project,
    uniformity,
)


@pytest.fixture
def clusters():
    """Three clusters of 40 vectors, and which one each is of."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 80)) * 3
    group = np.repeat(np.arange(3), 40)
    return centres[group] + rng.normal(size=(120, 80)), group


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_clusters_stay_apart(clusters, method):
    vectors, group = clusters
    points = project(vectors, method)
    assert points.shape == (120, 2)
    centres = np.stack([points[group == n].mean(0) for n in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres[None], axis=2).argmin(1)
    assert (nearest == group).mean() > 0.95
    np.testing.assert_array_equal(project(vectors, method), points)  # seeded


def test_the_picture_is_written(clusters, tmp_path):
    vectors, group = clusters
    path = plot_alignment(
        {"LLM": vectors, "RA-Rec": vectors[:, :20], "SASRec $x$": vectors[:, :5]},
        [f"group {n} $" for n in group],
        tmp_path / "map.png",
        "pca",
        users={"RA-Rec": vectors[:7, :20]},
    )
    assert path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 20_000
    with pytest.raises(ValueError, match="one vector of 'a' for each of 120 items, got 3"):
        plot_alignment({"a": vectors[:3]}, group, tmp_path / "no.png")


def test_wrong_vectors_are_named(clusters):
    vectors, _ = clusters
    with pytest.raises(ValueError, match="one of"):
        project(vectors, "umap")
    with pytest.raises(ValueError, match="at least 3"):
        project(vectors[:2])
    vectors[4, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        project(vectors)


def test_cka_is_one_up_to_rotation_and_scale(clusters):
    vectors, _ = clusters
    rng = np.random.default_rng(1)
    turned = vectors @ np.linalg.qr(rng.normal(size=(80, 80)))[0] * 3 + 5
    assert linear_cka(vectors, turned) == pytest.approx(1)
    assert linear_cka(vectors, rng.normal(size=(120, 2))) < 0.1


def test_uniformity_tells_a_cone_from_a_sphere():
    rng = np.random.default_rng(0)
    sphere = rng.normal(size=(500, 300))
    assert uniformity(sphere) == pytest.approx(-4, abs=0.1)
    assert uniformity(sphere + 50) > -0.1


def test_neighbours_that_are_chosen_together_count():
    vectors = np.array([[1, 0], [1, 0.1], [1, -0.2], [0, 1], [0.1, 1]])
    assert neighbour_overlap(vectors, {0: [1], 3: [4], 4: [3]}, k=1) == 1
    assert neighbour_overlap(vectors, {0: [3], 3: [4]}, k=1) == 0.5
    assert neighbour_overlap(vectors, {0: [1, 3]}, k=2) == 0.5
    with pytest.raises(ValueError, match="No item has related ones"):
        neighbour_overlap(vectors, {})


def test_items_within_the_window_are_related():
    items = np.array([7, 3, 9])
    related = chosen_together([np.array([7, 1, 3, 1, 1, 9]), np.array([3, 3])], items, window=3)
    assert related == {0: [1], 1: [0, 2], 2: [1]}
