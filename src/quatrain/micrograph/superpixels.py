"""Weights-free mask proposals from merged superpixels. This is not SAM; it stands in where there are no weights."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quatrain.data.rle import compress
from quatrain.micrograph.boost import grey

# H W pixels, S superpixels, F features
_LONGEST_PX = 512
_SUPERPIXELS = 400
_CUTS = (12, 48)
"""How many regions are left where the merging is looked at: a coarse and a fine segmentation."""


def regions(image_HWC: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return nested region masks of an image, uint8 (H, W, 3), as SAM-like records with COCO run lengths.

    SLIC superpixels of an image of at most 512 px a side are merged pair by pair, those first whose grey and texture
    differ least for their sizes (Ward). What is left at 48 and at 12 regions are the masks. `stability_score` tells
    how far the difference at which a region is merged away is above the one at which it came about.
    """
    from skimage.segmentation import slic

    grey_HW = grey(image_HWC)
    step = max(1, -(-max(grey_HW.shape) // _LONGEST_PX))
    small = ndimage.uniform_filter(grey_HW.astype(np.float32), step)[::step, ::step] / 255
    seen = _seen(small)
    superpixels = slic(
        seen, n_segments=_SUPERPIXELS, compactness=0.1, start_label=0, channel_axis=-1, enforce_connectivity=True
    )
    tree = _Tree.of(superpixels, seen)
    tree.grow()
    records = []
    for node in dict.fromkeys(node for count in _CUTS for node in tree.cut(count)):
        members = np.zeros(len(tree.leaves), bool)
        members[tree.members[node]] = True
        whole = np.repeat(np.repeat(members[superpixels], step, axis=0), step, axis=1)
        records.append(_record(whole[: grey_HW.shape[0], : grey_HW.shape[1]], tree.stability(node)))
    return records


def _seen(image_HW: NDArray[np.float32]) -> NDArray[np.float64]:
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


@dataclass
class _Tree:
    """Regions that are merged pair by pair; those from the number of superpixels on are made of two others."""

    leaves: NDArray[np.int64]
    """Pixels of each superpixel."""
    pixels: list[float]
    mean: list[NDArray[np.float64]]
    neighbours: list[set[int]]
    members: list[list[int]]
    height: list[float] = field(default_factory=list)
    """The difference at which a region came about."""
    parent: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, superpixels_HW: NDArray[np.int64], seen_HWF: NDArray[np.float64]) -> _Tree:
        """Return the superpixels of an image with their mean features and neighbours."""
        count = int(superpixels_HW.max()) + 1
        sizes = np.bincount(superpixels_HW.ravel(), minlength=count)
        features = [np.bincount(superpixels_HW.ravel(), one.ravel(), count) for one in np.moveaxis(seen_HWF, -1, 0)]
        means = np.stack(features, axis=1) / np.maximum(1, sizes)[:, None]
        neighbours: list[set[int]] = [set() for _ in range(count)]
        for one, other in ((superpixels_HW[1:], superpixels_HW[:-1]), (superpixels_HW[:, 1:], superpixels_HW[:, :-1])):
            for a, b in np.unique(np.stack([one[one != other], other[one != other]], axis=1), axis=0).tolist():
                neighbours[a].add(b)
                neighbours[b].add(a)
        return cls(sizes, sizes.tolist(), list(means), neighbours, [[one] for one in range(count)], [0.0] * count)

    def cost(self, one: int, other: int) -> float:
        """Return by how much the scatter grows when two regions become one, in features of a whole image."""
        shared = self.pixels[one] * self.pixels[other] / (self.pixels[one] + self.pixels[other])
        return float(shared * ((self.mean[one] - self.mean[other]) ** 2).sum()) / float(self.leaves.sum())

    def grow(self) -> None:
        """Merge the pair that differs least until one region is left, or regions that do not touch."""
        queue = [(self.cost(a, b), a, b) for a in range(len(self.pixels)) for b in self.neighbours[a] if a < b]
        heapq.heapify(queue)
        while queue:
            cost, one, other = heapq.heappop(queue)
            if one in self.parent or other in self.parent:
                continue
            new = self._merge(one, other, cost)
            for near in self.neighbours[new]:
                heapq.heappush(queue, (self.cost(near, new), near, new))

    def _merge(self, one: int, other: int, cost: float) -> int:
        new, pixels = len(self.pixels), self.pixels[one] + self.pixels[other]
        self.mean.append((self.pixels[one] * self.mean[one] + self.pixels[other] * self.mean[other]) / pixels)
        self.pixels.append(pixels)
        self.members.append(self.members[one] + self.members[other])
        self.height.append(max(cost, self.height[one], self.height[other]))
        near = (self.neighbours[one] | self.neighbours[other]) - {one, other}
        self.neighbours.append(near)
        for region in near:
            self.neighbours[region] -= {one, other}
            self.neighbours[region].add(new)
        self.parent[one] = self.parent[other] = new
        return new

    def cut(self, count: int) -> list[int]:
        """Return the regions that were there when `count` of them were left; all superpixels when these are fewer."""
        until = max(len(self.leaves), len(self.pixels) + 1 - count)
        return [node for node in range(until) if self.parent.get(node, until) >= until]

    def stability(self, node: int) -> float:
        """Return 1 for a region that lasts to the end, 0 for one that is merged away as soon as it came about."""
        if node not in self.parent:
            return 1.0
        return 1 - self.height[node] / max(self.height[self.parent[node]], 1e-12)


def _record(mask_HW: NDArray[np.bool_], stability: float) -> dict[str, Any]:
    hw = (mask_HW.shape[0], mask_HW.shape[1])
    return {
        "segmentation": {"size": list(hw), "counts": compress(mask_HW).decode()},
        "area": int(mask_HW.sum()),
        "predicted_iou": 1.0,
        "stability_score": stability,
    }
