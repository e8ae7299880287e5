"""Decode one image file: its pixels, or one line that says why not."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
TIFF_SUFFIXES = (".tif", ".tiff")
MOST_PIXELS = 178_000_000
"""A larger image is taken for a decompression bomb (Pillow's own limit for an error)."""

_TELLING = (OSError, ValueError, SyntaxError, zlib.error, tifffile.TiffFileError, Image.DecompressionBombError)
_DUMB = (EOFError, LookupError, TypeError, ArithmeticError, AssertionError, RuntimeError, MemoryError, struct.error)
# both are what the decoders were seen to raise on damaged files; only the first say something to a user


class UnreadableError(ValueError):
    """A file that holds no image that can be decoded, and why; the message does not name the file."""


def read_pixels(path: Path, page: int = 0) -> NDArray[Any]:
    """Return the pixels of an image file or of one page of a TIFF: (H, W) or (H, W, C), with the file's own depth."""
    return _read(path, page, "RGB")


def read_labels(path: Path, page: int = 0) -> NDArray[Any]:
    """Return a label map, integers or booleans (H, W).

    Grey values and palette indices are the labels; colours become labels, black becomes 0; alpha is dropped.
    """
    values = _read(path, page, None)
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not np.array_equal(whole, values):
            raise UnreadableError("it holds fractions; labels are whole numbers")
        values = whole.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise UnreadableError(f"it holds {values.dtype}; labels are whole numbers")
    return _colours_as_labels(values) if values.ndim == 3 else values


def _colours_as_labels(values_HWC: NDArray[Any]) -> NDArray[Any]:
    if values_HWC.shape[2] < 3:
        return values_HWC[..., 0]
    weights = np.array([1 << 32, 1 << 16, 1], np.int64)
    labels_HW: NDArray[np.int64] = values_HWC[..., :3].astype(np.int64) @ weights
    return labels_HW


def image_hw(path: Path) -> tuple[int, int]:
    """Return the height and width of an image file, from as little of it as shows that it is whole.

    Raise UnreadableError when it is no image, cut off, too large, or a TIFF of several pages.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        pages, *hw = tiff_shape(path)
        if pages > 1:
            raise UnreadableError(f"it is a stack of {pages} pages, not one image")
        return hw[0], hw[1]
    with _decoding(), Image.open(path) as image:
        width, height = image.size
        _check_size((height, width))
        if image.format == "PNG":
            image.verify()  # the checksums, without decoding
        elif image.format != "JPEG" or not _has_jpeg_end(path):
            image.load()
    return height, width


def tiff_shape(path: Path) -> tuple[int, int, int]:
    """Return pages, height and width of a TIFF; raise UnreadableError when it is none, cut off, or irregular."""
    with _decoding(), tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        page = series.keyframe
        height, width = page.imagelength, page.imagewidth
        _check_size((height, width))
        pages = series.size // page.size
        if not series.size or tiff.pages[-1].shape != page.shape:
            raise UnreadableError("its pages differ in size")
        _check_whole(tiff, series, path.stat().st_size)
    return pages, height, width


def _check_whole(tiff: Any, series: Any, file_bytes: int) -> None:
    last = tiff.pages[len(tiff.pages) - 1].aspage()
    ends = [offset + count for offset, count in zip(last.dataoffsets, last.databytecounts, strict=False)]
    if series.dataoffset is not None:
        ends.append(series.dataoffset + series.nbytes)
    if max(ends) > file_bytes:
        raise UnreadableError("it is cut off")


def _read(path: Path, page: int, palette_to: str | None) -> NDArray[Any]:
    tiff = path.suffix.lower() in TIFF_SUFFIXES
    pixels = _read_tiff(path, page, palette_to) if tiff else _by_pillow(path, page, palette_to)
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise UnreadableError(f"it holds an array of the shape {pixels.shape}, not an image")
    return pixels


def _read_tiff(path: Path, page: int, palette_to: str | None) -> NDArray[Any]:
    """Read by Pillow what has 8 bits (it knows more compressions and colours), by tifffile what has more."""
    with _decoding(), tifffile.TiffFile(path) as tiff:
        deep = tiff.series[0].keyframe.bitspersample > 8
    readers: list[Callable[[], NDArray[Any]]] = [
        lambda: _by_pillow(path, page, palette_to),
        lambda: _by_tifffile(path, page),
    ]
    first, second = reversed(readers) if deep else readers
    try:
        return first()
    except UnreadableError as reason:
        try:
            return second()
        except UnreadableError:
            raise reason from None


def _by_pillow(path: Path, page: int, palette_to: str | None) -> NDArray[Any]:
    with _decoding(), Image.open(path) as image:
        _check_size((image.height, image.width))
        if page:
            image.seek(page)
        if image.mode in ("P", "PA"):
            return np.asarray(image.convert(palette_to) if palette_to else image.getchannel(0))
        plain = image.mode in ("1", "L", "LA", "RGB", "RGBA", "I", "F") or image.mode.startswith("I;")
        return np.asarray(image if plain else image.convert("RGB"))


def _by_tifffile(path: Path, page: int) -> NDArray[Any]:
    with _decoding(), tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        keyframe = series.keyframe
        _check_size((keyframe.imagelength, keyframe.imagewidth))
        if series.dataoffset is not None:  # pages in one run, of which ImageJ lists only the first
            pages = series.size // keyframe.size
            dtype = keyframe.dtype.newbyteorder(tiff.byteorder)
            stack = np.memmap(path, dtype, "r", series.dataoffset, (pages, *keyframe.shape))
            pixels = stack[page].astype(keyframe.dtype)
        else:
            pixels = series.pages[page].asarray()
        return np.moveaxis(pixels, 0, -1) if keyframe.axes.startswith("S") else pixels


def _check_size(shape: tuple[int, ...]) -> None:
    if shape[0] * shape[1] > MOST_PIXELS:
        raise UnreadableError(f"it has {shape[1]} x {shape[0]} pixels; the most are {MOST_PIXELS:,}")


def _has_jpeg_end(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return b"\xff\xd9" in file.read()


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn what decoders raise into UnreadableError, and keep their warnings and log lines back."""
    log = logging.getLogger("tifffile")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError("it is no image of a kind known here") from error
    except _TELLING as error:
        reason = getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
        raise UnreadableError(f"it cannot be decoded ({reason})") from error
    except _DUMB as error:
        raise UnreadableError("it cannot be decoded (it is damaged)") from error
    finally:
        log.setLevel(level)
