"""Merging by texture (SAM-I-Am): crops of every mask are clustered, masks of one cluster are one material."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quatrain.micrograph.cluster import choose_k, kmeans, nearest
from quatrain.micrograph.config import MergingConfig
from quatrain.micrograph.crops import Crops, cut
from quatrain.micrograph.embedders import Embedder
from quatrain.micrograph.masks import Mask
from quatrain.seeding import numpy_rng

# N masks, C crops, K materials, H W pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Merging:
    """One image's materials."""

    labels_HW: NDArray[np.uint16]
    """The material of every pixel, from 1, the largest first; 0 where no mask lies."""
    material_N: NDArray[np.int64]
    """The material of each mask, from 1."""
    confidence_N: NDArray[np.float64]
    """Share of a mask's crops that voted for its material."""
    low_support_N: NDArray[np.bool_]
    """Whether a mask was too narrow for a crop of its own."""
    crops: Crops
    embedding_CF: NDArray[np.float64]
    vote_C: NDArray[np.int64]
    """The material that each crop voted for; 0 for one that no mask follows."""

    @property
    def materials(self) -> int:
        """How many materials the masks were united to."""
        return int(max(self.material_N.max(initial=0), self.labels_HW.max(initial=0)))


def merge(
    grey_HW: NDArray[np.uint8],
    masks: Sequence[Mask],
    embedder: Embedder,
    config: MergingConfig,
    *,
    k: int | None,
    seed: int,
    pixel_nm: float | None = None,
) -> Merging:
    """Unite masks of one texture. `k` is the number of materials; None chooses it by silhouette."""
    side_px = crop_side(config, pixel_nm)
    crops = cut(grey_HW, masks, config, seed, side_px)
    fill = _NO_CORNERS if config.fill == "none" else _fill_corners(masks, grey_HW.shape, side_px)
    if not masks and (config.fill != "cluster" or not len(fill)):
        return _nothing(grey_HW.shape, crops)
    windows = np.lib.stride_tricks.sliding_window_view(grey_HW, crops.pixels_CSS.shape[1:])
    every = np.concatenate([crops.pixels_CSS, windows[fill[:, 0], fill[:, 1]]])
    features_CF = embedder.embed(every, np.concatenate([crops.corner_C2, fill]))
    founding_C = np.append(_trusted(crops, k or 2), np.full(len(fill), config.fill == "cluster"))
    embedding_CF = standardised(features_CF, like=features_CF[founding_C])
    embedding_CF *= embedder.weights(embedding_CF.shape[1])
    crop_CF, fill_CF = np.split(embedding_CF, [len(crops.mask_C)])
    centre_KF = _centres(embedding_CF[founding_C], config, k, seed)
    cluster_C, filled = nearest(crop_CF, centre_KF), nearest(fill_CF, centre_KF)
    cluster_N, confidence_N = _vote(cluster_C, len(centre_KF), crops, len(masks))
    found = np.union1d(cluster_N, filled if config.fill == "cluster" else [])
    if k is not None and len(found) < min(k, len(masks)):
        centre_KF, cluster_N = _by_mask(crop_CF, crops, len(masks), k, config, seed)
        cluster_C, filled = nearest(crop_CF, centre_KF), nearest(fill_CF, centre_KF)
        confidence_N = _agreement(cluster_C, cluster_N, crops)
    labels_HW = paint(masks, cluster_N + 1, grey_HW.shape)
    if len(fill):
        _fill(labels_HW, fill, side_px, filled + 1)
    order = _by_size(labels_HW, len(centre_KF))
    low_N = np.zeros(len(masks), bool)
    low_N[crops.mask_C[crops.low_support_C]] = True
    return Merging(
        labels_HW=order[labels_HW].astype(np.uint16),
        material_N=order[cluster_N + 1],
        confidence_N=confidence_N,
        low_support_N=low_N,
        crops=crops,
        embedding_CF=crop_CF,
        vote_C=order[cluster_C + 1],
    )


def crop_side(config: MergingConfig, pixel_nm: float | None) -> int:
    """Return the side of a crop in pixels, from nm where that is asked and the pixel size is known."""
    if config.crop_nm and pixel_nm:
        return max(8, round(config.crop_nm / pixel_nm))
    return config.crop_px


def _trusted(crops: Crops, k: int) -> NDArray[np.bool_]:
    """Return which crops may found materials: those with room in their mask, or all where these are too few."""
    with_room = ~crops.low_support_C
    return with_room if with_room.sum() > k else np.ones(len(with_room), bool)


def standardised(values_CF: NDArray[np.float64], like: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every column in units of its deviation in `like`, from its mean there; one that is constant becomes 0."""
    deviation = like.std(axis=0)
    varies = deviation > 1e-9
    scaled: NDArray[np.float64] = (values_CF - like.mean(axis=0)) * varies / np.where(varies, deviation, 1)
    return scaled


def _centres(points_CF: NDArray[np.float64], config: MergingConfig, k: int | None, seed: int) -> NDArray[np.float64]:
    rng = numpy_rng(seed, "kmeans")
    k = k or choose_k(points_CF, config.k_most, rng, config.restarts)
    return kmeans(points_CF, k, rng, config.restarts).centre_KF


def _vote(
    cluster_C: NDArray[np.int64], clusters: int, crops: Crops, masks: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each mask's majority cluster and the share of its crops that voted for it."""
    votes = np.zeros((masks, clusters))
    np.add.at(votes, (crops.mask_C, cluster_C), 1)
    return votes.argmax(axis=1), votes.max(axis=1) / votes.sum(axis=1)


def _by_mask(
    points_CF: NDArray[np.float64], crops: Crops, masks: int, k: int, config: MergingConfig, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return centres and each mask's cluster when masks are clustered by the means of their crops.

    Ours, for when the crops' majorities leave one of the k materials without any mask.
    """
    sums = np.zeros((masks, points_CF.shape[1]))
    np.add.at(sums, crops.mask_C, points_CF)
    means = sums / np.bincount(crops.mask_C, minlength=masks)[:, None]
    found = kmeans(means, k, numpy_rng(seed, "kmeans of masks"), config.restarts)
    return found.centre_KF, found.label_C


def _agreement(cluster_C: NDArray[np.int64], cluster_N: NDArray[np.int64], crops: Crops) -> NDArray[np.float64]:
    """Return the share of each mask's crops that lie nearest to the centre of its own cluster."""
    agrees = cluster_C == cluster_N[crops.mask_C]
    shares: NDArray[np.float64] = np.bincount(crops.mask_C, agrees, len(cluster_N)) / np.bincount(crops.mask_C)
    return shares


def paint(masks: Sequence[Mask], label_N: NDArray[np.int64], hw: tuple[int, int]) -> NDArray[np.int64]:
    """Return a label map with the masks painted from large to small, int64 (H, W), 0 where none lies."""
    labels_HW = np.zeros(hw, np.int64)
    for place in sorted(range(len(masks)), key=lambda place: (-masks[place].area, place)):
        labels_HW[masks[place].window][masks[place].inside()] = label_N[place]
    return labels_HW


def _by_size(labels_HW: NDArray[np.int64], clusters: int) -> NDArray[np.int64]:
    """Return the material number of each cluster (index 1 on), the largest first; 0 for one that covers nothing."""
    areas = np.bincount(labels_HW.ravel(), minlength=clusters + 1)
    areas[0] = 0
    order = np.zeros(clusters + 1, np.int64)
    largest_first = np.argsort(-areas, kind="stable")
    used = largest_first[areas[largest_first] > 0]
    order[used] = np.arange(1, len(used) + 1)
    return order


_NO_CORNERS = np.zeros((0, 2), np.int64)


def _fill_corners(masks: Sequence[Mask], hw: tuple[int, int], side_px: int) -> NDArray[np.int64]:
    """Return the corners of crops in a half-overlapping grid, of those whose middle no mask covers enough."""
    bare_HW = paint(masks, np.ones(len(masks), np.int64), hw) == 0
    side = min(side_px, *hw)
    step = max(1, side // 2)
    rows, columns = (np.unique(np.append(np.arange(0, size - side + 1, step), size - side)) for size in hw)
    corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    quarter = side // 4
    middle = [bare_HW[r + quarter : r + side - quarter, c + quarter : c + side - quarter].mean() for r, c in corners]
    chosen: NDArray[np.int64] = corners[np.array(middle) > 0.5]
    return chosen


def _fill(labels_HW: NDArray[np.int64], corners: NDArray[np.int64], side: int, label: NDArray[np.int64]) -> None:
    """Give every bare pixel the label of the nearest filled crop's centre or labelled pixel, in place."""
    from scipy import ndimage

    known = labels_HW.copy()
    centre = np.minimum(corners + side // 2, np.array(labels_HW.shape) - 1)
    free = known[centre[:, 0], centre[:, 1]] == 0
    known[centre[free, 0], centre[free, 1]] = label[free]
    at = ndimage.distance_transform_edt(known == 0, return_distances=False, return_indices=True)
    bare = labels_HW == 0
    labels_HW[bare] = known[tuple(at)][bare]


def _nothing(hw: tuple[int, ...], crops: Crops) -> Merging:
    return Merging(
        labels_HW=np.zeros(hw, np.uint16),
        material_N=np.zeros(0, np.int64),
        confidence_N=np.zeros(0),
        low_support_N=np.zeros(0, bool),
        crops=crops,
        embedding_CF=np.zeros((0, 0)),
        vote_C=np.zeros(0, np.int64),
    )
