"""Frozen prompts: the same image, object and seed give the same point or box in every process and run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quatrain.seeding import numpy_rng

# N objects, H W pixels


def points(masks_NHW: NDArray[np.bool_], *, image: str, seed: int) -> NDArray[np.float32]:
    """Return one foreground point an object, float32 (N, 2), x and y in pixels of the masks, whole numbers.

    Each is drawn uniformly over its object's pixels from a stream that belongs to `seed`, the name `image` and the
    object's index alone. Raise ValueError when a mask is empty.
    """
    found = np.empty((len(masks_NHW), 2), np.float32)
    for index, mask_HW in enumerate(masks_NHW):
        inside = np.flatnonzero(_not_empty(mask_HW, image, index))
        y, x = divmod(int(numpy_rng(seed, "point", image, index).choice(inside)), mask_HW.shape[1])
        found[index] = x, y
    return found


def jittered_boxes(masks_NHW: NDArray[np.bool_], *, image: str, seed: int, jitter: float = 0.1) -> NDArray[np.float32]:
    """Return one box an object, float32 (N, 4): x0, y0, x1, y1 in pixels of the masks, within the image.

    The box runs through the object's outermost pixels; then each edge moves by up to the share `jitter` of the
    box's extent, uniformly, from a stream frozen as that of `points`. Raise ValueError when a mask is empty.
    """
    if not 0 <= jitter < 0.5:
        raise ValueError(f"jitter is {jitter}; it must lie in [0, 0.5)")
    found = np.empty((len(masks_NHW), 4), np.float32)
    for index, mask_HW in enumerate(masks_NHW):
        box = _box(_not_empty(mask_HW, image, index))
        extent = np.tile(box[2:] - box[:2], 2)
        moved = box + extent * numpy_rng(seed, "box", image, index).uniform(-jitter, jitter, 4)
        height, width = mask_HW.shape
        found[index] = np.clip(moved, 0, (width - 1, height - 1, width - 1, height - 1))
    return found


def _not_empty(mask_HW: NDArray[np.bool_], image: str, index: int) -> NDArray[np.bool_]:
    if not mask_HW.any():
        raise ValueError(f"object {index} of image {image!r} has no pixel; a prompt needs one")
    return mask_HW


def _box(mask_HW: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float64)
