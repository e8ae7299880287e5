import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from quatrain.micrograph.config import MERGERS
from quatrain.micrograph.merging_rules import MERGING_RULES, choose_k, kmeans, mean_silhouette, nearest


def clouds(k, count=20, seed=0):
    rng = np.random.default_rng(seed)
    centres = 10 * np.eye(k, 5)
    return np.concatenate([centre + rng.standard_normal((count, 5)) for centre in centres]), np.repeat(range(k), count)


def test_the_table_has_every_rule_of_the_settings():
    assert tuple(MERGING_RULES) == MERGERS


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_distant_clouds_are_found(k):
    points, truth = clouds(k)

    centres = kmeans(points, k, np.random.default_rng(0), 10)

    assert adjusted_rand_score(nearest(points, centres), truth) == 1


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_number_of_clouds_is_chosen_by_silhouette(k):
    points, _ = clouds(k)

    assert choose_k(points, 5, np.random.default_rng(0), 10) == k


@pytest.mark.parametrize("points", [np.zeros((6, 2)), np.ones((1, 3)), np.array([[0.0], [1.0]])])
def test_there_are_no_more_clusters_than_distinct_points(points):
    assert len(kmeans(points, 4, np.random.default_rng(0), 10)) == len(np.unique(points, axis=0))
    assert choose_k(points, 5, np.random.default_rng(0), 10) <= max(2, len(points))


def test_equal_seeds_give_equal_centres():
    points = np.random.default_rng(1).standard_normal((50, 4))

    first, second = (kmeans(points, 3, np.random.default_rng(7), 10) for _ in range(2))

    assert np.array_equal(first, second)


def test_a_heavier_point_attracts_the_centre():
    points = np.array([[0.0], [1.0]])

    assert kmeans(points, 1, np.random.default_rng(0), 1, weights=np.array([1, 3]))[0, 0] == pytest.approx(0.75)


def test_one_cluster_has_no_silhouette():
    assert mean_silhouette(np.ones((9, 2)), np.zeros(9, int), np.random.default_rng(0)) == 0
