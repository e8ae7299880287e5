"""Texture crops: squares inside each mask, outside of the smaller masks in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quatrain.micrograph.config import MergingConfig
from quatrain.micrograph.masks import Mask
from quatrain.seeding import numpy_rng

# N masks, C crops, S S crop pixels, H W image pixels
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Crops:
    """Texture crops of an image's masks."""

    pixels_CSS: NDArray[np.uint8]
    """Grey values, uint8 (C, S, S)."""
    mask_C: NDArray[np.int64]
    """Index of each crop's mask in the list of masks."""
    corner_C2: NDArray[np.int64]
    """Row and column of each crop's upper left pixel."""
    low_support_C: Bools
    """Whether the mask is too narrow for a crop; pixels outside are then filled by reflection."""


def owners(masks: Sequence[Mask], hw: tuple[int, int]) -> NDArray[np.int32]:
    """Return the index of the smallest mask at every pixel, -1 without mask, int32 (H, W)."""
    owner_HW = np.full(hw, -1, np.int32)
    for place in sorted(range(len(masks)), key=lambda place: (-masks[place].area, place)):
        owner_HW[masks[place].window][masks[place].inside()] = place
    return owner_HW


def cut(grey_HW: NDArray[np.uint8], masks: Sequence[Mask], config: MergingConfig, seed: int, side_px: int) -> Crops:
    """Cut crops of `side_px` out of every mask: one per crop area, within the least and most of `config`.

    A crop is drawn at random where enough of it lies in pixels of no smaller mask. A mask without such a place gives
    one crop at its widest point.
    """
    owner_HW, side = owners(masks, grey_HW.shape), min(side_px, *grey_HW.shape)
    found = [_of_mask(grey_HW, owner_HW, masks, place, side, config, seed) for place in range(len(masks))]
    corners = [corners for corners, _ in found]
    pixels = [pixels for _, pixels in found]
    low = [np.array([pixels is not None] * len(corners)) for corners, pixels in found]
    places = [np.full(len(one), place) for place, one in enumerate(corners)]
    corner_C2 = np.concatenate([*corners, np.zeros((0, 2), np.int64)])
    low_C = np.concatenate([*low, np.zeros(0, bool)]).astype(bool)
    windows = np.lib.stride_tricks.sliding_window_view(grey_HW, (side, side))
    pixels_CSS = windows[corner_C2[:, 0], corner_C2[:, 1]].copy()
    pixels_CSS[low_C] = np.array([one for one in pixels if one is not None], np.uint8).reshape(-1, side, side)
    mask_C = np.concatenate([*places, np.zeros(0, np.int64)])
    return Crops(pixels_CSS=pixels_CSS, mask_C=mask_C, corner_C2=corner_C2, low_support_C=low_C)


def _of_mask(
    grey_HW: NDArray[np.uint8],
    owner_HW: NDArray[np.int32],
    masks: Sequence[Mask],
    place: int,
    side: int,
    config: MergingConfig,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.uint8] | None]:
    """Return the corners of one mask's crops, and the pixels of its only crop if it was filled by reflection."""
    mask = masks[place]
    window = _around(mask, int((1 - config.crop_inside) * side))
    own = owner_HW[window] == place
    if not own.any():  # smaller masks cover all of it
        own = np.ascontiguousarray(mask.pixels()[window])
    top, left = window[0].start, window[1].start
    fits = fitting_corners(own, side, config.crop_inside)
    if len(fits):
        wanted = int(np.clip(round(mask.area / side**2), config.crops_least, config.crops_most))
        rng = numpy_rng(seed, "crops", mask.index)
        chosen = rng.choice(len(fits), min(wanted, len(fits)), replace=False)
        return fits[chosen] + (top, left), None
    return narrow_crop(grey_HW, own, (top, left), side)


def _around(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Return the window of a mask, extended by the margin by which crops may reach beyond it."""
    left, top, right, bottom = mask.box
    height, width = mask.hw
    rows = slice(max(0, top - margin), min(height, bottom + margin))
    return rows, slice(max(0, left - margin), min(width, right + margin))


def fitting_corners(own_HW: Bools, side: int, share: float) -> NDArray[np.int64]:
    """Return the upper left corners of all squares with at least `share` of them inside, int64 (P, 2)."""
    height, width = own_HW.shape
    if height < side or width < side:
        return np.zeros((0, 2), np.int64)
    sums = np.zeros((height + 1, width + 1), np.int32)
    np.cumsum(np.cumsum(own_HW, axis=0, dtype=np.int32), axis=1, out=sums[1:, 1:])
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.argwhere(inside >= share * side**2)


def narrow_crop(
    grey_HW: NDArray[np.uint8], own_HW: Bools, corner: tuple[int, int], side: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return corner and pixels of a crop around the widest point of a mask that is too narrow for a crop.

    `own_HW` is the mask in its window, whose upper left pixel is `corner`. Pixels outside are mirrored at the nearest
    pixel of the mask.
    """
    depth = ndimage.distance_transform_edt(np.pad(own_HW, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    centre = np.array([row + corner[0], column + corner[1]])
    at = np.clip(centre - side // 2, 0, np.array(grey_HW.shape) - side)
    crop = grey_HW[at[0] : at[0] + side, at[1] : at[1] + side]
    inside = _seen_from(own_HW, at - corner, side)
    return at[None].astype(np.int64), _reflected(crop, inside)


def _seen_from(own_HW: Bools, at: NDArray[np.int64], side: int) -> Bools:
    """Return the part of a mask in a square of `side` pixels at `at`, which may reach beyond the mask's window."""
    seen = np.zeros((side, side), bool)
    low = np.maximum(at, 0)
    high = np.minimum(at + side, own_HW.shape)
    seen[low[0] - at[0] : high[0] - at[0], low[1] - at[1] : high[1] - at[1]] = own_HW[
        low[0] : high[0], low[1] : high[1]
    ]
    return seen


def _reflected(crop_SS: NDArray[np.uint8], inside_SS: Bools) -> NDArray[np.uint8]:
    nearest = ndimage.distance_transform_edt(~inside_SS, return_distances=False, return_indices=True)
    mirrored = np.clip(2 * nearest - np.indices(crop_SS.shape), 0, len(crop_SS) - 1)
    source = np.where(inside_SS[tuple(mirrored)], mirrored, nearest)
    filled: NDArray[np.uint8] = crop_SS[tuple(source)]
    return filled


def correlation_side(grey_HW: NDArray[np.uint8]) -> int:
    """Return a crop side, in pixels, that fits the phases of an image: twice its correlation length, at least 16.

    The correlation length is the distance at which the radial autocorrelation falls below 1/e, after smoothing with a
    sigma of 2 px. If smoothing removes half of the variance or more, the image consists of textures rather than of
    phases with distinct grey values. The result is then the image's side.
    """
    longest = int(max(grey_HW.shape))
    smooth = ndimage.gaussian_filter(grey_HW.astype(np.float32), 2)
    if smooth.var() < _RETAINED * max(float(grey_HW.var()), 1e-6):
        return longest
    centred = smooth - smooth.mean()
    power = np.abs(np.fft.rfft2(np.pad(centred, [(0, size) for size in centred.shape]))) ** 2
    shares = np.fft.irfft2(power)[: longest // 2, : longest // 2]
    shares /= shares[0, 0]
    radius = np.hypot(*np.indices(shares.shape)).astype(np.int64)
    radial = np.bincount(radius.ravel(), shares.ravel()) / np.bincount(radius.ravel())
    below = np.flatnonzero(radial < np.exp(-1))
    return max(_LEAST_PX, 2 * int(below[0])) if len(below) else longest


_RETAINED = 0.5
_LEAST_PX = 16
