"""Read MRC (MRC2014, IMOD, older ones): a header of 1,024 bytes and the pixels.

Format: Cheng et al., J. Struct. Biol. 192 (2015) 146. rosettasciio takes all bytes for unsigned, and gives a size to
headers that state none.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.data.image_file import ImageInfo, PixelSize, Reader, UnreadableError, check_size, decoding
from quatrain.data.units import pixel_size

_HEADER_BYTES = 1024
_TYPES = {1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_REFUSED = {
    3: "complex numbers (a Fourier transform)",
    4: "complex numbers (a Fourier transform)",
    101: "4-bit numbers",
}
_IMOD_STAMP = 1146047817
_FEI_HEADER_BYTES = 131072
"""Size of the extended header of FEI's programs; its first entry has the pixel size, a float in m at byte 44."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Header:
    order: str
    """Byte order: "<" or ">"."""
    sides: tuple[int, int, int]
    """Columns, rows, sections."""
    mode: int
    samples: tuple[int, int, int]
    """Intervals along x, y, z of the cell."""
    cell: tuple[float, float, float]
    """Lengths of the cell along x, y, z in angstrom."""
    axes: tuple[int, int, int]
    """Which of x, y, z (1 to 3) columns, rows and sections are."""
    least: float
    most: float
    extended_bytes: int
    imod_flags: int | None
    fei_m: float = 0.0


def _header(path: Path) -> _Header:
    with path.open("rb") as file:
        raw = file.read(_HEADER_BYTES)
        if len(raw) < _HEADER_BYTES:
            raise UnreadableError("it cannot be decoded (it is cut off)")
        order = _byte_order(raw)
        words = struct.unpack(f"{order}10i6f3i3f2i", raw[:96])
        extended = max(0, words[23])
        fei = b""
        if extended == _FEI_HEADER_BYTES:
            file.seek(_HEADER_BYTES + 44)
            fei = file.read(4)
    stamp, flags = struct.unpack(f"{order}2i", raw[152:160])
    return _Header(
        order=order,
        sides=(words[0], words[1], words[2]),
        mode=words[3],
        samples=(words[7], words[8], words[9]),
        cell=(words[10], words[11], words[12]),
        axes=(words[16], words[17], words[18]),
        least=words[19],
        most=words[20],
        extended_bytes=extended,
        imod_flags=flags if stamp == _IMOD_STAMP else None,
        fei_m=struct.unpack(f"{order}f", fei)[0] if len(fei) == 4 else 0.0,
    )


def _byte_order(raw: bytes) -> str:
    """Return "<" or ">": that of the two in which the sizes and the mode make sense."""
    for order in (">", "<") if raw[212:213] == b"\x11" else ("<", ">"):
        *sides, mode = struct.unpack(f"{order}4i", raw[:16])
        if min(sides) > 0 and max(sides) < 1 << 24 and mode in (0, *_TYPES, *_REFUSED):
            return order
    raise UnreadableError("it cannot be decoded (it is not an MRC file)")


def _dtype(header: _Header) -> np.dtype[Any]:
    if header.mode in _REFUSED:
        raise UnreadableError(f"it holds {_REFUSED[header.mode]}, not an image")
    return np.dtype(header.order + (_TYPES[header.mode] if header.mode else "i1" if _signed(header) else "u1"))


def _signed(header: _Header) -> bool:
    """Return whether bytes are signed: IMOD states it; else the largest number of the header, and MRC2014, do."""
    if header.imod_flags is not None:
        return bool(header.imod_flags & 1)
    return not 127 < header.most <= 255


def inspect(path: Path) -> list[ImageInfo]:
    """Return the image or stack of an MRC file from its header."""
    with decoding():
        header = _header(path)
        dtype = _dtype(header)
        columns, rows, sections = header.sides
        check_size((rows, columns), dtype.itemsize, sections)
        if _HEADER_BYTES + header.extended_bytes + math.prod(header.sides) * dtype.itemsize > path.stat().st_size:
            raise UnreadableError("it cannot be decoded (it is cut off, or it is not an MRC file)")
    size = _pixel_size(header)
    default = size is not None and size.x_nm == size.y_nm == 0.1
    return [
        ImageInfo(
            shape=(rows, columns),
            dtype=str(dtype.newbyteorder("=")),
            frames=sections,
            pixel_size=size,
            no_pixel_size="" if size else "the MRC header has no sampling",
            warnings=("its pixels are exactly 1 angstrom, which programs write when they do not know",) * default,
        )
    ]


def _pixel_size(header: _Header) -> PixelSize | None:
    axes = header.axes if sorted(header.axes) == [1, 2, 3] else (1, 2, 3)
    x, y = (
        header.cell[axis - 1] / header.samples[axis - 1] if header.samples[axis - 1] > 0 else 0.0 for axis in axes[:2]
    )
    size = pixel_size(y, x, "angstrom", "MRC header")
    return size or pixel_size(header.fei_m, header.fei_m, "m", "FEI header of the MRC file")


def read(path: Path, _info: ImageInfo, frame: int, _labels: bool) -> NDArray[Any]:
    """Return one section, in the order of the file: its first row is the first."""
    with decoding():
        header = _header(path)
        dtype = _dtype(header)
        columns, rows, _ = header.sides
        with path.open("rb") as file:
            file.seek(_HEADER_BYTES + header.extended_bytes + frame * rows * columns * dtype.itemsize)
            pixels = np.fromfile(file, dtype, rows * columns)
        return pixels.reshape(rows, columns).astype(dtype.newbyteorder("="), copy=False)


MRC = Reader(
    name="MRC",
    suffixes=(".mrc", ".mrcs", ".rec", ".st"),
    inspect=inspect,
    read=read,
    takes="signed and unsigned bytes, 16-bit integers, float16, float32, both byte orders; stacks",
    pixel_size_from="sampling and cell of the header; FEI's extended header",
    refuses="Fourier transforms; 4-bit numbers; files that are cut off",
)
