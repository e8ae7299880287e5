"""Inspect and read image files of every format: pixels, label maps, pixel sizes, or one line that says why not.

The table of readers is `readers()`. Other packages add formats by entry points of the group `quatrain.image_readers`,
each of which names a `quatrain.data.image_file.Reader`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.data.hdf5_images import HDF5
from quatrain.data.image_file import ImageInfo, PixelSize, Reader, UnreadableError, decoding
from quatrain.data.microscope import MICROSCOPE
from quatrain.data.mrc import MRC
from quatrain.data.pillow_images import PILLOW
from quatrain.data.tiff import TIFF

__all__ = ["ImageData", "ImageInfo", "PixelSize", "Reader", "UnreadableError", "inspect", "read", "readers", "suffixes"]

log = logging.getLogger(__name__)

GROUP = "quatrain.image_readers"
BUILT_IN: tuple[Reader, ...] = (TIFF, *PILLOW, HDF5, *MICROSCOPE, MRC)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageData:
    """One frame of an image."""

    pixels: NDArray[Any]
    """The file's own numbers, (H, W) or (H, W, C), turned as it is displayed; white is the largest number."""
    info: ImageInfo

    @property
    def pixel_size(self) -> PixelSize | None:
        """Height and width of a pixel, or None; `info.no_pixel_size` has the reason."""
        return self.info.pixel_size


@lru_cache(maxsize=1)
def readers() -> tuple[Reader, ...]:
    """Return the readers of this package and those of installed packages, which may replace a suffix."""
    added = []
    for entry in entry_points(group=GROUP):
        try:
            reader = entry.load()
        except (ImportError, AttributeError) as error:
            log.warning("the image reader %s cannot be loaded: %s", entry.name, error)
            continue
        if not isinstance(reader, Reader):
            log.warning("the image reader %s is a %s; it must be a Reader", entry.name, type(reader).__name__)
            continue
        added.append(reader)
    return (*added, *BUILT_IN)


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of all formats, in lower case."""
    return tuple(dict.fromkeys(suffix for reader in readers() for suffix in reader.suffixes))


def inspect(path: Path) -> list[ImageInfo]:
    """Return the images of a file from its header, those that are left out too.

    Raise UnreadableError, which does not name the file, when it holds none, is cut off or of no known format.
    """
    return list(reader_of(path).inspect(path))


def images(path: Path, key: str = "") -> list[ImageInfo]:
    """Return the images of a file that are used: all but previews, or the one that `key` names.

    Raise UnreadableError, with the names there are, when `key` names none or one must be named.
    """
    reader = reader_of(path)
    found = list(reader.inspect(path))
    if key:
        named = [info for info in found if key.strip("/") in (info.key, info.name)]
        if not named and any(info.label for info in found):
            raise UnreadableError(f"it has no images under {key!r}; it has {_names(found)}")
        return named or found
    used = [info for info in found if not info.left_out] or found
    if reader.one_by_key and len(used) > 1:
        raise UnreadableError(f"it holds {len(used)} images; name one of them with --key: {_names(used)}")
    return used


def read(path: Path, key: str = "", frame: int = 0, *, labels: bool = False) -> ImageData:
    """Return one frame of the image that `key` names, or of the only one of a file.

    With `labels`, the pixels are the stored numbers: palette indices, and no inversion. Raise UnreadableError, which
    does not name the file, when it cannot be decoded, or when it holds several images and none is named.
    """
    found = images(path, key)
    if len(found) > 1:
        raise UnreadableError(f"it holds {len(found)} images; name one of them with --key: {_names(found)}")
    info = found[0]
    if not 0 <= frame < info.frames:
        raise UnreadableError(f"it has {info.frames} frames, none of the number {frame}")
    with decoding():
        pixels = reader_of(path).read(path, info, frame, labels)
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise UnreadableError(f"it holds an array of the shape {pixels.shape}, not an image")
    if pixels.dtype.kind not in "iufb":
        raise UnreadableError(f"it holds {pixels.dtype}; it must hold real numbers")
    return ImageData(pixels=pixels, info=info)


def read_pixels(path: Path, page: int = 0) -> NDArray[Any]:
    """Return the pixels of an image file or of one frame of a stack: (H, W) or (H, W, C), with the file's own depth."""
    return read(path, frame=page).pixels


def read_labels(path: Path, page: int = 0) -> NDArray[Any]:
    """Return a label map, integers or booleans (H, W).

    Grey values and palette indices are the labels, whatever the display does with them; colours become labels, black
    becomes 0; alpha is dropped.
    """
    values = read(path, frame=page, labels=True).pixels
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # signalling NaN
            whole = np.rint(values)
        if not np.array_equal(whole, values) or not (np.abs(whole) < 1 << 53).all():
            raise UnreadableError("it holds fractions or numbers without end; labels are whole numbers")
        values = whole.astype(np.int64)
    return _colours_as_labels(values) if values.ndim == 3 else values


def _colours_as_labels(values_HWC: NDArray[Any]) -> NDArray[Any]:
    if values_HWC.shape[2] < 3:
        return values_HWC[..., 0]
    weights = np.array([1 << 32, 1 << 16, 1], np.int64)
    labels_HW: NDArray[np.int64] = values_HWC[..., :3].astype(np.int64) @ weights
    return labels_HW


def image_hw(path: Path) -> tuple[int, int]:
    """Return height and width of the one image of a file; raise UnreadableError for a stack too."""
    frames, height, width = stack_shape(path)
    if frames > 1:
        raise UnreadableError(f"it is a stack of {frames} frames, not one image")
    return height, width


def stack_shape(path: Path) -> tuple[int, int, int]:
    """Return frames, height and width of the one image or stack of a file."""
    found = images(path)
    if len(found) > 1:
        raise UnreadableError(f"it holds {len(found)} images, not one: {_names(found)}")
    return found[0].frames, found[0].shape[0], found[0].shape[1]


def reader_of(path: Path) -> Reader:
    """Return the reader of a file: by its suffix, unless it begins as files of another format do."""
    suffix = path.suffix.lower()
    named = next((reader for reader in readers() if suffix in reader.suffixes), None)
    if named is None:
        raise UnreadableError(f"the suffix {suffix!r} is not one of {', '.join(suffixes())}")
    if not named.magic:
        return named
    with decoding(), path.open("rb") as file:
        head = file.read(16)
    if head.startswith(named.magic):
        return named
    return next((reader for reader in readers() if reader.magic and head.startswith(reader.magic)), named)


def _names(found: Sequence[ImageInfo]) -> str:
    return ", ".join(info.label for info in found)
