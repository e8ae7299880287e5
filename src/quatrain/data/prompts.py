"""Frozen prompts: the same image, object and seed give the same point in every process and run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quatrain.seeding import numpy_rng

# N objects, H W pixels


def points(masks_NHW: NDArray[np.bool_], *, image: str, seed: int) -> NDArray[np.float32]:
    """Return one foreground point per object, float32 (N, 2): x and y in pixels of the masks, whole numbers.

    Each point is drawn uniformly from its object's pixels. The random stream depends on `seed`, the name `image` and
    the object's index only. Raise ValueError when a mask is empty.
    """
    found = np.empty((len(masks_NHW), 2), np.float32)
    for index, mask_HW in enumerate(masks_NHW):
        inside = np.flatnonzero(_not_empty(mask_HW, image, index))
        y, x = divmod(int(numpy_rng(seed, "point", image, index).choice(inside)), mask_HW.shape[1])
        found[index] = x, y
    return found


def _not_empty(mask_HW: NDArray[np.bool_], image: str, index: int) -> NDArray[np.bool_]:
    if not mask_HW.any():
        raise ValueError(f"object {index} of image {image!r} has no pixel; a prompt needs one")
    return mask_HW
