"""Read dm3, dm4, emd and ser by rosettasciio: every image of a file, no spectra and no diffraction patterns."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.data.image_file import ImageInfo, Reader, UnreadableError, check_size, decoding
from quatrain.data.units import nm_per, pixel_size, unit_text

_MODULES = {".dm3": "digitalmicrograph", ".dm4": "digitalmicrograph", ".emd": "emd", ".ser": "tia"}
"""The module of rosettasciio for each suffix."""
Signal = Mapping[str, Any]


def inspect(path: Path) -> list[ImageInfo]:
    """Return the images and stacks of a file; raise UnreadableError when it has only something else."""
    infos, refused = [], []
    for index, signal in enumerate(_signals(path)):
        with decoding():
            reason = _refusal(signal)
            if reason:
                refused.append(f"{_title(signal) or f'signal {index}'!s} is left out: {reason}")
            else:
                infos.append(_info(signal, index))
    if not infos:
        raise UnreadableError("it holds no image" + (f": {'; '.join(refused[:3])}" if refused else ""))
    single = len(infos) == 1
    names = Counter(info.name for info in infos)
    return [
        replace(
            info,
            key="" if single and not refused else info.key,
            name="" if single or names[info.name] > 1 else info.name,
            warnings=(*info.warnings, *refused),
        )
        for info in infos
    ]


def _signals(path: Path) -> list[Signal]:
    """Return what rosettasciio finds in a file, where it can with the data not yet read."""
    suffix = path.suffix.lower()
    try:
        reader = importlib.import_module(f"rsciio.{_MODULES[suffix]}")
    except ImportError as error:
        raise UnreadableError(f"{suffix} needs rosettasciio: pip install 'quatrain[micrograph]' ({error})") from error
    options: dict[str, Any] = {"select_type": "images"} if suffix == ".emd" else {}
    damaged: tuple[type[Exception], ...] = (UnboundLocalError, *_own_errors())
    with decoding():
        try:
            return list(reader.file_reader(str(path), lazy=suffix != ".ser", **options))
        except ValueError as error:
            if "RGBA" not in str(error):
                raise
            return list(reader.file_reader(str(path), lazy=False, **options))  # colours cannot be read lazily
        except damaged as error:
            raise UnreadableError("it cannot be decoded (it is damaged)") from error


def _own_errors() -> tuple[type[Exception], ...]:
    """Return rosettasciio's own exceptions, which have no common base."""
    found = vars(importlib.import_module("rsciio.exceptions")).values()
    return tuple(one for one in found if isinstance(one, type) and issubclass(one, Exception))


def _title(signal: Signal) -> str:
    """Return the title of a signal, or the detector of a Velox image whose title rosettasciio does not recognise."""
    title = str(signal.get("metadata", {}).get("General", {}).get("title") or "").strip()
    detector = signal.get("original_metadata", {}).get("BinaryResult", {}).get("Detector")
    return str(detector) if detector and title in ("", "Unrecognized_image_signal") else title


def _refusal(signal: Signal) -> str:
    """Return why a signal is not an image or a stack of images; empty when it is one."""
    metadata = signal.get("metadata", {})
    kind = str(metadata.get("Signal", {}).get("signal_type") or "")
    shape, axes = signal["data"].shape, signal["axes"]
    if kind:
        return f"its signal is {kind}, not an image"
    foreign = [unit for axis in axes if (unit := unit_text(axis.get("units"))) and not _fits(axis, unit)]
    if foreign:
        return f"an axis is in {foreign[0]}, so that it is not an image"
    if signal["data"].dtype.kind == "c":
        return "it holds complex numbers (a Fourier transform)"
    if len(shape) not in (2, 3) or min(shape[-2:]) < 2:
        return f"its shape is {' x '.join(map(str, shape))}, not an image or a stack of images"
    if sum(not axis.get("navigate") for axis in axes) != 2 and len(shape) != 2:
        return "it is a spectrum at every point, not a stack of images"
    line_scan = len(shape) == 2 and any(axis.get("navigate") for axis in axes)
    return "it is a line scan of spectra" if line_scan else ""


def _fits(axis: Mapping[str, Any], unit: str) -> bool:
    """Return whether an axis of an image may have a unit; a stack may run over lengths, times and tilts."""
    runs = ("s", "ms", "us", "μs", "min", "sec", "deg", "°", "images", "frames", "times", "#")
    return (
        nm_per(unit) is not None
        or unit.lower() in ("px", "pixel", "pixels")
        or (bool(axis.get("navigate")) and unit.lower() in runs)
    )


def _info(signal: Signal, index: int) -> ImageInfo:
    data = signal["data"]
    colours = data.dtype.names is not None
    shape = (*data.shape[-2:], len(data.dtype.names)) if colours else tuple(data.shape[-2:])
    frames = 1 if len(data.shape) == 2 else int(data.shape[0])
    dtype = data.dtype[0] if colours else data.dtype
    if dtype.kind not in "iufb":
        raise UnreadableError(f"it holds {dtype}; it must hold real numbers")
    check_size(shape, dtype.itemsize, frames)
    y, x = signal["axes"][-2:]
    size = pixel_size(
        y.get("scale") or 0, x.get("scale") or 0, x.get("units"), "calibration of its axes", y_unit=y.get("units") or ""
    )
    reason = "" if size else "its axes have no calibration"
    return ImageInfo(
        key=str(index),
        name=_title(signal),
        shape=shape,
        dtype=str(dtype.newbyteorder("=")),
        frames=frames,
        pixel_size=size,
        no_pixel_size=reason,
    )


def read(path: Path, info: ImageInfo, frame: int, _labels: bool) -> NDArray[Any]:
    """Return one frame of an image."""
    signal = _signals(path)[int(info.key or 0)]
    with decoding():
        data = signal["data"]
        pixels = np.asarray(data if len(data.shape) == 2 else data[frame])
        if pixels.dtype.names:
            pixels = np.stack([pixels[name] for name in _in_order(pixels.dtype.names)], axis=-1)
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _in_order(names: Sequence[str]) -> list[str]:
    return [name for name in "RGBA" if name in names]


_AXES = "calibration of the axes"
MICROSCOPE = (
    Reader(
        name="DigitalMicrograph",
        suffixes=(".dm3", ".dm4"),
        inspect=inspect,
        read=read,
        takes="every image and stack of a file, in colour too; `--key` names one",
        pixel_size_from=_AXES,
        refuses="spectra, spectrum images, line scans, Fourier transforms, diffraction patterns",
    ),
    Reader(
        name="EMD (Velox, NCEM)",
        suffixes=(".emd",),
        inspect=inspect,
        read=read,
        takes="every image (detector) and stack of a file; `--key` names one",
        pixel_size_from=_AXES,
        refuses="spectra, spectrum images, Fourier transforms, diffraction patterns",
    ),
    Reader(
        name="TIA series",
        suffixes=(".ser",),
        inspect=inspect,
        read=read,
        takes="images and stacks",
        pixel_size_from=_AXES,
        refuses="spectra, line scans",
    ),
)
