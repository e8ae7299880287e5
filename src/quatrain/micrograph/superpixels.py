"""Mask proposals without weights, from superpixels joined by Ward linkage. This is not SAM."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array

from quatrain.data.rle import compress
from quatrain.micrograph.boost import grey

# H W pixels, S superpixels, F features
_LONGEST_PX = 512
_SUPERPIXELS = 400
_CUTS = (12, 48)
"""Numbers of regions of the coarse and of the fine segmentation."""


def regions(image_HWC: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return nested region masks of an image, uint8 (H, W, 3), as SAM-like records with COCO run lengths.

    The image is reduced to at most 512 px per side. SLIC superpixels with similar grey and texture are joined across
    shared borders (Ward linkage). The masks are the regions at the coarse and the fine cut. `stability_score` is 1
    minus the ratio of the linkage distances at which a region appears and disappears.
    """
    from skimage.segmentation import slic
    from sklearn.cluster import ward_tree

    grey_HW = grey(image_HWC)
    step = max(1, -(-max(grey_HW.shape) // _LONGEST_PX))
    small = ndimage.uniform_filter(grey_HW.astype(np.float32), step)[::step, ::step] / 255
    features_HWF = _features(small)
    superpixels = slic(
        features_HWF,
        n_segments=_SUPERPIXELS,
        compactness=0.1,
        start_label=0,
        channel_axis=-1,
        enforce_connectivity=True,
    )
    leaves = int(superpixels.max()) + 1
    sizes = np.bincount(superpixels.ravel())
    sums = [np.bincount(superpixels.ravel(), one.ravel()) for one in np.moveaxis(features_HWF, -1, 0)]
    means_SF = np.stack(sums, axis=1) / sizes[:, None]
    tree = _Tree([], [])
    if leaves > 1:
        children, _, _, _, distances = ward_tree(means_SF, connectivity=borders(superpixels), return_distance=True)
        tree = _Tree(children.tolist(), distances.tolist())
    records = []
    for node in dict.fromkeys(node for count in _CUTS for node in tree.cut(count)):
        whole = np.isin(superpixels, tree.leaves_of(node)).repeat(step, axis=0).repeat(step, axis=1)
        records.append(_record(whole[: grey_HW.shape[0], : grey_HW.shape[1]], tree.stability(node)))
    return records


def _features(image_HW: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return smoothed grey and the logarithms of fine and coarse contrast around every pixel, (H, W, 3)."""
    soft = ndimage.gaussian_filter(image_HW, 2)
    fine = ndimage.gaussian_filter(np.abs(image_HW - ndimage.gaussian_filter(image_HW, 1)), 5)
    coarse = ndimage.gaussian_filter(
        np.abs(ndimage.gaussian_filter(image_HW, 1) - ndimage.gaussian_filter(image_HW, 4)), 6
    )
    stack = np.stack([soft, np.log(fine + 0.01), np.log(coarse + 0.01)], axis=-1).astype(np.float64)
    scaled: NDArray[np.float64] = (stack - stack.mean(axis=(0, 1))) / np.maximum(stack.std(axis=(0, 1)), 1e-6)
    scaled *= (1.0, 0.5, 0.5)
    return scaled


def borders(labels_HW: NDArray[np.integer[Any]]) -> coo_array:
    """Return the region adjacency graph of a label map: which labels share a border, bool (S, S)."""
    sides = ((labels_HW[1:], labels_HW[:-1]), (labels_HW[:, 1:], labels_HW[:, :-1]))
    pairs = np.concatenate([np.stack([one[one != other], other[one != other]]) for one, other in sides], axis=1)
    both = np.unique(np.concatenate([pairs, pairs[::-1]], axis=1), axis=1)
    count = int(labels_HW.max()) + 1
    return coo_array((np.ones(both.shape[1], bool), (both[0], both[1])), shape=(count, count))


class _Tree:
    """A Ward tree: node i + leaves joins `children[i]` at distance `distances[i]`."""

    def __init__(self, children: list[list[int]], distances: list[float]) -> None:
        self._children = children
        self._leaves = len(children) + 1
        self._height = [0.0] * self._leaves + distances
        self._parent = {child: self._leaves + at for at, pair in enumerate(children) for child in pair}

    def cut(self, count: int) -> list[int]:
        """Return the nodes at which `count` regions are left, or all leaves if there are fewer."""
        end = max(self._leaves, 2 * self._leaves - count)
        return [node for node in range(end) if self._parent.get(node, end) >= end]

    def leaves_of(self, node: int) -> list[int]:
        """Return the leaves below a node."""
        if node < self._leaves:
            return [node]
        return [leaf for child in self._children[node - self._leaves] for leaf in self.leaves_of(child)]

    def stability(self, node: int) -> float:
        """Return 1 for the root and 0 for a node that is joined as soon as it appears."""
        if node not in self._parent:
            return 1.0
        return 1 - (self._height[node] / max(self._height[self._parent[node]], 1e-12)) ** 2


def _record(mask_HW: NDArray[np.bool_], stability: float) -> dict[str, Any]:
    hw = (mask_HW.shape[0], mask_HW.shape[1])
    return {
        "segmentation": {"size": list(hw), "counts": compress(mask_HW).decode()},
        "area": int(mask_HW.sum()),
        "predicted_iou": 1.0,
        "stability_score": stability,
    }
