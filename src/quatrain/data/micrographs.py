"""Read micrographs of the formats that microscopes write, with their pixel size, one frame at a time."""

from __future__ import annotations

import importlib
import logging
import math
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from quatrain.data.decode import IMAGE_SUFFIXES, MOST_PIXELS, TIFF_SUFFIXES, UnreadableError, read_pixels, tiff_shape

HDF5_SUFFIXES = (".h5", ".hdf5")
MICROSCOPE_READERS = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".emd": "emd",
    ".mrc": "mrc",
    ".ser": "tia",
}
"""Formats that rosettasciio reads, and its module for each."""
SUFFIXES = (*IMAGE_SUFFIXES, *HDF5_SUFFIXES, *MICROSCOPE_READERS)

_NM = {"pm": 1e-3, "å": 0.1, "angstrom": 0.1, "a": 0.1, "nm": 1.0, "µm": 1e3, "um": 1e3, "μm": 1e3, "micron": 1e3}
_NM |= {"mm": 1e6, "cm": 1e7, "m": 1e9, "inch": 2.54e7}
_DAMAGED = (
    *(OSError, ValueError, LookupError, TypeError, ArithmeticError, AssertionError, AttributeError, RuntimeError),
    *(MemoryError, EOFError, struct.error, NotImplementedError, UnicodeError),
)
"""What rosettasciio and h5py were seen to raise on files that are cut off or no such files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How large a pixel is, as the file tells it."""

    size: float
    """Side of a pixel, in `unit`."""
    unit: str

    @property
    def nm(self) -> float | None:
        """Side of a pixel in nm, or None for a unit that is no length."""
        factor = _NM.get(self.unit.strip().lower())
        return None if factor is None else self.size * factor


@dataclass(frozen=True, kw_only=True, slots=True)
class Micrograph:
    """One frame as it was measured."""

    pixels: NDArray[Any]
    """The file's own numbers, (H, W) or (H, W, C)."""
    scale: Scale | None
    """None where the file tells no pixel size."""


def frames(path: Path, key: str = "") -> int:
    """Return how many frames a file holds, from its header; raise UnreadableError when it is none of these formats."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return tiff_shape(path)[0]
    if suffix in HDF5_SUFFIXES:
        with _decoding(), h5py.File(path, "r") as file:
            return _count(_dataset(file, key).shape)
    if suffix in MICROSCOPE_READERS:
        return _count(_signal(path)["data"].shape)
    return 1


def read(path: Path, frame: int = 0, key: str = "") -> Micrograph:
    """Return one frame of a file. `key` names the dataset of an HDF5 file.

    Raise UnreadableError, which does not name the file, when it cannot be decoded or has no number in it.
    """
    suffix = path.suffix.lower()
    if suffix in HDF5_SUFFIXES:
        found = _read_hdf5(path, frame, key)
    elif suffix in MICROSCOPE_READERS:
        found = _read_microscope(path, frame)
    elif suffix in IMAGE_SUFFIXES:
        found = Micrograph(pixels=read_pixels(path, frame), scale=_image_scale(path))
    else:
        raise UnreadableError(f"the suffix {suffix!r} is none of {', '.join(SUFFIXES)}")
    _check(found.pixels)
    return found


def _check(pixels: NDArray[Any]) -> None:
    height, width = pixels.shape[:2]
    if min(height, width) < 16:
        raise UnreadableError(f"it has {width} x {height} pixels; the least are 16 x 16")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
        raise UnreadableError("it holds no finite number")
    if pixels.min() == pixels.max():
        raise UnreadableError(f"all its pixels are {pixels.flat[0]}: there is nothing to see")


# TIFF, PNG, JPEG


def _image_scale(path: Path) -> Scale | None:
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return _pillow_scale(path)
    with _decoding(), tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[0].tags
        if "CZ_SEM" in tags:
            return _zeiss_scale(tags["CZ_SEM"].value)
        if "FEI_HELIOS" in tags or "FEI_SFEG" in tags:
            return _fei_scale((tags.get("FEI_HELIOS") or tags["FEI_SFEG"]).value)
        if "XResolution" not in tags:
            return None
        number, per = tags["XResolution"].value
        unit = str((tiff.imagej_metadata or {}).get("unit", "")).encode().decode("unicode_escape")
        if not unit:
            code = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 1
            unit = {2: "inch", 3: "cm"}.get(code, "")
    return _scale(per / number, unit) if number and unit and not _is_print_resolution(number / per, unit) else None


def _is_print_resolution(per_unit: float, unit: str) -> bool:
    """Tell whether a resolution is that of a printer or screen (up to 1,200 dpi), not of a microscope."""
    return (unit == "inch" and per_unit <= 1200) or (unit == "cm" and per_unit <= 473)


def _zeiss_scale(values: Mapping[str, Any]) -> Scale | None:
    value = values.get("ap_image_pixel_size") or values.get("ap_pixel_size")
    return _scale(float(value[1]), str(value[2])) if value else None


def _fei_scale(values: Mapping[str, Any]) -> Scale | None:
    width = values.get("Scan", {}).get("PixelWidth")
    return _scale(float(width), "m") if width else None


def _pillow_scale(path: Path) -> Scale | None:
    """Return the pixel size of a PNG that tells pixels per metre, finer than any printer's."""
    with _decoding(), Image.open(path) as image:
        dpi = image.info.get("dpi")
    return _scale(1 / float(dpi[0]), "inch") if dpi and float(dpi[0]) > 1200 else None


def _scale(size: float, unit: str) -> Scale | None:
    return Scale(size=size, unit=unit) if math.isfinite(size) and size > 0 and unit else None


# HDF5


def _read_hdf5(path: Path, frame: int, key: str) -> Micrograph:
    with _decoding(), h5py.File(path, "r") as file:
        dataset = _dataset(file, key)
        return Micrograph(pixels=_frame(dataset, frame), scale=_hdf5_scale(dataset.attrs))


def _dataset(file: Any, key: str) -> Any:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if _is_images(item) else None)
    if key:
        if key.strip("/") not in names:
            raise UnreadableError(f"it has no images under {key!r}; it has {', '.join(names) or 'none'}")
        return file[key]
    if len(names) != 1:
        raise UnreadableError(f"name one of its datasets with --key: {', '.join(names) or 'it has no images'}")
    return file[names[0]]


def _is_images(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim in (2, 3, 4) and item.dtype.kind in "iuf"


def _hdf5_scale(attributes: Mapping[str, Any]) -> Scale | None:
    """Return the pixel size from `pixel_size` and `unit`, or from ilastik's and ImageJ's `element_size_um`."""
    if "element_size_um" in attributes:
        return _scale(float(np.ravel(attributes["element_size_um"])[-1]), "µm")
    if "pixel_size" not in attributes:
        return None
    unit = attributes.get("unit", "")
    text = unit.decode() if isinstance(unit, bytes) else str(unit)
    return _scale(float(np.ravel(attributes["pixel_size"])[-1]), text)


# dm3, dm4, emd, mrc, ser


def _read_microscope(path: Path, frame: int) -> Micrograph:
    signal = _signal(path)
    axes = [axis for axis in signal["axes"] if not axis.get("navigate")] or signal["axes"]
    with _decoding():
        pixels = np.asarray(_frame(signal["data"], frame))
        last = axes[-1]
        unit = last.get("units")
        scale = _scale(float(last.get("scale", 0)), unit if isinstance(unit, str) else "")
    return Micrograph(pixels=pixels, scale=scale)


def _signal(path: Path) -> Mapping[str, Any]:
    """Return the first image or stack of images that rosettasciio finds in a file, its data not yet read."""
    suffix = path.suffix.lower()
    try:
        reader = importlib.import_module(f"rsciio.{MICROSCOPE_READERS[suffix]}")
    except ImportError as error:
        raise UnreadableError(f"{suffix} needs rosettasciio: pip install 'quatrain[micrograph]' ({error})") from error
    if suffix == ".mrc":
        _check_mrc(path)
    with _decoding():
        for signal in reader.file_reader(str(path), lazy=suffix != ".ser"):
            if _is_picture(signal):
                return dict(signal)
    raise UnreadableError("it holds no image")


_MRC_HEADER_BYTES = 1024


def _check_mrc(path: Path) -> None:
    """Raise UnreadableError for an MRC file that is too short for what its header tells."""
    with path.open("rb") as file:
        header = file.read(_MRC_HEADER_BYTES)
    if len(header) < _MRC_HEADER_BYTES:
        raise UnreadableError("it cannot be decoded (it is cut off)")
    orders = [struct.unpack(f"{order}3i", header[:12]) for order in "<>"]
    sizes = min(orders, key=lambda sides: abs(math.prod(sides)))
    if min(sizes) < 1 or math.prod(sizes) + _MRC_HEADER_BYTES > path.stat().st_size:
        raise UnreadableError("it cannot be decoded (it is cut off, or no MRC file)")


def _is_picture(signal: Mapping[str, Any]) -> bool:
    """Tell images and stacks of them from spectra and diffraction patterns of every point."""
    shape = signal["data"].shape
    images = sum(not axis.get("navigate") for axis in signal["axes"]) == 2
    return len(shape) in (2, 3) and min(shape[-2:]) > 1 and (images or len(shape) == 2)


# Frames


def _count(shape: Sequence[int]) -> int:
    return 1 if len(shape) == 2 or _has_colours(shape) else int(shape[0])


def _has_colours(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[-1] in (3, 4)


def _frame(data: Any, frame: int) -> NDArray[Any]:
    """Return one frame of (H, W), (H, W, 3 or 4), (frames, H, W) or (frames, H, W, C)."""
    shape = data.shape
    one = shape if _count(shape) == 1 and len(shape) < 4 and (len(shape) == 2 or _has_colours(shape)) else shape[1:]
    if one[0] * one[1] > MOST_PIXELS:
        raise UnreadableError(f"it has {one[1]} x {one[0]} pixels; the most are {MOST_PIXELS:,}")
    return np.asarray(data[...] if one == shape else data[frame])


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn what readers raise on damaged files into UnreadableError; keep their warnings and log lines back."""
    logs = [logging.getLogger(name) for name in ("rsciio", "tifffile")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableError:
        raise
    except _DAMAGED as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UnreadableError(f"it cannot be decoded ({reason})") from error
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
