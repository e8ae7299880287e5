"""Units of length in every spelling that image files use."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping

from quatrain.data.image_file import PixelSize

_PREFIXES = {
    "Y": 24,
    "Z": 21,
    "E": 18,
    "P": 15,
    "T": 12,
    "G": 9,
    "M": 6,
    "k": 3,
    "h": 2,
    "da": 1,
    "": 0,
    "d": -1,
    "c": -2,
    "m": -3,
    "μ": -6,
    "u": -6,
    "n": -9,
    "p": -12,
    "f": -15,
    "a": -18,
    "z": -21,
    "y": -24,
}
_NAMED_PREFIXES = {"kilo": 3, "deci": -1, "centi": -2, "milli": -3, "micro": -6, "nano": -9, "pico": -12, "femto": -15}
_INCH_NM = 2.54e7
_NM: Mapping[str, float] = {
    **{f"{prefix}m": 10.0 ** (power + 9) for prefix, power in _PREFIXES.items()},
    **{f"{prefix}met{end}": 10.0 ** (power + 9) for prefix, power in _NAMED_PREFIXES.items() for end in ("er", "re")},
    "meter": 1e9,
    "metre": 1e9,
    "micron": 1e3,
    "μ": 1e3,
    **dict.fromkeys(("Å", "å", "A", "angstrom", "angström", "ångström", "ångstrom", "ang"), 0.1),
    **dict.fromkeys(("inch", "inche", "in", '"'), _INCH_NM),
    "thou": _INCH_NM / 1000,
    "mil": _INCH_NM / 1000,
    "ft": 12 * _INCH_NM,
    "pt": _INCH_NM / 72,
}
_MOJIBAKE = {"Âµ": "µ", "Î¼": "µ", "Ã…": "Å", "â„«": "Å", "Ã\x85": "Å"}


def nm_per(unit: object) -> float | None:
    """Return the nm of one `unit` (text or bytes), or None when it is not a unit of length."""
    text = unit_text(unit)
    for spelling in (text, text.lower()):
        for candidate in (spelling, spelling.removesuffix("s")):
            if candidate in _NM:
                return _NM[candidate]
    return None


def unit_text(unit: object) -> str:
    """Return a unit as plain text, whatever the encoding of its micro or angstrom sign."""
    if isinstance(unit, bytes | bytearray):
        try:
            text = bytes(unit).decode("utf8")
        except UnicodeDecodeError:
            text = bytes(unit).decode("latin-1")
    else:
        text = "" if unit is None else str(unit)
    for wrong, right in _MOJIBAKE.items():
        text = text.replace(wrong, right)
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    return unicodedata.normalize("NFKC", text).strip(" \t\r\n\0")


def pixel_size(y: float, x: float, unit: object, source: str, *, y_unit: object = None) -> PixelSize | None:
    """Return a pixel size from numbers and their unit, or None when they are not positive lengths."""
    x_factor = nm_per(unit)
    y_factor = x_factor if y_unit is None else nm_per(y_unit)
    if x_factor is None or y_factor is None:
        return None
    y_nm, x_nm = _rounded(float(y) * y_factor), _rounded(float(x) * x_factor)
    if not all(math.isfinite(side) and side > 0 for side in (y_nm, x_nm)):
        return None
    if math.isclose(y_nm, x_nm, rel_tol=1e-6):  # the rounding of a rational, not a shape
        y_nm = x_nm
    return PixelSize(y_nm=y_nm, x_nm=x_nm, source=source)


def _rounded(value: float) -> float:
    return float(f"{value:.12g}") if math.isfinite(value) else value


def parse_pixel_size(text: str) -> PixelSize:
    """Return the size that `0.5nm` or `0.5nm,0.6nm` (height, width) states; raise ValueError for other text."""
    parts = [re.fullmatch(r"\s*([0-9.]+(?:[eE][-+]?\d+)?)\s*(\D+)", part) for part in text.split(",")]
    if len(parts) in (1, 2) and all(parts):
        (y, y_unit), (x, x_unit) = [match.groups() for match in (parts[0], parts[-1]) if match]
        try:
            size = pixel_size(float(y), float(x), x_unit, "--pixel-size", y_unit=y_unit)
        except ValueError:
            size = None
        if size is not None:
            return size
    raise ValueError(f"pixel_size is {text!r}; it must be like 0.5nm, or 0.5nm,0.6nm for height and width")


_SCANNERS = (1800, 2000, 2400, 2540, 2700, 2820, 2900, 3000, 3200, 3600, 4000, 4800, 5400, 6400, 7200, 9600, 12800)
_MOST_PRINTED_DPI = 1200


def printed_dpi(size: PixelSize) -> float | None:
    """Return the dots per inch of a resolution that belongs to a printer, screen or scanner, or None.

    Up to 1,200 dpi, and the usual resolutions of film scanners above, no microscope is meant.
    """
    dpi = _INCH_NM / size.x_nm
    usual = any(math.isclose(dpi, one, rel_tol=5e-4) for one in _SCANNERS)
    return round(dpi, 2) if dpi <= _MOST_PRINTED_DPI * 1.0005 or usual else None
