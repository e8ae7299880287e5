"""Read TIFF: every image of it, by tifffile, and by Pillow what is compressed in ways that tifffile does not know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from quatrain.data.image_file import ImageInfo, PixelSize, Reader, UnreadableError, check_size, decoding
from quatrain.data.pillow_images import oriented, read_tiff_page
from quatrain.data.tiff_metadata import TiffMetadata, find_pixel_size, scanned_rows

_PHOTOMETRICS = (0, 1, 2, 3)
"""White is zero, black is zero, RGB, palette; Pillow converts the others."""


def inspect(path: Path) -> list[ImageInfo]:
    """Return the images of a TIFF: a series of equal pages is one, with frames."""
    with _opened(path) as tiff:
        infos = [_info(tiff, series, index, path) for index, series in enumerate(tiff.series)]
    if not infos:
        raise UnreadableError("it holds no page")
    return _without_previews(infos)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with decoding(), tifffile.TiffFile(path, _multifile=False) as tiff:
        yield tiff


def _info(tiff: Any, series: Any, index: int, path: Path) -> ImageInfo:
    page = series.keyframe
    shape = (page.imagelength, page.imagewidth) + ((page.samplesperpixel,) if page.samplesperpixel > 1 else ())
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE or page.photometric not in _PHOTOMETRICS:
        shape = (*shape[:2], 3)
    frames = series.size // page.size if page.size else 0
    check_size(shape, page.dtype.itemsize if page.dtype else 1, frames)
    _check_whole(tiff, series, path.stat().st_size)
    found = TiffMetadata(tiff, page, index, path)
    size = find_pixel_size(found)
    known = isinstance(size, PixelSize)
    info = ImageInfo(
        key=f"page{page.index}" if len(tiff.series) > 1 else "",
        name=_name(series) if len(tiff.series) > 1 else "",
        shape=shape,
        dtype=str(page.dtype),
        frames=frames,
        pixel_size=size if isinstance(size, PixelSize) else None,
        no_pixel_size="" if known else str(size),
        scanned_rows=scanned_rows(found),
        left_out="the file says that it is a preview" if page.is_reduced else "",
    )
    return _turned(info, _orientation(page))


def _name(series: Any) -> str:
    """Return the name of a series, unless it is one that tifffile invents."""
    name = str(series.name or "").strip()
    return "" if not name or name.lower().startswith(("page", "series", "image", "generic")) else name


def _orientation(page: Any) -> int:
    value = page.tags["Orientation"].value if "Orientation" in page.tags else 1
    return int(value) if value in range(1, 9) else 1


def _turned(info: ImageInfo, orientation: int) -> ImageInfo:
    """Return what is known of an image after its orientation was applied."""
    if orientation == 1:
        return info
    size, rows = info.pixel_size, None  # a bar of a turned image is not at its bottom
    if orientation < 5:
        return replace(info, scanned_rows=rows)
    if size is not None:
        size = replace(size, y_nm=size.x_nm, x_nm=size.y_nm)
    return replace(info, shape=(info.shape[1], info.shape[0], *info.shape[2:]), pixel_size=size, scanned_rows=rows)


def _without_previews(infos: list[ImageInfo]) -> list[ImageInfo]:
    """Mark small and 8-bit renderings of another image of the file as left out."""
    marked = [replace(one, left_out=one.left_out or _rendering_of(one, infos)) for one in infos]
    used = [one for one in marked if not one.left_out]
    if not used:
        return [replace(one, left_out="") for one in marked]
    left = tuple(f"{one.label} ({_by(one)}) is left out: {one.left_out}" for one in marked if one.left_out)
    return [one if one.left_out else replace(one, warnings=(*one.warnings, *left)) for one in marked]


def _rendering_of(one: ImageInfo, infos: list[ImageInfo]) -> str:
    for other in infos:
        if one.frames > 1 or other.left_out or other is one:
            continue
        if one.dtype == "uint8" and other.dtype != "uint8" and one.shape[:2] == other.shape[:2]:
            return f"it is an 8-bit rendering of {other.label}"
        ratio = other.shape[0] / one.shape[0]
        if ratio >= 2 and abs(one.shape[1] * ratio - other.shape[1]) <= ratio:
            return f"it is a preview of {other.label}"
    return ""


def _by(info: ImageInfo) -> str:
    return f"{info.shape[1]} x {info.shape[0]}"


def _check_whole(tiff: Any, series: Any, file_bytes: int) -> None:
    """Raise UnreadableError when the file ends before the pixels of a series do."""
    last = series.pages[len(series.pages) - 1]
    last = tiff.pages[0].aspage() if last is None else last.aspage()
    ends = [offset + count for offset, count in zip(last.dataoffsets, last.databytecounts, strict=False)]
    if series.dataoffset is not None:
        ends.append(series.dataoffset + series.nbytes)
    if not ends or max(ends) > file_bytes:
        raise UnreadableError("it is cut off")


def read(path: Path, info: ImageInfo, frame: int, labels: bool) -> NDArray[Any]:
    """Return one frame of an image of a TIFF as it is displayed; with `labels`, the numbers that it stores."""
    with _opened(path) as tiff:
        series = next(one for one in tiff.series if info.key in ("", f"page{one.keyframe.index}"))
        page = series.keyframe
        try:
            if page.photometric not in _PHOTOMETRICS:
                raise ValueError(f"{page.photometric!r} needs a conversion")
            stored = _stored(path, tiff, series, frame)
        except (ValueError, NotImplementedError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            reason = f"it cannot be decoded ({str(error).splitlines()[0][:150] if str(error) else 'it is damaged'})"
        else:
            return oriented(stored if labels else _displayed(stored, page), _orientation(page))
    number = series.pages[frame].index if series.dataoffset is None or len(series.pages) > frame else frame
    return read_tiff_page(path, number, labels, page, reason)


def _stored(path: Path, tiff: Any, series: Any, frame: int) -> NDArray[Any]:
    """Return the numbers of one frame, (H, W) or (H, W, C)."""
    page = series.keyframe
    if series.dataoffset is not None:  # pages in one run, of which ImageJ lists only the first
        dtype = page.dtype.newbyteorder(tiff.byteorder)
        stack = np.memmap(path, dtype, "r", series.dataoffset, (series.size // page.size, *page.shape))
        pixels: NDArray[Any] = stack[frame].astype(page.dtype)
    else:
        pixels = series.pages[frame].asarray()
    if page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        pixels = np.moveaxis(pixels.reshape(page.samplesperpixel, page.imagelength, page.imagewidth), 0, -1)
    frame_HWC: NDArray[Any] = pixels.reshape(page.imagelength, page.imagewidth, *pixels.shape[2:])
    return frame_HWC


def _displayed(stored: NDArray[Any], page: Any) -> NDArray[Any]:
    """Return what a viewer shows: palettes become colours, and white is the largest number."""
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return _coloured(stored, page.colormap)
    return _inverted(stored) if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else stored


def _inverted(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels with the order of their greys turned round; integers stay in their range."""
    turned: NDArray[Any] = -pixels if pixels.dtype.kind == "f" else np.invert(pixels)
    return turned


def _coloured(indices: NDArray[Any], colormap: NDArray[np.uint16]) -> NDArray[np.uint8]:
    table = colormap if colormap.max(initial=0) < 256 else colormap >> 8  # some programs write 8 bits
    return np.ascontiguousarray(table.T.astype(np.uint8)[np.minimum(indices, table.shape[1] - 1)])


TIFF = Reader(
    name="TIFF, OME-TIFF, ImageJ",
    suffixes=(".tif", ".tiff"),
    magic=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    inspect=inspect,
    read=read,
    takes="any depth, byte order and layout (strips, tiles, planes); stacks; all images of a file but previews",
    pixel_size_from="OME-XML; tags of FEI, Zeiss, Olympus, TVIPS, DigitalMicrograph, JEOL, Tescan, Hitachi; headers "
    "NAME.txt and NAME.hdr beside it; ImageJ's unit; resolution tags finer than a printer's or scanner's",
    refuses="files that are cut off; complex numbers; 16-bit CMYK",
)
