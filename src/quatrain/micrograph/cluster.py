"""k-means with its number of clusters known, or chosen by silhouette."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# C points, F features, K clusters
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROUNDS = 100
_SILHOUETTE_POINTS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Clusters:
    """Points in groups."""

    label_C: Ints
    """The cluster of each point, from 0."""
    centre_KF: Floats
    spread: float
    """Sum of squared distances to the centres."""


def kmeans(points_CF: Floats, k: int, rng: np.random.Generator, restarts: int = 10) -> Clusters:
    """Return the tightest of `restarts` runs of k-means from k-means++ starts; k is at most the number of points."""
    k = min(k, len(np.unique(points_CF, axis=0)))
    return min((_lloyd(points_CF, _start(points_CF, k, rng)) for _ in range(restarts)), key=lambda found: found.spread)


def _start(points_CF: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Draw centres far from each other (k-means++)."""
    centres = [points_CF[rng.integers(len(points_CF))]]
    nearest = ((points_CF - centres[0]) ** 2).sum(axis=1)
    while len(centres) < k:
        chosen = rng.choice(len(points_CF), p=nearest / nearest.sum())
        centres.append(points_CF[chosen])
        nearest = np.minimum(nearest, ((points_CF - centres[-1]) ** 2).sum(axis=1))
    return np.array(centres)


def _lloyd(points_CF: Floats, centre_KF: Floats) -> Clusters:
    label_C = nearest(points_CF, centre_KF)
    for _ in range(_ROUNDS):
        member = label_C == np.arange(len(centre_KF))[:, None]
        sizes = member.sum(axis=1, keepdims=True)
        centre_KF = np.where(sizes > 0, member @ points_CF / np.maximum(1, sizes), centre_KF)
        before, label_C = label_C, nearest(points_CF, centre_KF)
        if (before == label_C).all():
            break
    spread = float(((points_CF - centre_KF[label_C]) ** 2).sum())
    return Clusters(label_C=label_C, centre_KF=centre_KF, spread=spread)


def nearest(points_CF: Floats, centre_KF: Floats) -> Ints:
    """Return the number of the nearest centre of each point."""
    return np.asarray(_squares(points_CF, centre_KF).argmin(axis=1), np.int64)


def _squares(one_AF: Floats, other_BF: Floats) -> Floats:
    squares: Floats = (one_AF**2).sum(axis=1)[:, None] + (other_BF**2).sum(axis=1) - 2 * one_AF @ other_BF.T
    return np.maximum(squares, 0, out=squares)


def silhouette(points_CF: Floats, label_C: Ints) -> float:
    """Return the mean silhouette of a grouping, -1 to 1; 0 for a single group. A point alone counts 0."""
    groups, label_C = np.unique(label_C, return_inverse=True)
    if len(groups) < 2:
        return 0.0
    member = (label_C[:, None] == np.arange(len(groups))).astype(float)
    sizes = member.sum(axis=0)
    sums = np.sqrt(_squares(points_CF, points_CF)) @ member
    own = np.arange(len(label_C)), label_C
    inside = sums[own] / np.maximum(1, sizes[label_C] - 1)
    means = sums / sizes
    means[own] = np.inf
    outside = means.min(axis=1)
    values = (outside - inside) / np.maximum(np.maximum(outside, inside), 1e-12)
    return float(np.where(sizes[label_C] > 1, values, 0).mean())


def choose_k(points_CF: Floats, most: int, rng: np.random.Generator, restarts: int = 10) -> int:
    """Return the number of clusters from 2 to `most` with the highest silhouette, on at most 1,000 points; ours."""
    if len(points_CF) < 3:
        return max(1, min(2, len(points_CF)))
    few = rng.choice(len(points_CF), min(len(points_CF), _SILHOUETTE_POINTS), replace=False)
    points = points_CF[few]
    counts = range(2, min(most, len(points) - 1) + 1)
    return max(counts, key=lambda k: (silhouette(points, kmeans(points, k, rng, restarts).label_C), -k))
