"""Every format gives the file's own numbers, the right way up, with a pixel size or the reason for none."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "micrograph"))

from micrograph_world import write_dm3, write_dm4, write_mrc, write_ncem, write_ser, write_velox

from quatrain.data.decode import UnreadableError, images, inspect, read, read_labels
from quatrain.data.sample import to_rgb8
from quatrain.data.units import nm_per, parse_pixel_size

GREY = np.random.default_rng(0).integers(0, 4000, (24, 40)).astype(np.uint16)
EIGHT = (GREY >> 4).astype(np.uint8)


def size_of(path):
    """Height and width of a pixel in nm, or the reason for none."""
    (info,) = images(path)
    return (info.pixel_size.y_nm, info.pixel_size.x_nm) if info.pixel_size else info.no_pixel_size


# Grey values

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float32", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"predictor": True}])
def test_a_tiff_of_any_depth_order_and_layout_gives_tifffiles_numbers(tmp_path, dtype, order, options):
    if "predictor" in options:
        options = {"compression": "zlib", "predictor": not dtype.startswith("float")}
    values = (GREY % 200 - (100 if dtype.startswith("int") else 0)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=order, **options)

    found = read(tmp_path / "a.tif")

    assert found.pixels.dtype == found.info.dtype == dtype
    assert np.array_equal(found.pixels, values)
    assert np.array_equal(found.pixels, tifffile.imread(tmp_path / "a.tif"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_in_planes_or_in_pixels_are_the_same(tmp_path, dtype, planar):
    colour = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]]).astype(dtype)
    stored = colour if planar == "contig" else np.moveaxis(colour, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)

    assert np.array_equal(read(tmp_path / "a.tif").pixels, colour)
    assert inspect(tmp_path / "a.tif")[0].shape == colour.shape


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "float32"])
def test_white_is_the_largest_number_whatever_the_depth(tmp_path, dtype):
    values = np.sort(EIGHT >> 1, axis=0).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite", metadata=None)

    shown = to_rgb8(read(tmp_path / "a.tif").pixels)[..., 0]

    assert (np.diff(shown.astype(int), axis=0) <= 0).all()
    assert np.array_equal(read_labels(tmp_path / "a.tif"), values)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_the_numbers_of_a_label_map_do_not_depend_on_its_look_up_table(tmp_path, compression):
    inside = np.zeros((24, 40), np.uint8)
    inside[5:10, 5:20] = 255
    image = Image.fromarray(inside)
    image.save(tmp_path / "a.tif", compression=compression, tiffinfo={262: 0})
    indices = Image.fromarray((inside // 255 + 1).astype(np.uint8), "P")
    indices.putpalette([255 - one // 3 for one in range(768)])
    indices.save(tmp_path / "p.tif")

    assert np.array_equal(read_labels(tmp_path / "a.tif"), 255 - inside)  # Pillow stores what the table turns round
    assert np.unique(read_labels(tmp_path / "p.tif")).tolist() == [1, 2]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_numbers_of_a_png_of_few_bits_are_the_labels(tmp_path, bits):
    values = (GREY % 2**bits).astype(np.uint8)
    _write_grey_png(tmp_path / "a.png", values, bits)

    assert np.array_equal(read_labels(tmp_path / "a.png"), values)


def _write_grey_png(path, values, bits):
    import zlib

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(len(values), -1)
    raw = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)
    head = struct.pack(">2I5B", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    end = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + end)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_a_png_of_16_bit_colours_keeps_all_its_bits(tmp_path, colour_type, channels):
    import zlib

    values = np.random.default_rng(1).integers(0, 65536, (20, 30, channels)).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">2I5B", 30, 20, 16, colour_type, 0, 0, 0))
    body = head + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)

    found = read(tmp_path / "a.png")

    assert np.array_equal(found.pixels, values)
    assert (found.info.shape, found.info.dtype) == (values.shape, "uint16")


@pytest.mark.parametrize(("imod", "signed"), [(None, True), (1, True), (0, False)])
def test_bytes_of_an_mrc_are_signed_unless_imod_says_otherwise(tmp_path, imod, signed):
    values = (EIGHT.astype(np.int16) - 128).astype(np.int8) if signed else EIGHT
    write_mrc(tmp_path / "a.mrc", GREY, 5.0)
    header = bytearray((tmp_path / "a.mrc").read_bytes()[:1024])
    struct.pack_into("<i", header, 12, 0)
    struct.pack_into("<3f", header, 76, float(values.min()), float(values.max()), 0.0)
    if imod is not None:
        struct.pack_into("<2i", header, 152, 1146047817, imod)
    (tmp_path / "a.mrc").write_bytes(bytes(header) + values.tobytes())

    assert np.array_equal(read(tmp_path / "a.mrc").pixels, values)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_big_endian_mrc_gives_rosettasciios_numbers(tmp_path):
    from rsciio.mrc import file_reader

    write_mrc(tmp_path / "small.mrc", GREY, 5.0)
    (little,) = file_reader(str(tmp_path / "small.mrc"))
    header = np.frombuffer((tmp_path / "small.mrc").read_bytes()[:1024], "<i4").astype(">i4").tobytes()
    header = header[:208] + b"MAP \x11\x11\0\0" + header[216:]
    (tmp_path / "big.mrc").write_bytes(header + GREY.astype(">f4").tobytes())

    assert np.array_equal(read(tmp_path / "small.mrc").pixels, np.squeeze(little["data"]))
    assert np.array_equal(read(tmp_path / "big.mrc").pixels, GREY)
    assert size_of(tmp_path / "big.mrc") == pytest.approx((0.5, 0.5))


# Orientation

TURNED = {1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1], 5: GREY.T}
TURNED |= {6: np.rot90(GREY, -1), 7: GREY[::-1, ::-1].T, 8: np.rot90(GREY)}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "shift"), [("deep.tif", 0), ("eight.tif", 4), ("lzw.tif", 4), ("a.png", 0)])
def test_an_image_is_turned_as_its_orientation_says_and_its_truth_too(tmp_path, orientation, name, shift):
    stored, shown = GREY >> shift, TURNED[orientation] >> shift
    if name.endswith(".png") or name == "lzw.tif":
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(stored if not shift else stored.astype(np.uint8))
        options = {"compression": "tiff_lzw", "tiffinfo": {0x0112: orientation}} if shift else {"exif": exif}
        image.save(tmp_path / name, **options)
    else:
        stored = stored if not shift else stored.astype(np.uint8)
        size = {"resolution": (1e6, 5e5), "resolutionunit": "CENTIMETER"}
        tag = [(274, 3, 1, orientation, True)]
        tifffile.imwrite(tmp_path / name, stored, extratags=tag, metadata=None, **size)
        assert size_of(tmp_path / name) == ((20.0, 10.0) if orientation < 5 else (10.0, 20.0))

    found = read(tmp_path / name)

    assert np.array_equal(found.pixels, shown)
    assert np.array_equal(read_labels(tmp_path / name), shown)
    assert found.info.shape == shown.shape


# Pixel sizes

UNITS = {
    "microns": 20.0,
    "micron": 20.0,
    "um": 20.0,
    "µm": 20.0,
    "μm": 20.0,
    "\\u00B5m": 20.0,
    "micrometer": 20.0,
    "nanometers": 0.02,
    "nm": 0.02,
    "NM": 0.02,
    "angstroms": 0.002,
    "Å": 0.002,
    "\u212b": 0.002,
    "mm": 2e4,
    "pixel": "not a length",
    "eV": "not a length",
    "1/nm": "not a length",
    "s": "not a length",
    "rad": "not a length",
}


@pytest.mark.parametrize("encoding", ["utf8", "latin-1"])
@pytest.mark.parametrize(("unit", "nm"), UNITS.items())
def test_imagejs_unit_is_understood_in_every_spelling(tmp_path, unit, nm, encoding):
    text = f"ImageJ=1.53q\nunit={unit}\n".encode(encoding, errors="ignore" if encoding == "utf8" else "replace")
    if b"?" in text:
        pytest.skip("the sign is not in Latin-1")
    options = {"resolution": (50, 50), "resolutionunit": "NONE", "description": text, "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", GREY, **options)

    found = size_of(tmp_path / "a.tif")

    assert nm in found if isinstance(nm, str) else found == pytest.approx((nm, nm))


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600, 1200, 2400, 4800])
@pytest.mark.parametrize("name", ["inch.tif", "cm.tif", "imagej.tif", "a.png", "a.jpg", "a.bmp"])
def test_a_printers_or_scanners_resolution_is_not_a_size(tmp_path, dpi, name):
    unit = {"inch.tif": "INCH", "cm.tif": "CENTIMETER", "imagej.tif": "INCH"}.get(name)
    if unit:
        per_unit = dpi / 2.54 if unit == "CENTIMETER" else dpi
        description = {"description": "ImageJ=1.53q\nunit=inch\n"} if name == "imagej.tif" else {}
        options = {"resolution": (per_unit, per_unit), "resolutionunit": unit, "metadata": None}
        tifffile.imwrite(tmp_path / name, GREY, **options, **description)
    else:
        Image.fromarray(EIGHT).save(tmp_path / name, dpi=(dpi, dpi))

    assert "dpi is the resolution of a printer" in size_of(tmp_path / name)


def test_a_resolution_finer_than_any_printers_is_a_size(tmp_path):
    Image.fromarray(EIGHT).save(tmp_path / "a.png", dpi=(2.54e6, 1.27e6))

    assert size_of(tmp_path / "a.png") == pytest.approx((20.0, 10.0), rel=1e-4)


@pytest.mark.parametrize(
    ("unit", "nm"), [("nm", 0.02), ("µm", 20.0), ("Å", 0.002), ("pm", 2e-5), ("mm", 2e4), ("pixel", None), ("s", None)]
)
def test_ome_xml_is_believed_before_a_resolution_beside_it(tmp_path, unit, nm):
    about = {"axes": "YX", "PhysicalSizeX": 0.02, "PhysicalSizeY": 0.04, "PhysicalSizeXUnit": unit}
    about["PhysicalSizeYUnit"] = unit
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, metadata=about, resolution=(2400, 2400), resolutionunit="INCH")

    found = size_of(tmp_path / "a.ome.tif")

    assert found == pytest.approx((2 * nm, nm)) if nm else "not a length" in found


def _fei(**scan):
    lines = ["[User]", "Date=01/02/2020", "[Scan]", *(f"{key}={value}" for key, value in scan.items())]
    return [(34682, 2, 0, "\r\n".join([*lines, ""]).encode(), True)]


def test_fei_pixels_that_are_not_square_keep_two_sizes_which_rosettasciio_swaps(tmp_path):
    from rsciio.tiff import file_reader

    tags = _fei(PixelWidth=5e-9, PixelHeight=8e-9)
    tifffile.imwrite(tmp_path / "a.tif", EIGHT, extratags=tags, metadata=None)

    assert size_of(tmp_path / "a.tif") == (8.0, 5.0)
    assert [axis["scale"] for axis in file_reader(str(tmp_path / "a.tif"))[0]["axes"]] == [5e-9, 8e-9]


@pytest.mark.parametrize(
    ("tags", "nm"),
    [
        ([(34683, 2, 0, b"<R><PixelsSize><X>2.5E-10</X><Y>3.5E-10</Y></PixelsSize></R>", True)], (0.35, 0.25)),
        ([(65003, 2, 0, b"nm", True), (65009, 12, 1, 0.25, True), (65010, 12, 1, 0.5, True)], (0.5, 0.25)),
        ([(65003, 2, 0, b"1/nm", True), (65009, 12, 1, 0.25, True)], "not a length"),
        ([(50431, 2, 0, b"\r\nPixelSizeX=2e-9\r\nPixelSizeY=3e-9\r\nImageStripSize=4\r\n", True)], (3.0, 2.0)),
    ],
)
def test_tags_of_other_makers_state_the_size(tmp_path, tags, nm):
    options = {"resolution": (72, 72), "resolutionunit": "INCH", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=tags, **options)

    found = size_of(tmp_path / "a.tif")

    assert nm in found if isinstance(nm, str) else found == pytest.approx(nm)


@pytest.mark.parametrize(
    ("name", "text", "nm", "rows"),
    [
        ("a.txt", "[SemImageFile]\r\nPixelSize=9.921875\r\nDataSize=40x20\r\n", 9.921875, 20),
        ("a.txt", "$CM_FULL_SIZE 40 20\r\n$$SM_MICRON_BAR 100\r\n$$SM_MICRON_MARKER 1um\r\n", 10.0, 20),
        ("a-tif.hdr", "[MAIN]\nPixelSizeX=1.5e-9\nPixelSizeY=1.5e-9\n[SEM]\nImageStripSize=4\n", 1.5, 20),
    ],
)
def test_header_files_of_sems_beside_an_image_state_size_and_scanned_rows(tmp_path, name, text, nm, rows):
    tifffile.imwrite(tmp_path / "a.tif", EIGHT, metadata=None)
    (tmp_path / name).write_text(text)

    assert size_of(tmp_path / "a.tif") == pytest.approx((nm, nm))
    assert images(tmp_path / "a.tif")[0].scanned_rows == rows


@pytest.mark.parametrize(
    ("attributes", "nm"),
    [
        ({"pixel_size": 0.5, "unit": "nm"}, (0.5, 0.5)),
        ({"pixel_size": [3.0, 0.6, 0.5], "units": b"nm"}, (0.6, 0.5)),
        ({"pixel_size": np.array([[0.5]]), "unit": np.array([b"nm"])}, (0.5, 0.5)),
        ({"pixel_size": "0.5 nm"}, (0.5, 0.5)),
        ({"element_size_um": [1.0, 0.02, 0.01]}, (20.0, 10.0)),
        ({"pixel_size_nm": np.float32(0.5)}, (0.5, 0.5)),
        ({"pixel_size": 0.5}, "not a length"),
        ({"pixel_size": 0.5, "unit": "1/nm"}, "not a length"),
        ({"pixel_size": 0.0, "unit": "nm"}, "not a size"),
        ({}, "no attribute"),
    ],
)
def test_hdf5_attributes_of_any_shape_state_the_size(tmp_path, attributes, nm):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = GREY
        file["image"].attrs.update(attributes)

    found = size_of(tmp_path / "a.h5")

    assert nm in found if isinstance(nm, str) else found == pytest.approx(nm)


def test_an_mrc_without_sampling_has_no_size(tmp_path):
    write_mrc(tmp_path / "a.mrc", GREY, 5.0)
    header = bytearray((tmp_path / "a.mrc").read_bytes())
    header[28:52] = bytes(24)
    (tmp_path / "a.mrc").write_bytes(header)

    assert size_of(tmp_path / "a.mrc") == "the MRC header has no sampling"


@pytest.mark.parametrize(
    ("text", "sides"),
    [("0.5nm", (0.5, 0.5)), ("0.5nm,0.6nm", (0.5, 0.6)), ("2 µm", (2e3, 2e3)), ("1e-3um", (1.0, 1.0))],
)
def test_a_pixel_size_on_the_command_line_is_height_and_width(text, sides):
    size = parse_pixel_size(text)

    assert (size.y_nm, size.x_nm, size.source) == (*sides, "--pixel-size")


@pytest.mark.parametrize("text", ["0.5", "nm", "0nm", "-1nm", "1eV", "1nm,2nm,3nm", "1nm,"])
def test_a_pixel_size_that_is_not_one_is_refused_with_the_way_to_write_it(text):
    with pytest.raises(ValueError, match=r"must be like 0\.5nm"):
        parse_pixel_size(text)


@pytest.mark.parametrize(
    "unit", ["", "eV", "1/nm", "nm^-1", "s", "rad", "mrad", "pixel", "px", "counts", "K", "Hz", None]
)
def test_a_unit_that_is_no_length_has_no_nm(unit):
    assert nm_per(unit) is None


# Images of a container


def test_pages_of_different_sizes_are_images_and_previews_are_left_out(tmp_path):
    with tifffile.TiffWriter(tmp_path / "flag.tif") as out:
        out.write(EIGHT[::4, ::4], subfiletype=1, metadata=None)
        out.write(GREY, metadata=None)
    with tifffile.TiffWriter(tmp_path / "small.tif") as out:
        out.write(GREY, metadata=None)
        out.write(GREY[::4, ::4], metadata=None)
    with tifffile.TiffWriter(tmp_path / "two.tif") as out:
        out.write(GREY, metadata=None)
        out.write(GREY[:20, :20], metadata=None)

    for name in ("flag.tif", "small.tif"):
        assert np.array_equal(read(tmp_path / name).pixels, GREY)
    assert "page0 (10 x 6) is left out" in read(tmp_path / "flag.tif").info.warnings[0]
    assert read(tmp_path / "flag.tif", key="page0").pixels.shape == (6, 10)
    assert [info.key for info in images(tmp_path / "two.tif")] == ["page0", "page1"]
    with pytest.raises(UnreadableError, match="it holds 2 images; name one of them with --key: page0, page1"):
        read(tmp_path / "two.tif")


def test_several_datasets_need_a_key(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"], file["deep/two"], file["spectrum"] = GREY, GREY[::-1], GREY[0]

    assert np.array_equal(read(tmp_path / "a.h5", key="deep/two").pixels, GREY[::-1])
    with pytest.raises(UnreadableError, match="name one of them with --key: deep/two, one"):
        images(tmp_path / "a.h5")


def test_an_axis_that_is_no_length_makes_a_signal_no_image(tmp_path):
    from rsciio.emd import file_writer

    metadata = {"General": {"title": "t"}, "Signal": {"signal_type": ""}}
    signal = {"data": GREY, "metadata": metadata, "original_metadata": {}, "learning_results": {}}
    for unit in ("eV", "1/nm", "rad", "mrad"):
        axis = {"units": unit, "scale": 0.5, "offset": 0.0, "navigate": False}
        axes = [{"name": "y", "size": 24, **axis}, {"name": "x", "size": 40, **axis}]
        file_writer(str(tmp_path / "a.emd"), {**signal, "axes": axes})

        with pytest.raises(UnreadableError, match=r"an axis is in .*, so that it is not an image"):
            images(tmp_path / "a.emd")
        (tmp_path / "a.emd").unlink()


@pytest.mark.parametrize("write", [write_dm3, write_ser, write_ncem])
def test_what_is_not_calibrated_has_no_size(tmp_path, write):
    path = tmp_path / {"write_dm3": "a.dm3", "write_ser": "a.ser", "write_ncem": "a.emd"}[write.__name__]
    write(path, GREY, 0.0)

    assert isinstance(size_of(path), str)


def test_a_file_with_the_suffix_of_another_format_is_read_as_what_it_is(tmp_path):
    Image.fromarray(EIGHT).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", GREY)
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    (tmp_path / "b.tif").rename(tmp_path / "b.jpg")

    assert np.array_equal(read(tmp_path / "a.tif").pixels, EIGHT)
    assert np.array_equal(read(tmp_path / "b.jpg").pixels, GREY)


# Reports in public trackers


def test_zeiss_images_of_2048_columns_use_the_size_of_the_image_not_of_the_screen(tmp_path):
    """hyperspy pull request 2056: AP_PIXEL_SIZE belongs to the display of 1,024 columns."""
    text = "AP_PIXEL_SIZE\r\nPixel Size = 10.00 nm\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 5.001 nm\r\n"
    value = (("0\r\n" * 3) + "1.25e-10\r\n" + ("0\r\n" * 60) + text).encode()
    tifffile.imwrite(tmp_path / "a.tif", EIGHT, extratags=[(34118, 2, 0, value, True)], metadata=None)

    assert size_of(tmp_path / "a.tif") == pytest.approx((5.001, 5.001), rel=1e-3)


def test_an_imagej_stack_without_a_unit_has_no_size(tmp_path):
    """hyperspy issue 1167: such a stack could not be read at all."""
    stack = np.stack([EIGHT] * 3)
    text = "ImageJ=1.50i\nimages=3\nslices=3\nloop=false\n"
    tifffile.imwrite(tmp_path / "a.tif", stack, description=text, metadata=None, photometric="minisblack")

    (info,) = images(tmp_path / "a.tif")

    assert (info.frames, info.pixel_size, info.no_pixel_size) == (3, None, "the file states no pixel size")


@pytest.mark.parametrize("shape", [(32, 64), (64, 32)])
def test_velox_images_that_are_not_square_have_one_pixel_size(tmp_path, shape):
    """rosettasciio issue 243: the reader gives one axis in nm and the other in micrometres."""
    write_velox(tmp_path / "a.emd", np.arange(shape[0] * shape[1]).reshape(shape), 5.1e-9)

    assert size_of(tmp_path / "a.emd") == pytest.approx((5.1, 5.1))


@pytest.mark.parametrize("extended", [80, 1024, 3 * 768])
def test_an_mrc_with_an_extended_header_of_any_program_is_read(tmp_path, extended):
    """hyperspy issue 2551: MRC files of Velox failed because of their extended header."""
    write_mrc(tmp_path / "a.mrc", GREY, 5.0)
    whole = bytearray((tmp_path / "a.mrc").read_bytes())
    struct.pack_into("<i", whole, 92, extended)
    (tmp_path / "a.mrc").write_bytes(whole[:1024] + b"\xff" * extended + whole[1024:])

    assert np.array_equal(read(tmp_path / "a.mrc").pixels, GREY)
    assert size_of(tmp_path / "a.mrc") == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("size", ["-1.61736E9", "0", "NaN", "1e400"])
def test_an_ome_size_that_is_not_positive_is_none(tmp_path, size):
    """LumaViewPro issue 461: OME-XML with a PhysicalSizeX of -1.6e9."""
    about = {"axes": "YX", "PhysicalSizeX": 12345.0, "PhysicalSizeY": 12345.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, metadata=about)
    content = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "a.ome.tif").write_bytes(content.replace(b'"12345.0"', f'"{size:<7.7}"'.encode()))

    assert "not a length" in size_of(tmp_path / "a.ome.tif")


def test_a_float_image_with_an_inverting_table_is_inverted_as_viewers_show_it(tmp_path):
    """bioformats issue 3901: float TIFFs of ImageJ with an inverted look-up table."""
    values = np.sort(GREY.astype(np.float32) * 1.6, axis=1)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite", description="ImageJ=1.53t\n", metadata=None)

    shown = to_rgb8(read(tmp_path / "a.tif").pixels)[..., 0]

    assert (shown[:, 0] > shown[:, -1]).all()
    assert np.array_equal(read(tmp_path / "a.tif", labels=True).pixels, values)


def test_an_axis_of_digitalmicrograph_that_is_no_length_is_refused(tmp_path):
    """bioformats issue 4156: the unit of a dm4 that is not a length became micrometres."""
    write_dm4(tmp_path / "a.dm4", GREY, 0.5)
    content = (tmp_path / "a.dm4").read_bytes()
    (tmp_path / "a.dm4").write_bytes(content.replace("nm".encode("utf-16-le"), "eV".encode("utf-16-le")))

    with pytest.raises(UnreadableError, match="an axis is in eV, so that it is not an image"):
        images(tmp_path / "a.dm4")
