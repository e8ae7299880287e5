"""Draws masks over their image, and scales images down to embed them in a page."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

# N objects, H W pixels, C channels

COLOURS = np.array(
    [
        (86, 180, 233),
        (230, 159, 0),
        (0, 158, 115),
        (240, 228, 66),
        (204, 121, 167),
        (0, 114, 178),
        (213, 94, 0),
    ],
    dtype=np.uint8,
)
"""Seven colours that colour-blind readers can distinguish (Okabe and Ito), uint8 (7, 3)."""


def overlay(image_HWC: NDArray[np.uint8], masks_NHW: NDArray[np.bool_], strength: float = 0.4) -> NDArray[np.uint8]:
    """Return the image with every mask tinted and outlined in its own colour, uint8 (H, W, 3).

    Grey images are (H, W) or (H, W, 1). Masks are drawn in their order, so later ones lie on top; colours repeat after
    seven. `strength` is the share of colour inside a mask, 0 to 1. Raise ValueError when sizes differ.
    """
    canvas: NDArray[np.float32] = _rgb(image_HWC).astype(np.float32)
    if masks_NHW.ndim != 3 or masks_NHW.shape[1:] != canvas.shape[:2]:
        raise ValueError(f"masks_NHW is {masks_NHW.shape}; it must be (N, {canvas.shape[0]}, {canvas.shape[1]})")
    thickness = max(1, round(min(canvas.shape[:2]) / 200))
    for number, mask_HW in enumerate(masks_NHW.astype(bool)):
        colour = COLOURS[number % len(COLOURS)].astype(np.float32)
        edge_HW = mask_HW & ~ndimage.binary_erosion(mask_HW, iterations=thickness, border_value=1)
        canvas[mask_HW] = (1 - strength) * canvas[mask_HW] + strength * colour
        canvas[edge_HW] = colour
    return np.round(canvas).astype(np.uint8)


def _rgb(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = image_HWC[:, :, None] if image_HWC.ndim == 2 else image_HWC
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype != np.uint8:
        raise ValueError(f"image_HWC is {image.dtype} {image_HWC.shape}; it must be uint8 with 1 or 3 channels")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def data_uri(path: str | os.PathLike[str], longest_px: int = 400, quality: int = 86) -> str:
    """Return an image file as a data URI: JPEG of that quality, at most `longest_px` on its longest side.

    Raise OSError if the file is missing or not an image.
    """
    with Image.open(Path(path)) as image:
        small = image.convert("RGB")
    small.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
