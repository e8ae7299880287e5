"""Pixel size and scanned rows of a TIFF, from the tags of microscopes and programs."""

from __future__ import annotations

import html
import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quatrain.data.image_file import PixelSize
from quatrain.data.units import nm_per, pixel_size, printed_dpi, unit_text

_RESOLUTION_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}


class TiffMetadata:
    """The metadata of one image of a TIFF: a tifffile.TiffFile, a page of it, and the number of its image."""

    def __init__(self, tiff: Any, page: Any, index: int, path: Path) -> None:
        self.tiff, self.page, self.index, self.path = tiff, page, index, path
        self._text: str | None = None

    def tag(self, *names: str | int) -> Any:
        """Return the value of the first of the tags that the page has, or None."""
        return next((self.page.tags[name].value for name in names if name in self.page.tags), None)

    @property
    def text(self) -> str:
        """The text that SEMs write: private tags that hold KEY=VALUE lines, and the text file beside the image."""
        if self._text is None:
            parts = [_plain(tag.value) for tag in self.page.tags if tag.code > 32768 or tag.code == 270]
            parts += [_plain(file.read_bytes()[:100_000]) for file in _beside(self.path)]
            self._text = "\n".join(parts)
        return self._text

    def setting(self, name: str) -> str | None:
        """Return the value of a KEY=VALUE or `$KEY VALUE` line of the text, or None."""
        found = re.search(rf"(?mi)^\s*{re.escape(name)}\s*[=: \t]\s*(.+?)\s*$", self.text)
        return found[1] if found else None


def find_pixel_size(found: TiffMetadata) -> PixelSize | str:
    """Return the pixel size of an image, or the reason why it is not known."""
    for source in SOURCES:
        try:
            size = source(found)
        except (ValueError, TypeError, LookupError, ArithmeticError):
            continue  # a damaged entry does not hide the others
        if size is not None:
            return size
    return "the file states no pixel size"


def scanned_rows(found: TiffMetadata) -> int | None:
    """Return the number of rows above the data bar, or None when the metadata states none."""
    height, width = found.page.imagelength, found.page.imagewidth
    fei = found.tag("FEI_HELIOS", "FEI_SFEG")
    rows: float | None = None
    if isinstance(fei, Mapping):
        rows = _fei_rows(fei, width)
    elif strip := found.setting("ImageStripSize"):  # Tescan
        rows = height - _number(strip)
    elif size := found.setting("$CM_FULL_SIZE") or found.setting("DataSize"):  # JEOL, Hitachi
        sides = [int(side) for side in re.findall(r"\d+", size)]
        rows = sides[1] if len(sides) == 2 and sides[0] == width else None
    return round(rows) if rows is not None and height / 2 <= rows < height else None


def _fei_rows(fei: Mapping[str, Any], width: int) -> float | None:
    image, scan = fei.get("Image", {}), fei.get("Scan", {})
    if image.get("ResolutionY") and int(image.get("ResolutionX", width)) == width:
        return float(image["ResolutionY"])
    if scan.get("VerFieldsize") and scan.get("PixelHeight"):
        return float(scan["VerFieldsize"]) / float(scan["PixelHeight"])
    return None


def _ome(found: TiffMetadata) -> PixelSize | str | None:
    description = found.tiff.ome_metadata
    if not description:
        return None
    images = re.findall(r"<(?:\w+:)?Pixels\b([^>]*)>", description)
    attributes = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', images[min(found.index, len(images) - 1)]))
    x, y = (attributes.get(f"PhysicalSize{axis}") for axis in "XY")
    if x is None and y is None:
        return None
    units = [html.unescape(attributes.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
    size = pixel_size(float(y or x or 0), float(x or y or 0), units[0], "OME-XML", y_unit=units[1])
    return size or f"the OME-XML states {x} {units[0]}, which is not a length"


def _fei(found: TiffMetadata) -> PixelSize | None:
    fei = found.tag("FEI_HELIOS", "FEI_SFEG")
    if not isinstance(fei, Mapping):
        return None
    scan, image, beam = fei.get("Scan", {}), fei.get("Image", {}), fei.get("IRBeam", {})
    if scan.get("PixelWidth"):
        return pixel_size(scan.get("PixelHeight") or scan["PixelWidth"], scan["PixelWidth"], "m", "FEI tag")
    y = float(beam["VFW"]) / float(image["ResolutionY"])
    x = float(beam["HFW"]) / float(image["ResolutionX"])
    return pixel_size(y, x, "m", "FEI tag")


def _titan(found: TiffMetadata) -> PixelSize | None:
    sides = re.search(r"(?s)<PixelsSize>.*?<X>([^<]+)</X>.*?<Y>([^<]+)</Y>", unit_text(found.tag("FEI_TITAN", 34683)))
    return pixel_size(float(sides[2]), float(sides[1]), "m", "FEI Titan tag") if sides else None


def _zeiss(found: TiffMetadata) -> PixelSize | None:
    """Read Zeiss' tag: the size that it displays, with the further digits of its unnamed structure when they agree."""
    values = found.tag("CZ_SEM")
    if not isinstance(values, Mapping):
        return None
    shown = values.get("ap_image_pixel_size") or values.get("ap_pixel_size")
    size = pixel_size(shown[1], shown[1], shown[2], "Zeiss tag") if shown else None
    structure = values.get("")
    if not structure or len(structure) <= 3 or not isinstance(structure[3], float):
        return size
    side_m = structure[3] * 1024 / found.page.imagewidth
    exact = pixel_size(side_m, side_m, "m", "Zeiss tag")
    agree = size is None or (exact is not None and abs(exact.x_nm - size.x_nm) < 0.01 * size.x_nm)
    return exact if agree else size


def _olympus(found: TiffMetadata) -> PixelSize | None:
    values = found.tag("OlympusSIS", 33560, "OlympusINI", 33471)
    if not isinstance(values, Mapping) or "pixelsizex" not in values:
        return None
    return pixel_size(values.get("pixelsizey") or values["pixelsizex"], values["pixelsizex"], "m", "Olympus SIS tag")


def _tvips(found: TiffMetadata) -> PixelSize | None:
    values = found.tag("TVIPS", 37706)
    if not isinstance(values, Mapping) or not values.get("PixelSizeX"):
        return None
    return pixel_size(values.get("PixelSizeY") or values["PixelSizeX"], values["PixelSizeX"], "nm", "TVIPS tag")


def _gatan(found: TiffMetadata) -> PixelSize | str | None:
    """Read the tags that DigitalMicrograph and hyperspy write: units 65003 and 65004, scales 65009 and 65010."""
    x, y, unit = found.tag(65009), found.tag(65010), found.tag(65003)
    if x is None or not unit_text(unit):
        return None
    size = pixel_size(y or x, x, unit, "DigitalMicrograph tag", y_unit=found.tag(65004) or unit)
    return size or f"DigitalMicrograph states {x:g} {unit_text(unit)}, which is not a length"


def _jeol_sightx(found: TiffMetadata) -> PixelSize | str | None:
    """Read JEOL's TEM report, of which rosettasciio knows magnification and mode."""
    if found.tag("Make") != "JEOL Ltd." or "<TemReporter" not in str(found.tag("ImageDescription")):
        return None
    axes = importlib.import_module("rsciio.tiff").file_reader(str(found.path), lazy=True)[0]["axes"][-2:]
    size = pixel_size(axes[1]["scale"], axes[0]["scale"], axes[0]["units"], "JEOL tag")  # rosettasciio swaps x and y
    return size or f"JEOL's report states pixels in {axes[0]['units']}, which is not a length"


def _lsm(found: TiffMetadata) -> PixelSize | None:
    values = found.tiff.lsm_metadata if found.tiff.is_lsm else None
    return pixel_size(values["VoxelSizeY"], values["VoxelSizeX"], "m", "Zeiss LSM tag") if values else None


def _tescan(found: TiffMetadata) -> PixelSize | None:
    x, y = found.setting("PixelSizeX"), found.setting("PixelSizeY")
    return pixel_size(_number(y or x), _number(x), "m", "Tescan header") if x else None


def _hitachi(found: TiffMetadata) -> PixelSize | None:
    side = found.setting("PixelSize") if "SemImageFile" in found.text else None
    return pixel_size(_number(side), _number(side), "nm", "Hitachi header") if side else None


def _jeol_sem(found: TiffMetadata) -> PixelSize | None:
    """Read JEOL's SEM header: a micron marker of so many pixels."""
    pixels, marker = found.setting("$$SM_MICRON_BAR"), found.setting("$$SM_MICRON_MARKER")
    length = re.fullmatch(r"([0-9.]+)\s*(\D+)", marker) if marker else None
    if not pixels or length is None:
        return None
    side = float(length[1]) / _number(pixels)
    return pixel_size(side, side, length[2], "JEOL header")


def _aperio(found: TiffMetadata) -> PixelSize | None:
    side = re.search(r"\bMPP\s*=\s*([0-9.]+)", str(found.tag("ImageDescription")))
    return pixel_size(float(side[1]), float(side[1]), "um", "Aperio description") if side else None


def _imagej(found: TiffMetadata) -> PixelSize | str | None:
    values = found.tiff.imagej_metadata or {}
    sides = _resolution(found)
    unit = _imagej_unit(found, "unit")
    if not unit or sides is None:
        return None
    if nm_per(unit) is None:
        return f"ImageJ's unit is {unit_text(unit)!r}, which is not a length"
    y_unit = _imagej_unit(found, "yunit") if "yunit" in values else unit
    size = pixel_size(*sides, unit, "ImageJ description", y_unit=y_unit)
    return _unless_printed(size) if size and unit_text(unit).lower().startswith("in") else size


def _imagej_unit(found: TiffMetadata, name: str) -> str | bytes:
    """Return a unit of ImageJ's description from its bytes: they may be in Latin-1, UTF-8 or neither."""
    if not found.tiff.is_imagej:
        return ""
    raw = _raw_description(found)
    match = re.search(rb"(?m)^%s=(.*?)[\r\0]*$" % name.encode(), raw)
    return match[1] if match else ""


def _raw_description(found: TiffMetadata) -> bytes:
    tag = found.tiff.pages[0].tags["ImageDescription"]
    handle = found.tiff.filehandle
    handle.seek(tag.valueoffset)
    return bytes(handle.read(min(tag.count, 1 << 20)))


def _tags(found: TiffMetadata) -> PixelSize | str | None:
    sides, unit = _resolution(found), _RESOLUTION_UNITS.get(int(found.tag("ResolutionUnit") or 1))
    size = pixel_size(*sides, unit, "resolution tags") if sides and unit else None
    return _unless_printed(size) if size else None


def _resolution(found: TiffMetadata) -> tuple[float, float] | None:
    """Return height and width of a pixel in the unit of the resolution tags."""
    x, y = found.tag("XResolution"), found.tag("YResolution")
    if not x or not x[0]:
        return None
    width = x[1] / x[0]
    return (y[1] / y[0] if y and y[0] and y[1] else width), width


def _unless_printed(size: PixelSize) -> PixelSize | str:
    dpi = printed_dpi(size)
    return size if dpi is None else f"{dpi:g} dpi is the resolution of a printer, screen or scanner"


SOURCES: tuple[Callable[[TiffMetadata], PixelSize | str | None], ...] = (
    *(_ome, _fei, _titan, _zeiss, _olympus, _tvips, _gatan, _jeol_sightx, _lsm),
    *(_tescan, _hitachi, _jeol_sem, _aperio, _imagej, _tags),
)
"""Where a pixel size may be stated; the first that states one holds."""


def _number(text: object) -> float:
    found = re.match(r"\s*([-+]?[0-9.]+(?:[eE][-+]?\d+)?)", str(text))
    if found is None:
        raise ValueError(f"{text!r} is not a number")
    return float(found[1])


def _plain(value: Any) -> str:
    """Return the text of a tag or file: UTF-16 and Latin-1 too; empty for numbers."""
    if isinstance(value, bytes):
        return value.decode("utf-16-le" if value[1:2] == b"\0" else "latin-1", errors="replace").lstrip("\ufeff")
    return value if isinstance(value, str) else ""


def _beside(path: Path) -> list[Path]:
    """Return the header files that SEM programs write beside an image: NAME.txt (JEOL, Hitachi), .hdr (Tescan)."""
    stems = (path.with_suffix(""), path.with_name(f"{path.stem}-{path.suffix[1:]}"))
    names = (stem.with_name(stem.name + suffix) for stem in stems for suffix in (".txt", ".hdr"))
    return [name for name in names if name.is_file()]
