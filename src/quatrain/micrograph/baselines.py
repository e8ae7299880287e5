"""Baselines that boosting is compared with: thresholds, k-means without masks, and the ceiling of the masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quatrain.micrograph.config import MergingConfig
from quatrain.micrograph.embedders import Classical
from quatrain.micrograph.evaluate import label_ious, match
from quatrain.micrograph.masks import Mask
from quatrain.micrograph.merging import merge, paint

# H W pixels
Labels = NDArray[np.int64]
BASELINES = {
    "multi-otsu": "multi-Otsu thresholds of the smoothed image",
    "pixel-kmeans": "k-means of pixels (multi-scale grey, edges, texture)",
    "window-kmeans": "k-means of texture crops, without masks",
    "oracle": "the same masks, each with the material of most of its pixels (ceiling)",
}
"""The baselines and their descriptions."""


def mean_ious(
    grey_HW: NDArray[np.uint8], masks: Sequence[Mask], truth_HW: NDArray[Any], config: MergingConfig, seed: int
) -> dict[str, float]:
    """Return the mean IoU of each baseline with as many materials as the truth has."""
    k = int(truth_HW.max(initial=0))
    maps = {
        "multi-otsu": multi_otsu(grey_HW, k),
        "pixel-kmeans": pixel_kmeans(grey_HW, k, config, seed),
        "window-kmeans": window_kmeans(grey_HW, k, config, seed),
        "oracle": oracle(masks, truth_HW),
    }
    return {name: match(label_ious(labels_HW, truth_HW, k))[0] for name, labels_HW in maps.items()}


def multi_otsu(grey_HW: NDArray[np.uint8], k: int) -> Labels:
    """Return k grey classes of the image smoothed with a sigma of 2 px, int64 (H, W) from 1."""
    from skimage.filters import threshold_multiotsu

    smooth = np.rint(ndimage.gaussian_filter(grey_HW.astype(np.float32), 2)).astype(np.uint8)
    classes = min(k, len(np.unique(smooth)))
    if classes < 2:
        return np.ones(grey_HW.shape, np.int64)
    labels_HW: Labels = np.digitize(smooth, threshold_multiotsu(smooth, classes)).astype(np.int64) + 1
    return labels_HW


def pixel_kmeans(grey_HW: NDArray[np.uint8], k: int, config: MergingConfig, seed: int) -> Labels:
    """Return k clusters of pixels by multi-scale features, int64 (H, W) from 1."""
    settings = replace(config, rule="pixels", embedder="classical")
    return merge(grey_HW, [], Classical(), settings, k=k, seed=seed).labels_HW.astype(np.int64)


def window_kmeans(grey_HW: NDArray[np.uint8], k: int, config: MergingConfig, seed: int) -> Labels:
    """Return k clusters of half-overlapping texture crops, int64 (H, W) from 1."""
    settings = replace(config, rule="kmeans", fill="cluster", embedder="classical")
    return merge(grey_HW, [], Classical(), settings, k=k, seed=seed).labels_HW.astype(np.int64)


def oracle(masks: Sequence[Mask], truth_HW: NDArray[Any]) -> Labels:
    """Return the masks painted with the material of most of their pixels, int64 (H, W), 0 where no mask lies."""
    under = [truth_HW[mask.window][mask.inside()] for mask in masks]
    best = [int(np.bincount(one[one > 0], minlength=2).argmax()) if (one > 0).any() else 0 for one in under]
    return paint(masks, np.array(best, np.int64), truth_HW.shape)
