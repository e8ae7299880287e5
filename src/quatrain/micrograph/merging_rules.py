"""The table of merging rules: each clusters texture features into materials and assigns one to every mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quatrain.micrograph.config import MergingConfig
from quatrain.micrograph.crops import Crops
from quatrain.seeding import numpy_rng

# N masks, C crops of masks, G cells of the grid, K clusters, F features
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SILHOUETTE_POINTS = 1000
_FITTED_PIXELS = 20_000
_LONGEST_PX = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Textures:
    """Texture features of an image: of the crops of its masks and of the cells of a grid."""

    crops: Crops
    masks: int
    corner_G2: Ints
    """Row and column of each cell's crop."""
    grid: tuple[int, int]
    """Rows and columns of the cells; (0, 0) if the cells do not form a whole grid."""
    hw: tuple[int, int]
    """Height and width of the image."""
    embedding_CF: Floats
    embedding_GF: Floats
    founds_C: NDArray[np.bool_]
    """Whether a crop takes part in finding the materials."""
    founds_G: NDArray[np.bool_]
    """Whether a cell takes part in finding the materials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clusters:
    """Clusters of crops, cells and masks, from 0."""

    count: int
    crop_C: Ints
    cell_G: Ints
    mask_N: Ints
    confidence_N: Floats
    """Share of a mask's crops that are in its cluster."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergingRule:
    """One merging rule."""

    cluster: Callable[[Textures, int | None, MergingConfig, int], Clusters]
    """Takes textures, the number of materials (None: choose it), settings and seed."""
    cells: Literal["bare", "grid", "pixels"]
    """Cells that the rule needs: crops without masks, a grid of crops over the whole image, or pixels. With `grid` and
    `pixels` the cells label every pixel."""


def by_kmeans(textures: Textures, k: int | None, config: MergingConfig, seed: int) -> Clusters:
    """Cluster all crops by k-means; a mask takes the majority of its crops (SAM-I-Am)."""
    points_CF = np.concatenate(
        [textures.embedding_CF[textures.founds_C], textures.embedding_GF[textures.founds_G]]
    )  # fmt: skip
    rng = numpy_rng(seed, "kmeans")
    count = k or choose_k(points_CF, config.k_most, rng, config.restarts)
    centre_KF = kmeans(points_CF, count, rng, config.restarts)
    clusters = _nearest_clusters(textures, centre_KF)
    found = np.union1d(clusters.mask_N, clusters.cell_G if textures.founds_G.any() else [])
    if k is not None and len(found) < min(k, textures.masks):
        return _by_mask_means(textures, k, config, seed)
    return clusters


def _nearest_clusters(textures: Textures, centre_KF: Floats) -> Clusters:
    crop_C, cell_G = nearest(textures.embedding_CF, centre_KF), nearest(textures.embedding_GF, centre_KF)
    mask_N, confidence_N = majority(crop_C, len(centre_KF), textures)
    return Clusters(count=len(centre_KF), crop_C=crop_C, cell_G=cell_G, mask_N=mask_N, confidence_N=confidence_N)


def _by_mask_means(textures: Textures, k: int, config: MergingConfig, seed: int) -> Clusters:
    """Cluster masks by the means of their crops, for when the majorities leave a material without a mask."""
    sums = np.zeros((textures.masks, textures.embedding_CF.shape[1]))
    np.add.at(sums, textures.crops.mask_C, textures.embedding_CF)
    crops_N = np.bincount(textures.crops.mask_C, minlength=textures.masks)
    means_NF = sums / crops_N[:, None]
    centre_KF = kmeans(means_NF, k, numpy_rng(seed, "kmeans of masks"), config.restarts)
    mask_N, crop_C = nearest(means_NF, centre_KF), nearest(textures.embedding_CF, centre_KF)
    agrees_C = crop_C == mask_N[textures.crops.mask_C]
    return Clusters(
        count=len(centre_KF),
        crop_C=crop_C,
        cell_G=nearest(textures.embedding_GF, centre_KF),
        mask_N=mask_N,
        confidence_N=np.bincount(textures.crops.mask_C, agrees_C, textures.masks) / crops_N,
    )


def by_ward(textures: Textures, k: int | None, config: MergingConfig, seed: int) -> Clusters:
    """Join neighbouring cells by Ward linkage; a mask takes the majority of the cells at its crops.

    Cells join only across shared borders, so each cluster is one connected region per material. With
    `config.regions` the cells join to that many regions, which are then clustered by k-means weighted by area.
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.feature_extraction.image import grid_to_graph

    borders = grid_to_graph(*textures.grid)

    def cut(count: int) -> Ints:
        ward = AgglomerativeClustering(n_clusters=min(count, len(borders.row)), connectivity=borders, linkage="ward")
        return np.asarray(ward.fit_predict(textures.embedding_GF), np.int64)

    cells_GF, rng = textures.embedding_GF, numpy_rng(seed, "ward")
    if config.regions:
        region_G = cut(config.regions)
        means_RF = _means(cells_GF, region_G)
        count = k or choose_k(means_RF, config.k_most, rng, config.restarts)
        centre_KF = kmeans(means_RF, count, rng, config.restarts, weights=np.bincount(region_G))
        cell_G = nearest(means_RF, centre_KF)[region_G]
    else:
        cuts = {count: cut(count) for count in ([k] if k else range(2, config.k_most + 1))}
        cell_G = max(cuts.values(), key=lambda labels_G: mean_silhouette(cells_GF, labels_G, rng) if not k else 0)
    return _clusters_of_cells(textures, cell_G)


def by_pixels(textures: Textures, k: int | None, config: MergingConfig, seed: int) -> Clusters:
    """Cluster pixels by k-means; a mask takes the majority of the pixels at the centres of its crops."""
    pixels_GF, rng = textures.embedding_GF, numpy_rng(seed, "pixels")
    some_CF = pixels_GF[rng.choice(len(pixels_GF), min(len(pixels_GF), _FITTED_PIXELS), replace=False)]
    count = k or choose_k(some_CF, config.k_most, rng, 3)
    return _clusters_of_cells(textures, nearest(pixels_GF, kmeans(some_CF, count, rng, 3)))


def pixel_features(grey_HW: NDArray[np.uint8]) -> tuple[Floats, tuple[int, int]]:
    """Return scikit-image's multi-scale grey, edge and texture features at 512 px per side or less, and rows, columns.

    The features are float64 (rows x columns, F), in units of their deviation.
    """
    from scipy import ndimage
    from skimage.feature import multiscale_basic_features

    step = max(1, -(-max(grey_HW.shape) // _LONGEST_PX))
    small = ndimage.uniform_filter(grey_HW.astype(np.float32) / 255, step)[::step, ::step]
    features = multiscale_basic_features(small, sigma_min=1, sigma_max=8).reshape(small.size, -1).astype(np.float64)
    scaled: Floats = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
    return scaled, (small.shape[0], small.shape[1])


def _clusters_of_cells(textures: Textures, cell_G: Ints) -> Clusters:
    """Return the clusters of crops and masks from those of the cells under the crops' centres."""
    crop_C, count = cell_G[_cell_of(textures)], int(cell_G.max()) + 1
    mask_N, confidence_N = majority(crop_C, count, textures)
    return Clusters(count=count, crop_C=crop_C, cell_G=cell_G, mask_N=mask_N, confidence_N=confidence_N)


def _cell_of(textures: Textures) -> Ints:
    """Return the cell under the centre of each crop, int64 (C,)."""
    centre_C2 = textures.crops.corner_C2 + textures.crops.pixels_CSS.shape[1] // 2
    rows, columns = textures.grid
    row_C = np.minimum(centre_C2[:, 0] * rows // textures.hw[0], rows - 1)
    column_C = np.minimum(centre_C2[:, 1] * columns // textures.hw[1], columns - 1)
    cells: Ints = row_C * columns + column_C
    return cells


def _means(points_CF: Floats, label_C: Ints) -> Floats:
    sums = np.zeros((int(label_C.max()) + 1, points_CF.shape[1]))
    np.add.at(sums, label_C, points_CF)
    means: Floats = sums / np.bincount(label_C)[:, None]
    return means


MERGING_RULES: dict[str, MergingRule] = {
    "kmeans": MergingRule(cluster=by_kmeans, cells="bare"),
    "ward": MergingRule(cluster=by_ward, cells="grid"),
    "pixels": MergingRule(cluster=by_pixels, cells="pixels"),
}
"""The merging rules by their names in quatrain.micrograph.config.MERGERS."""


def majority(crop_C: Ints, count: int, textures: Textures) -> tuple[Ints, Floats]:
    """Return each mask's most frequent cluster and the share of its crops that are in it."""
    votes = np.zeros((textures.masks, count))
    np.add.at(votes, (textures.crops.mask_C, crop_C), 1)
    return votes.argmax(axis=1), votes.max(axis=1, initial=0) / np.maximum(1, votes.sum(axis=1))


def kmeans(
    points_CF: Floats, k: int, rng: np.random.Generator, restarts: int, weights: NDArray[Any] | None = None
) -> Floats:
    """Return the centres of scikit-learn's k-means, (K, F); K is at most the number of distinct points."""
    from sklearn.cluster import KMeans

    k = min(k, len(np.unique(points_CF, axis=0)))
    found = KMeans(k, n_init=restarts, random_state=int(rng.integers(2**31))).fit(points_CF, sample_weight=weights)
    return np.asarray(found.cluster_centers_, np.float64)


def nearest(points_CF: Floats, centre_KF: Floats) -> Ints:
    """Return the index of the nearest centre of each point, int64 (C,)."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(points_CF, centre_KF, "sqeuclidean").argmin(axis=1), np.int64)


def mean_silhouette(points_CF: Floats, label_C: Ints, rng: np.random.Generator) -> float:
    """Return the mean silhouette of at most 1,000 points, -1 to 1; 0 for a single cluster."""
    from sklearn.metrics import silhouette_score

    few = rng.choice(len(points_CF), min(len(points_CF), _SILHOUETTE_POINTS), replace=False)
    if not 1 < len(np.unique(label_C[few])) < len(few):
        return 0.0
    return float(silhouette_score(points_CF[few], label_C[few]))


def choose_k(points_CF: Floats, most: int, rng: np.random.Generator, restarts: int) -> int:
    """Return the number of clusters from 2 to `most` with the highest silhouette of at most 1,000 points."""
    if len(points_CF) < 3:
        return max(1, min(2, len(points_CF)))
    points = points_CF[rng.choice(len(points_CF), min(len(points_CF), _SILHOUETTE_POINTS), replace=False)]
    counts = range(2, min(most, len(points) - 1) + 1)

    def score(k: int) -> tuple[float, int]:
        return mean_silhouette(points, nearest(points, kmeans(points, k, rng, restarts)), rng), -k

    return max(counts, key=score)
