"""Non-maximum suppression (NMS): one of each set of duplicates is kept, by boxes, by masks, or by any overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CocoRle = dict[str, Any]
"""A mask as pycocotools takes it: `size` (rows, columns) and compressed `counts`."""


def suppress(scores_N: Sequence[float] | Floats, rivals: Callable[[int], Iterable[int]]) -> dict[int, int]:
    """Return the suppressed items, each with the kept item that suppressed it (greedy NMS).

    Items are visited from the best score down, the earlier of equal scores first. A visited item that is not yet
    suppressed is kept, and it suppresses all of its `rivals` that come after it.
    """
    order = np.argsort(-np.asarray(scores_N, np.float64), kind="stable").tolist()
    rank = {item: place for place, item in enumerate(order)}
    suppressed: dict[int, int] = {}
    for item in order:
        if item not in suppressed:
            worse = (int(rival) for rival in rivals(item) if rank[int(rival)] > rank[item])
            suppressed.update({rival: item for rival in worse if rival not in suppressed})
    return suppressed


def box_nms(boxes_N4: NDArray[Any], scores_N: Floats, iou_thresh: float) -> list[int]:
    """Return the indices of the boxes that are kept, best score first (torchvision's nms).

    A box is (left, top, right, bottom); its area is the product of the differences.
    """
    from quatrain import compat

    compat.torchvision_ops()
    import torch
    from torchvision.ops import nms

    boxes = torch.from_numpy(np.asarray(boxes_N4, np.float64).reshape(-1, 4))
    kept: list[int] = nms(boxes, torch.from_numpy(np.asarray(scores_N, np.float64)), iou_thresh).tolist()
    return kept


def mask_nms(masks: Sequence[CocoRle], scores_N: Sequence[float] | Floats, iou_thresh: float) -> list[int]:
    """Return the indices of the masks that are kept, best score first.

    A mask is suppressed when its IoU with a better kept mask is above `iou_thresh`.
    """
    from pycocotools import mask as coco_mask

    every, crowd = list(masks), [0] * len(masks)

    def rivals(item: int) -> Any:
        return np.flatnonzero(coco_mask.iou(every, [every[item]], crowd[:1])[:, 0] > iou_thresh)

    suppressed = suppress(scores_N, rivals)
    order = np.argsort(-np.asarray(scores_N, np.float64), kind="stable").tolist()
    return [item for item in order if item not in suppressed]
