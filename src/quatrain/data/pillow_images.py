"""Read PNG, JPEG and BMP by Pillow, and the pages of TIFFs that only Pillow decompresses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from quatrain.data.image_file import ImageInfo, PixelSize, Reader, UnreadableError, check_size, decoding
from quatrain.data.units import pixel_size, printed_dpi

_ORIENTATION = 0x0112
_DTYPES = {"1": "bool", "I": "int32", "F": "float32"}
_ONE_CHANNEL = ("1", "L", "I", "F")
_PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"tiff:Orientation")
_NATIVE = "L" if sys.byteorder == "little" else "B"


def inspect(path: Path) -> list[ImageInfo]:
    """Return the one image of a PNG, JPEG or BMP; raise UnreadableError when it is cut off."""
    with _opened(path) as image:
        hw = (image.height, image.width)
        check_size(hw)
        size, reason = _pixel_size(image)
        if _orientation(image, path) > 4:
            hw = hw[::-1]
            size = size and PixelSize(y_nm=size.x_nm, x_nm=size.y_nm, source=size.source)
        deep = _deep_mode(image)
        channels = len(deep.partition(";")[0]) if deep else _channels(image.mode)
        deep = deep or ("I;16" if image.mode.startswith("I;16") else "")
        info = ImageInfo(
            shape=hw if channels == 1 else (*hw, channels),
            dtype="uint16" if deep else _DTYPES.get(image.mode, "uint8"),
            pixel_size=size,
            no_pixel_size=reason,
        )
        _check_whole(path, image)
    return [info]


def _channels(mode: str) -> int:
    if mode in _ONE_CHANNEL or mode.startswith("I;"):
        return 1
    return {"LA": 2, "RGBA": 4}.get(mode, 3)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with decoding():
        try:
            image = Image.open(path)
        except UnidentifiedImageError:
            raise UnreadableError("it is not an image of a kind known here") from None
        with image:
            yield image


def _pixel_size(image: Any) -> tuple[PixelSize | None, str]:
    """Return the pixel size that a resolution states when it is finer than a printer's, or the reason for none."""
    dpi = image.info.get("dpi")
    if not dpi or not all(float(one) > 0 for one in dpi):
        return None, "the file states no pixel size"
    size = pixel_size(1 / float(dpi[1]), 1 / float(dpi[0]), "inch", f"{image.format} resolution")
    printed = printed_dpi(size) if size else None
    if printed is not None:
        return None, f"{printed:g} dpi is the resolution of a printer, screen or scanner"
    return size, "" if size else "the file states no pixel size"


def _orientation(image: Any, path: Path) -> int:
    if image.format == "PNG" and not any(word in path.read_bytes() for word in _PNG_EXIF):
        return 1  # Pillow would decode a PNG to look for EXIF behind its pixels
    value = image.getexif().get(_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def _check_whole(path: Path, image: Any) -> None:
    """Decode as little of an image as shows that it is not cut off."""
    if image.format == "PNG":
        with Image.open(path) as again:
            again.verify()  # the checksums, without decoding
    elif image.format != "JPEG" or not _has_jpeg_end(path):
        image.load()


def _has_jpeg_end(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return b"\xff\xd9" in file.read()


def read(path: Path, _info: ImageInfo, _frame: int, labels: bool) -> NDArray[Any]:
    """Return the pixels as they are displayed; with `labels`, palette indices and the numbers of 2 and 4 bits."""
    with _opened(path) as image:
        check_size((image.height, image.width))
        orientation, deep = _orientation(image, path), _deep_mode(image)
        pixels = _deep_pixels(path, 0, deep) if deep else _pixels(image, labels)
    if labels and pixels.ndim == 2 and pixels.dtype == np.uint8:
        pixels = _unscaled(pixels, _png_bits(path))
    return oriented(pixels, orientation)


def read_tiff_page(path: Path, number: int, labels: bool, page: Any, reason: str) -> NDArray[Any]:
    """Return a page of a TIFF by Pillow, which applies the orientation; `reason` is why tifffile could not.

    `page` is the page as tifffile describes it.
    """
    try:
        with _opened(path) as image:
            image.seek(number)
            check_size((image.height, image.width))
            deep = _deep_mode(image)
            pixels = _deep_pixels(path, number, deep) if deep else _pixels(image, labels)
    except UnreadableError:
        raise UnreadableError(reason) from None
    if pixels.ndim == 3 or page.dtype is None or page.dtype.kind not in "iu" or pixels.dtype == np.bool_:
        return pixels
    turned = page.photometric == 0 and page.bitspersample <= 8  # Pillow turns these, and no deeper ones
    if turned == labels and page.photometric == 0:
        pixels = np.invert(pixels)
    bits = page.bitspersample if labels else 8
    return _unscaled(pixels, bits).astype(page.dtype)


def _pixels(image: Any, labels: bool) -> NDArray[Any]:
    if image.mode in ("P", "PA"):
        return np.asarray(image.getchannel(0) if labels else image.convert("RGB"))
    plain = image.mode in (*_ONE_CHANNEL, "LA", "RGB", "RGBA") or image.mode.startswith("I;")
    return np.asarray(image if plain else image.convert("RGB"))


def _unscaled(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return the numbers of 2 or 4 bits, which Pillow stretches to 0..255."""
    return pixels // (255 // (2**bits - 1)) if bits in (2, 4) else pixels


def _png_bits(path: Path) -> int:
    """Return the bits per pixel of a grey PNG; 8 for every other file."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[24] if head[:4] == b"\x89PNG" and head[25:] == b"\0" else 8


def _deep_mode(image: Any) -> str:
    """Return the raw mode of 16-bit colours, which Pillow would cut to 8 bits; empty for other images."""
    tiles = getattr(image, "tile", None)
    if not tiles or len(tiles) != 1:
        return ""
    args = tiles[0].args
    raw = args if isinstance(args, str) else str(args[0])
    return raw if raw.partition(";16")[0] in ("RGB", "RGBA", "LA") and ";16" in raw else ""


def _deep_pixels(path: Path, number: int, raw: str) -> NDArray[np.uint16]:
    """Return 16-bit colours: Pillow unpacks their upper bytes with one raw mode and the lower ones with another."""
    mode, _, order = raw.partition(";16")
    if mode == "LA":
        halves = _unpacked(path, number, "RGBA")
        return _joined(halves[..., 0::2], halves[..., 1::2])
    upper = _NATIVE if order == "N" else order
    lower = {"L": "B", "B": "L"}[upper]
    high, low = (_unpacked(path, number, f"{mode};16{half}") for half in (upper, lower))
    return _joined(high, low)


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    joined: NDArray[np.uint16] = high.astype(np.uint16) << np.uint16(8) | low.astype(np.uint16)
    return joined


def _unpacked(path: Path, number: int, raw: str) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        if number:
            image.seek(number)
        (tile,) = image.tile
        args = raw if isinstance(tile.args, str) else (raw, *tile.args[1:])
        image.tile = [tile._replace(args=args)]
        return np.array(image)


def oriented(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return stored pixels as they are displayed, by the orientation (1 to 8) of EXIF and TIFF."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


_SIZES = "resolutions finer than those of printers, screens and scanners"
PILLOW = (
    Reader(
        name="PNG",
        suffixes=(".png",),
        magic=(b"\x89PNG\r\n\x1a\n",),
        inspect=inspect,
        read=read,
        stacks=False,
        takes="1 to 16 bits, grey, colour, palette, alpha (dropped)",
        pixel_size_from=_SIZES,
        refuses="files that are cut off",
    ),
    Reader(
        name="JPEG",
        suffixes=(".jpg", ".jpeg"),
        magic=(b"\xff\xd8\xff",),
        inspect=inspect,
        read=read,
        stacks=False,
        takes="grey, colour, CMYK; turned as EXIF says",
        pixel_size_from=_SIZES,
        refuses="files that are cut off; label maps",
    ),
    Reader(
        name="BMP",
        suffixes=(".bmp",),
        magic=(b"BM",),
        inspect=inspect,
        read=read,
        stacks=False,
        takes="grey, colour, palette",
        pixel_size_from=_SIZES,
        refuses="files that are cut off",
    ),
)
