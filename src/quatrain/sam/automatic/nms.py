"""Greedy suppression of duplicates, by the boxes or by the masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quatrain.data.runs import Runs

Floats = NDArray[np.float64]


def keep_by_box(boxes_N4: NDArray[np.int64], scores_N: Floats, iou_thresh: float) -> list[int]:
    """Return the boxes that stay, best score first; equal to torchvision's nms.

    A box (left, top, right, bottom; its area is the product of the differences) falls when its intersection over
    union with a better one that stays is above `iou_thresh`.
    """
    boxes = np.asarray(boxes_N4, np.float64).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores_N), kind="stable")
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(int(first))
        order = order[~(_box_iou(boxes[first], boxes[order]) > iou_thresh)]
    return kept


def _box_iou(box_4: Floats, boxes_N4: Floats) -> Floats:
    shared = np.minimum(box_4[2:], boxes_N4[:, 2:]) - np.maximum(box_4[:2], boxes_N4[:, :2])
    shared_N = np.clip(shared, 0, None).prod(axis=1)
    own = (box_4[2:] - box_4[:2]).prod()
    union = own + (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(axis=1) - shared_N
    with np.errstate(invalid="ignore"):  # boxes without area: no overlap, as in torchvision
        return np.asarray(shared_N / union, np.float64)


def keep_by_mask(masks: Sequence[Runs], scores_N: Floats, iou_thresh: float) -> list[int]:
    """Return the masks that stay, best score first: one falls when its IoU with a better one is above `iou_thresh`."""
    boxes = np.array([mask.box for mask in masks]).reshape(-1, 4)
    areas = np.array([mask.area for mask in masks])
    order = np.argsort(-np.asarray(scores_N), kind="stable")
    kept = []
    while len(order):
        first, order = int(order[0]), order[1:]
        kept.append(first)
        near = _may_exceed(first, order, boxes, areas, iou_thresh)
        fallen = {int(i) for i in order[near] if mask_iou(masks[first], masks[i]) > iou_thresh}
        order = np.array([i for i in order if int(i) not in fallen], int)
    return kept


def _may_exceed(
    first: int, others: NDArray[np.int64], boxes_N4: NDArray[np.int64], areas_N: NDArray[np.int64], iou_thresh: float
) -> NDArray[np.bool_]:
    """Tell which masks could have a larger IoU: a mask shares no more than its area and the boxes' intersection."""
    low = np.maximum(boxes_N4[first, :2], boxes_N4[others, :2])
    high = np.minimum(boxes_N4[first, 2:], boxes_N4[others, 2:])
    room = np.clip(high + 1 - low, 0, None).prod(axis=1)
    shared = np.minimum(room, np.minimum(areas_N[first], areas_N[others]))
    union = areas_N[first] + areas_N[others] - shared
    return np.asarray(shared > iou_thresh * union)


def mask_iou(one: Runs, other: Runs) -> float:
    """Return the intersection over union of two masks; 0 when both are empty."""
    shared = intersection(one, other)
    union = one.area + other.area - shared
    return shared / union if union else 0.0


def intersection(one: Runs, other: Runs) -> int:
    """Count the pixels that two masks share."""
    if not (len(one.x) and len(other.x)):
        return 0
    (a, b, c, d), (e, f, g, h) = one.box, other.box
    left, top, right, bottom = max(a, e), max(b, f), min(c, g), min(d, h)
    if right < left or bottom < top:
        return 0
    view = (bottom - top + 1, right - left + 1, left, top)
    return int(np.count_nonzero(one.mask(*view) & other.mask(*view)))
