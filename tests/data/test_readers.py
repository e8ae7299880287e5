"""The table of readers: other packages add formats, and docs/data.md shows the table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from quatrain.data import decode
from quatrain.data.decode import BUILT_IN, UnreadableError, inspect, read, readers, suffixes
from quatrain.data.folder import folder_images
from quatrain.data.format_table import format_table
from quatrain.micrograph.config import DataConfig
from quatrain.micrograph.inputs import find, load

MODULE = """
import numpy as np
from quatrain.data.image_file import ImageInfo, PixelSize, Reader

def inspect(path):
    shape = np.load(path, mmap_mode="r").shape
    return [ImageInfo(shape=shape, dtype="uint16", pixel_size=PixelSize(y_nm=2.0, x_nm=2.0, source="test"))]

READER = Reader(
    name="numpy", suffixes=(".npy",), inspect=inspect, read=lambda path, info, frame, labels: np.load(path)
)
"""
GREY = np.random.default_rng(0).integers(0, 4000, (24, 40)).astype(np.uint16)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package whose entry point adds a reader."""

    def installed(target="numpy_images:READER"):
        site = tmp_path / "site"
        info = site / "numpy_images-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy-images\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[quatrain.image_readers]\nnumpy = {target}\n")
        (site / "numpy_images.py").write_text(MODULE)
        monkeypatch.syspath_prepend(str(site))
        readers.cache_clear()

    yield installed
    readers.cache_clear()
    sys.modules.pop("numpy_images", None)


def test_an_installed_package_adds_a_format_to_nas_and_boost(install, tmp_path):
    install()
    folder = tmp_path / "images"
    folder.mkdir()
    np.save(folder / "a.npy", GREY)
    np.save(folder / "a_truth.npy", (GREY > 2000).astype(np.uint8))
    data = DataConfig(data=str(folder))

    (item,) = find(data)

    assert ".npy" in suffixes()
    assert np.array_equal(read(folder / "a.npy").pixels, GREY)
    assert load(item, data).pixel_size.nm == 2.0
    assert folder_images(folder).names == ("a",)


@pytest.mark.parametrize("target", ["numpy_images:NOTHING", "numpy_images:inspect", "no_such_module:READER"])
def test_an_entry_point_that_is_no_reader_is_logged_and_passed_over(install, target, caplog):
    install(target)

    assert readers() == BUILT_IN
    assert "the image reader numpy" in caplog.text


def test_two_readers_never_claim_one_suffix():
    claimed = [suffix for reader in BUILT_IN for suffix in reader.suffixes]

    assert len(set(claimed)) == len(claimed)


def test_a_suffix_of_no_reader_is_refused_with_those_there_are(tmp_path):
    (tmp_path / "a.txt").write_text("x")

    with pytest.raises(UnreadableError, match=r"'\.txt' is not one of \.tif"):
        inspect(tmp_path / "a.txt")


def test_the_page_on_data_shows_the_table_of_readers():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf8")

    assert format_table() in page


def test_reading_a_frame_that_is_not_there_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY)

    with pytest.raises(UnreadableError, match="it has 1 frames, none of the number 1"):
        decode.read_pixels(tmp_path / "a.tif", 1)
