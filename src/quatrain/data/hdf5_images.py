"""Read images and stacks in HDF5 files: datasets of numbers with 2 to 4 axes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quatrain.data.image_file import ImageInfo, PixelSize, Reader, UnreadableError, check_size, decoding
from quatrain.data.units import nm_per, pixel_size, unit_text

_LEAST_SIDE = 2


def inspect(path: Path) -> list[ImageInfo]:
    """Return the datasets of an HDF5 file that are images or stacks of them."""
    with decoding(), h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if _is_image(item) else None)
        infos = [_info(name, file[name]) for name in names]
    if not infos:
        raise UnreadableError("it has no images: no dataset of numbers with 2 to 4 axes")
    return infos


def _is_image(item: Any) -> bool:
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "iufb":
        return False
    shape = item.shape
    return (
        shape is not None
        and len(shape) in (2, 3, 4)
        and min(_frame_shape(shape)[:2]) >= _LEAST_SIDE
        and (len(shape) < 4 or shape[-1] in (1, 3, 4))
    )


def _frame_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one frame of (H, W), (H, W, 3 or 4), (frames, H, W) or (frames, H, W, C)."""
    whole = len(shape) == 2 or (len(shape) == 3 and shape[-1] in (3, 4))
    return shape if whole else shape[1:]


def _info(name: str, dataset: Any) -> ImageInfo:
    shape = _frame_shape(dataset.shape)
    frames = 1 if shape == dataset.shape else int(dataset.shape[0])
    check_size(shape, dataset.dtype.itemsize, frames)
    size = _pixel_size(dataset.attrs)
    known = isinstance(size, PixelSize)
    return ImageInfo(
        key=name,
        shape=shape,
        dtype=str(dataset.dtype.newbyteorder("=")),
        frames=frames,
        pixel_size=size if isinstance(size, PixelSize) else None,
        no_pixel_size="" if known else str(size),
    )


def _pixel_size(attributes: Mapping[str, Any]) -> PixelSize | str:
    """Return the pixel size that attributes state, or the reason for none.

    `pixel_size` with `unit` (or `units`), `pixel_size_nm`, `pixel_size_um`, and `element_size_um` of ilastik and
    ImageJ. A vector has the axes of the dataset: its last two numbers are height and width.
    """
    stated = {"pixel_size_nm": "nm", "pixel_size_um": "um", "element_size_um": "um", "pixel_size": None}
    for name, fixed in stated.items():
        if name not in attributes:
            continue
        sides, written = _numbers(attributes[name])
        unit = fixed or written or _text(attributes.get("unit", attributes.get("units", "")))
        if not sides:
            return f"the attribute {name!r} holds no number"
        if nm_per(unit) is None:
            return f"the attribute {name!r} has the unit {unit!r}, which is not a length"
        size = pixel_size(sides[max(0, len(sides) - 2)], sides[-1], unit, f"attribute {name!r}")
        return size or f"the attribute {name!r} is {sides}, which is not a size"
    return "no attribute states a pixel size"


def _numbers(value: Any) -> tuple[list[float], str]:
    """Return the numbers of an attribute of any shape, and the unit of a text such as "0.5 nm"."""
    flat = np.ravel(value)
    if flat.dtype.kind in "iuf":
        return [float(one) for one in flat], ""
    words = _text(flat).replace(",", " ").split()
    numbers = [word for word in words if word.replace(".", "", 1).replace("e-", "").isdigit()]
    return [float(word) for word in numbers], " ".join(word for word in words if word not in numbers)


def _text(value: Any) -> str:
    flat = np.ravel(value)
    return unit_text(flat[-1]) if flat.size else ""


def read(path: Path, info: ImageInfo, frame: int, _labels: bool) -> NDArray[Any]:
    """Return one frame of a dataset."""
    with decoding(), h5py.File(path, "r") as file:
        dataset = file[info.key]
        pixels = np.asarray(dataset[...] if dataset.shape == info.shape else dataset[frame])
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


HDF5 = Reader(
    name="HDF5",
    suffixes=(".h5", ".hdf5"),
    magic=(b"\x89HDF\r\n\x1a\n",),
    inspect=inspect,
    read=read,
    one_by_key=True,
    takes="a dataset (H, W), (H, W, 3 or 4), (frames, H, W) or (frames, H, W, 1, 3 or 4); `--key` names one of several",
    pixel_size_from="attributes `pixel_size` with `unit`, `pixel_size_nm`, `pixel_size_um`, `element_size_um`, "
    "a number or a vector whose last two are height and width",
    refuses="other shapes; complex numbers",
)
