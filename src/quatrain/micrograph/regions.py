"""Weights-free mask proposals: regions of several scales. This is not SAM; it stands in where there are no weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quatrain.micrograph.booster import grey
from quatrain.micrograph.masks import encoded

_SCALES = ((80, 1.0), (250, 2.0), (800, 3.0))
"""Felzenszwalb's scale, and the smoothing in px, of each proposal pass."""
_LEAST = 0.001
_LONGEST_PX = 512


def regions(image_HWC: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return overlapping region masks of an image, uint8 (H, W, 3), as SAM-like records with COCO run lengths.

    Felzenszwalb and Huttenlocher's segmentation at three scales of grey and local contrast, on an image of at most
    512 px a side; each region of at least 0.1 % of the image is one mask. `predicted_iou` is its compactness.
    """
    from skimage.segmentation import felzenszwalb

    grey_HW = grey(image_HWC)
    step = max(1, -(-max(grey_HW.shape) // _LONGEST_PX))
    small = ndimage.uniform_filter(grey_HW.astype(np.float32), step)[::step, ::step] / 255
    records: list[dict[str, Any]] = []
    for scale, sigma in _SCALES:
        mean = ndimage.gaussian_filter(small, sigma)
        seen = np.stack([mean, 2 * _contrast(small, 2 * sigma)], axis=-1)
        least = max(20, int(_LEAST * small.size))
        labels = felzenszwalb(seen, scale=scale, sigma=0, min_size=least, channel_axis=-1)
        whole = np.repeat(np.repeat(labels, step, axis=0), step, axis=1)[: grey_HW.shape[0], : grey_HW.shape[1]]
        records += [_record(whole, label) for label in range(int(whole.max()) + 1)]
    return records


def _contrast(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return the deviation of grey around every pixel."""
    mean, squares = ndimage.gaussian_filter(image, sigma), ndimage.gaussian_filter(image**2, sigma)
    deviation: NDArray[np.float32] = np.sqrt(np.maximum(squares - mean**2, 0))
    return deviation


def _record(labels_HW: NDArray[Any], label: int) -> dict[str, Any]:
    mask_HW = labels_HW == label
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    hw = mask_HW.shape
    return {
        "segmentation": {"size": list(hw), "counts": encoded(mask_HW, hw).decode()},
        "area": int(mask_HW.sum()),
        "predicted_iou": float(mask_HW.sum() / box),
        "stability_score": 1.0,
    }
