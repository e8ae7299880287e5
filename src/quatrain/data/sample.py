"""An image with its objects, and the protocol of every source of images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quatrain.errors import UsageError
from quatrain.files import append_line, read_lines

# N objects, H W pixels, C channels

log = logging.getLogger(__name__)

SMALLEST = 0.002
"""The share of an image's pixels below which an object is left out."""
MOST = 32
"""How many objects of an image are kept, the largest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One image and the true masks of its objects."""

    name: str
    """The name that identifies this image in its source; prompts and splits depend on it."""
    image_HWC: NDArray[np.uint8]
    """Red, green, blue, uint8 (H, W, 3)."""
    masks_NHW: NDArray[np.bool_]
    """One mask per object, bool (N, H, W); N may be 0, objects may overlap."""
    skipped: tuple[Skipped, ...] = ()
    """The parts of its truth that could not be read, such as a damaged annotation."""

    def __post_init__(self) -> None:
        image, masks = self.image_HWC, self.masks_NHW
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"image_HWC is {image.dtype} {image.shape}; it must be uint8 (H, W, 3), not empty")
        if masks.dtype != np.bool_ or masks.shape != (len(masks), *image.shape[:2]):
            raise ValueError(f"masks_NHW is {masks.dtype} {masks.shape}; it must be bool (N, {_by(image.shape[:2])})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """An image that a source skipped, and why."""

    name: str
    reason: str


def nothing_left(where: str, skipped: Sequence[Skipped]) -> UsageError:
    """Return the error for a source of which every image was skipped, with the first three reasons."""
    reasons = "; ".join(f"{one.name}: {one.reason}" for one in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return UsageError(f"{where!r} holds no image that can be used, {len(skipped)} skipped: {reasons}{more}")


class ImageSet(Protocol):
    """Images with truth, decoded one at a time."""

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names, all different, in a fixed order."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What was found and could not be used."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Sample:
        """Decode image `index`; raise UsageError with the file's name when it was damaged after it was listed."""


def read_or_none(images: ImageSet, index: int) -> Sample | None:
    """Decode an image; return None and log its name and the reason when it was damaged after it was listed."""
    try:
        return images.read(index)
    except UsageError as error:
        log.warning("image %s is skipped: %s", images.names[index], error)
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedImages:
    """A source that also records, one JSON line per image, the images that were damaged after they were listed."""

    images: ImageSet
    path: Path
    _written: set[Skipped] = field(default_factory=set)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the source."""
        return self.images.names

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Those of the source."""
        return self.images.skipped

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Sample:
        """Decode image `index`; write what cannot be read to the file, then raise the UsageError of the image."""
        try:
            sample = self.images.read(index)
        except UsageError as error:
            self._write(Skipped(name=self.names[index], reason=str(error)))
            raise
        for one in sample.skipped:
            self._write(one)
        return sample

    def _write(self, skipped: Skipped) -> None:
        if skipped not in self._written:  # an image is read once per epoch
            append_line(self.path, {"name": skipped.name, "reason": skipped.reason})
            self._written.add(skipped)


def read_unreadable(path: Path) -> tuple[Skipped, ...]:
    """Return the images recorded in a file, each once; nothing when there is no file."""
    lines = {str(line["name"]): str(line["reason"]) for line in read_lines(path)}
    return tuple(Skipped(name=name, reason=reason) for name, reason in lines.items())


def objects(labels_HW: NDArray[Any], *, smallest: float = SMALLEST, most: int = MOST) -> NDArray[np.bool_]:
    """Return the objects of a label map, bool (N, H, W), largest first, at most `most`.

    An object is a 4-connected component of one label above 0 with at least the share `smallest` of the map's pixels.
    Raise ValueError when the labels are neither integers nor booleans, or not (H, W).
    """
    if labels_HW.ndim != 2 or labels_HW.dtype.kind not in "iub":
        raise ValueError(f"labels are {labels_HW.dtype} {labels_HW.shape}; they must be integers (H, W)")
    found = _components(labels_HW, smallest * labels_HW.size)
    chosen = largest([pixels for pixels, _, _ in found], labels_HW.size, smallest=smallest, most=most)
    masks_NHW = np.zeros((len(chosen), *labels_HW.shape), bool)
    for mask_HW, index in zip(masks_NHW, chosen, strict=True):
        _, window, inside = found[index]
        mask_HW[window] = inside
    return masks_NHW


def largest(pixels: Sequence[int], image_pixels: int, *, smallest: float = SMALLEST, most: int = MOST) -> list[int]:
    """Return the indices of the objects to keep, by their counts of pixels: the large enough ones, largest first."""
    enough = [index for index, count in enumerate(pixels) if count >= max(1, smallest * image_pixels)]
    return sorted(enough, key=lambda index: -pixels[index])[:most]


def _components(labels_HW: NDArray[Any], least: float) -> list[tuple[int, tuple[slice, ...], NDArray[np.bool_]]]:
    """Return pixels, window and mask in the window of every component with `least` pixels."""
    dense = _dense(labels_HW)
    pixels = np.bincount(dense.ravel())
    found = []
    for label, window in enumerate(ndimage.find_objects(dense), start=1):
        if window is None or pixels[label] < least:
            continue
        parts, _ = ndimage.label(dense[window] == label)
        sizes = np.bincount(parts.ravel())
        found += [(int(sizes[part]), window, parts == part) for part in range(1, len(sizes)) if sizes[part] >= least]
    return found


def _dense(labels_HW: NDArray[Any]) -> NDArray[np.int64]:
    """Return the labels as small numbers, in their order, with 0 for all that are not above 0."""
    if labels_HW.max(initial=0) < 1 << 16:
        return np.where(labels_HW > 0, labels_HW, 0).astype(np.int64, copy=False)
    values, rank = np.unique(labels_HW, return_inverse=True)
    return np.cumsum(values > 0, dtype=np.int64)[rank.reshape(labels_HW.shape)]


def to_rgb8(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return any grey or colour image as uint8 (H, W, 3).

    Takes (H, W) or (H, W, C) with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 channels (RGB, alpha); alpha is dropped.
    8-bit values are kept; True becomes 255. Wider integers and floats are clipped at their 1st and 99th
    percentile, all channels together, and stretched to 0..255; a constant one becomes black, and so do its values
    that are not finite. Raise ValueError for another shape, another kind of number, or when nothing is finite.
    """
    channels = 1 if array.ndim == 2 else array.shape[-1]
    if array.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or not array.size:
        raise ValueError(f"the image has the shape {array.shape}; it must be (H, W) or (H, W, 1 to 4)")
    colour = array.reshape(*array.shape[:2], channels)[:, :, : 3 if channels > 2 else 1]
    return np.repeat(_to_8_bits(colour), 3 // colour.shape[2], axis=2)


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if values.dtype == np.bool_:
        black_or_white: NDArray[np.uint8] = values * np.uint8(255)
        return black_or_white
    if values.dtype.kind not in "iuf":
        raise ValueError(f"the image holds {values.dtype}; it must hold real numbers")
    with np.errstate(invalid="ignore"):  # NaN is no error
        return _stretched(values.astype(np.float64))


def _stretched(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("the image holds no finite number")
    seen = values[finite]
    low, high = np.percentile(seen, (1, 99))
    if low == high:  # nearly all pixels have one value: the others are the content
        low, high = seen.min(), seen.max()
    scaled = (np.clip(values, low, high) - low) * (255 / (high - low) if high > low else 0.0)
    eight: NDArray[np.uint8] = np.rint(np.where(finite, scaled, 0)).astype(np.uint8)
    return eight


def _by(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
