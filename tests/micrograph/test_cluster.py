import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, silhouette_score

from quatrain.micrograph.cluster import choose_k, kmeans, nearest, silhouette
from quatrain.micrograph.evaluate import adjusted_rand


def clouds(k, count=20, seed=0):
    rng = np.random.default_rng(seed)
    centres = 10 * np.eye(k, 5)
    return np.concatenate([centre + rng.standard_normal((count, 5)) for centre in centres]), np.repeat(range(k), count)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_clouds_that_lie_apart_are_found(k):
    points, truth = clouds(k)

    found = kmeans(points, k, np.random.default_rng(0))

    assert adjusted_rand(found.label_C, truth) == 1
    assert np.array_equal(nearest(points, found.centre_KF), found.label_C)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_number_of_clouds_is_found_out(k):
    points, _ = clouds(k)

    assert choose_k(points, 5, np.random.default_rng(0)) == k


@given(st.integers(0, 2**32))
def test_silhouette_and_rand_index_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    points, labels, others = rng.standard_normal((30, 3)), rng.integers(0, 4, 30), rng.integers(0, 3, 30)
    labels[:4] = range(4)

    assert silhouette(points, labels) == pytest.approx(silhouette_score(points, labels))
    assert adjusted_rand(labels, others) == pytest.approx(adjusted_rand_score(labels, others))


@pytest.mark.parametrize("points", [np.zeros((6, 2)), np.ones((1, 3)), np.array([[0.0], [1.0]])])
def test_fewer_different_points_than_clusters_are_fewer_clusters(points):
    found = kmeans(points, 4, np.random.default_rng(0))

    assert len(found.centre_KF) == len(np.unique(points, axis=0))
    assert choose_k(points, 5, np.random.default_rng(0)) <= max(2, len(points))


def test_equal_seeds_give_equal_clusters():
    points = np.random.default_rng(1).standard_normal((50, 4))

    first, second = (kmeans(points, 3, np.random.default_rng(7)) for _ in range(2))

    assert np.array_equal(first.label_C, second.label_C)
