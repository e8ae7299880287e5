"""Images and masks at the network's input size, and their random variations for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quatrain.data.sample import Sample

# N objects, C channels, H W pixels, S side of the network's square input

Fit = Literal["pad", "squash"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A sample at the network's input size."""

    name: str
    image_CHW: NDArray[np.uint8]
    """Red, green, blue, not normalised, uint8 (3, S, S); zero outside `valid_hw`.

    segment_anything pads after it normalises: code that normalises must set pixels outside `valid_hw` to zero again.
    """
    masks_NSS: NDArray[np.bool_]
    """The objects that are left at this size, bool (N, S, S)."""
    valid_hw: tuple[int, int]
    """Height and width of the part, from the top left, that the image fills."""
    original_hw: tuple[int, int]
    """Height and width of the image before."""


def resized_hw(height: int, width: int, longest_px: int) -> tuple[int, int]:
    """Return height and width with the longer side at `longest_px`, rounded as segment_anything rounds them."""
    scale = longest_px / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def prepare(sample: Sample, image_px: int, *, fit: Fit = "pad") -> Prepared:
    """Bring a sample to the square input of `image_px` pixels.

    "pad", as in segment_anything: the longer side is resized to `image_px`; the rest at right and bottom is zero.
    "squash", as in SuperSAM's code: both sides are resized to `image_px`. Images are resized bilinearly with
    antialiasing, as `SamPredictor.set_image` does, masks to the nearest pixel. Objects without a pixel left are
    dropped.
    """
    height, width = sample.image_HWC.shape[:2]
    valid_hw = resized_hw(height, width, image_px) if fit == "pad" else (image_px, image_px)
    resized = Image.fromarray(sample.image_HWC).resize(valid_hw[::-1], Image.Resampling.BILINEAR)
    image_CHW = np.zeros((3, image_px, image_px), np.uint8)
    image_CHW[:, : valid_hw[0], : valid_hw[1]] = np.asarray(resized).transpose(2, 0, 1)
    return Prepared(
        name=sample.name,
        image_CHW=image_CHW,
        masks_NSS=_masks_at(sample.masks_NHW, valid_hw, image_px),
        valid_hw=valid_hw,
        original_hw=(height, width),
    )


def _masks_at(masks_NHW: NDArray[np.bool_], valid_hw: tuple[int, int], image_px: int) -> NDArray[np.bool_]:
    rows, columns = (_nearest(old, new) for old, new in zip(masks_NHW.shape[1:], valid_hw, strict=True))
    nearest = masks_NHW[:, rows[:, None], columns]
    nearest = nearest[nearest.any(axis=(1, 2))]
    masks_NSS = np.zeros((len(nearest), image_px, image_px), bool)
    masks_NSS[:, : valid_hw[0], : valid_hw[1]] = nearest
    return masks_NSS


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    """Return for each of `new` pixels the one of `old` that its centre falls into."""
    return (2 * np.arange(new, dtype=np.int64) + 1) * old // (2 * new)


def augment(sample: Sample, rng: np.random.Generator, *, smallest: float = 0.002) -> Sample:
    """Return a random variation of a sample, to be prepared afterwards.

    A window with half to all of the pixels, flips, a rotation by a multiple of 90 degrees, then brightness, contrast
    and gamma. Objects with less than the share `smallest` of the window are dropped; when none remains, the sample
    is returned unchanged.
    """
    window = _window(sample.image_HWC.shape[:2], rng)
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    tones = _tones(rng)
    masks_NHW = sample.masks_NHW[:, window[0], window[1]]
    masks_NHW = masks_NHW[masks_NHW.mean(axis=(1, 2)) >= smallest]
    if not len(masks_NHW):
        return sample
    image_HWC = tones[np.rot90(sample.image_HWC[window], turns)]
    masks_NHW = np.rot90(masks_NHW, turns, axes=(1, 2))
    if flip:  # with the four rotations, all eight symmetries of the square
        image_HWC, masks_NHW = image_HWC[:, ::-1], masks_NHW[:, :, ::-1]
    return Sample(
        name=sample.name,
        image_HWC=np.ascontiguousarray(image_HWC),
        masks_NHW=np.ascontiguousarray(masks_NHW),
    )


def _window(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    """Return a window of the image's own aspect with half to all of its pixels."""
    side = np.sqrt(rng.uniform(0.5, 1))
    sizes = [max(1, round(float(extent * side))) for extent in shape]
    starts = [int(rng.integers(extent - size + 1)) for extent, size in zip(shape, sizes, strict=True)]
    return slice(starts[0], starts[0] + sizes[0]), slice(starts[1], starts[1] + sizes[1])


def _tones(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a table of 256 new grey values: gamma 0.7 to 1.4, contrast 0.7 to 1.3, brightness -0.15 to 0.15."""
    gamma, contrast, brightness = np.exp(rng.uniform(-0.35, 0.35)), rng.uniform(0.7, 1.3), rng.uniform(-0.15, 0.15)
    tone = np.linspace(0, 1, 256) ** gamma
    table: NDArray[np.uint8] = np.rint(255 * np.clip((tone - 0.5) * contrast + 0.5 + brightness, 0, 1)).astype(np.uint8)
    return table
