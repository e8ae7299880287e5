"""Files of microscopes that hold no image, colours, or a pixel size in tags of their maker."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile

from quatrain.data.decode import UnreadableError, images, inspect, read

GREY = (np.indices((20, 30)).sum(axis=0) * 5).astype(np.uint8)


def numbers(*values):
    """The type descriptor of a DigitalMicrograph tag."""
    return b"%%%%" + struct.pack(f">{len(values) + 1}I", len(values), *values)


def encode(value):
    """A tag's content: a dict or list becomes a group, text and numbers become data."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else [("", item) for item in value]
        entries = []
        for name, item in pairs:
            kind = 20 if isinstance(item, dict | list) else 21
            entries.append(struct.pack(">BH", kind, len(name)) + name.encode() + encode(item))
        return struct.pack(">BBI", 0, 0, len(entries)) + b"".join(entries)
    if isinstance(value, str):
        return numbers(20, 4, len(value)) + value.encode("utf-16-le")
    if isinstance(value, float):
        return numbers(6) + struct.pack("<f", value)
    if isinstance(value, int):
        return numbers(5) + struct.pack("<I", value)
    code, size, content = value
    return numbers(20, code, size) + content


def write_dm3(path, array, axes, tags=None):
    """One DigitalMicrograph 3 image; `axes` are (scale, unit), the fastest first; uint8 (H, W, 4) is colour."""
    colour = array.dtype == np.uint8
    shape = array.shape[:2] if colour else array.shape
    stored = array if colour else array.astype("<f4")
    axis = [{"Origin": 0.0, "Scale": scale, "Units": unit} for scale, unit in axes]
    brightness = {"Origin": 0.0, "Scale": 1.0, "Units": ""}
    image = {
        "ImageData": {
            "Calibrations": {"Brightness": brightness, "Dimension": axis},
            "Data": (3 if colour else 6, int(np.prod(shape)), stored.tobytes()),
            "DataType": 23 if colour else 2,
            "Dimensions": list(shape[::-1]),
            "PixelDepth": 4,
        },
        "ImageTags": {"Meta Data": tags} if tags else {},
        "Name": "camera",
    }
    root = encode({"ImageList": [image]})
    path.write_bytes(struct.pack(">3I", 3, len(root), 1) + root + bytes(8))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((6, 20, 30), [(0.25, "nm"), (0.25, "nm"), (0.5, "eV")]), ((20, 30), [(0.5, "eV"), (2.0, "nm")])],
    ids=["spectrum image", "line scan"],
)
def test_spectra_of_digital_micrograph_are_refused_as_no_image(tmp_path, shape, axes):
    path = tmp_path / "a.dm3"
    write_dm3(path, np.random.default_rng(0).random(shape), axes, {"Format": "Spectrum image", "Signal": "EELS"})

    with pytest.raises(UnreadableError, match="no image"):
        images(path)


def test_a_colour_image_of_digital_micrograph_is_read_in_its_colours(tmp_path):
    colours = np.dstack([GREY // 3, GREY // 2, GREY, np.full_like(GREY, 255)])  # blue, green, red, alpha
    write_dm3(tmp_path / "a.dm3", colours, [(0.25, "nm"), (0.25, "nm")])
    found = read(tmp_path / "a.dm3")

    assert found.pixels.shape[:2] == GREY.shape
    assert found.pixel_size.nm == pytest.approx(0.25)
    assert {tuple(channel.ravel()[:50]) for channel in np.moveaxis(found.pixels, -1, 0)[:3]} == {
        tuple((GREY // part).ravel()[:50]) for part in (1, 2, 3)
    }


def olympus_tag(size_m):
    """The block of an Olympus SIS tag; its offset in the file is set by `write_olympus`."""
    head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 30, 12, 1, 5, 120, b"camera", 1) + struct.pack("<hhI", 1, 1, 0)
    return (
        head + struct.pack("<10xhdd8xd2x34s32s", -9, size_m * 1e9, size_m * 1e9, 6e5, b"camera", b"image") + bytes(16)
    )


def write_olympus(path, pages):
    tag = olympus_tag(2.4e-11)
    with tifffile.TiffWriter(path) as file:
        for page in pages:
            calibrated = page.dtype == np.uint16
            file.write(page, metadata=None, extratags=[(33560, 1, len(tag), tag, True)] if calibrated else ())
    content = bytearray(path.read_bytes())
    start = content.find(b"SIS0")
    struct.pack_into("<I", content, start + 64, start + 68)
    path.write_bytes(bytes(content))


def test_an_olympus_tag_gives_the_pixel_size(tmp_path):
    write_olympus(tmp_path / "a.tif", [GREY.astype(np.uint16) * 37])

    assert read(tmp_path / "a.tif").pixel_size.nm == pytest.approx(0.024)


def test_the_8_bit_rendering_of_an_olympus_image_is_left_out_with_a_warning(tmp_path):
    deep = GREY.astype(np.uint16) * 37
    write_olympus(tmp_path / "a.tif", [GREY, deep])

    assert np.array_equal(read(tmp_path / "a.tif").pixels, deep)
    assert [info.left_out != "" for info in inspect(tmp_path / "a.tif")] == [True, False]
    assert any(info.warnings for info in inspect(tmp_path / "a.tif"))


@pytest.mark.parametrize(
    "tags",
    [
        [
            (
                34683,
                2,
                0,
                b"<Root><Data><Label>Camera</Label><Value>x</Value></Data>"
                b"<PixelsSize><X>2.5E-10</X><Y>2.5E-10</Y></PixelsSize></Root>",
                True,
            )
        ],
        [
            (65003, 2, 0, b"nm", False),
            (65004, 2, 0, b"nm", False),
            (65009, 12, 1, 0.25, False),
            (65010, 12, 1, 0.25, False),
        ],
    ],
    ids=["FEI Titan", "Gatan"],
)
def test_tags_of_other_makers_give_the_pixel_size(tmp_path, tags):
    tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=tags, metadata=None)

    assert read(tmp_path / "a.tif").pixel_size.nm == pytest.approx(0.25)
