import csv
import json

import h5py
import numpy as np
import pytest
import tifffile
from micrograph_world import two_materials
from PIL import Image
from pycocotools import mask as coco_mask

from quatrain.data.decode import PixelSize, read
from quatrain.micrograph import boost
from quatrain.micrograph.config import BatchConfig
from quatrain.micrograph.inputs import LoadedImage
from quatrain.micrograph.measure import mask_rows, region_diameters
from quatrain.micrograph.outputs import write_image, write_labels


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files of one image of 0.25 nm pixels."""
    image, truth, masks = two_materials()
    picture = LoadedImage(
        image_HWC=np.repeat(image[..., None], 3, axis=2),
        pixel_size=PixelSize(y_nm=0.25, x_nm=0.25, source="test"),
        truth_HW=truth,
    )
    result = boost(image, masks, k=2)
    folder = tmp_path_factory.mktemp("images") / "a"
    write_image(folder, "a", picture, result, BatchConfig())
    return folder, result, masks


def test_the_label_map_is_a_tiff_that_keeps_the_pixel_size(written):
    folder, result, _ = written

    found = read(folder / "labels.tif")

    assert found.pixels.dtype == np.uint16
    assert np.array_equal(found.pixels, result.labels)
    assert found.pixel_size.x_nm == pytest.approx(0.25)


def test_the_coco_file_holds_the_kept_masks_by_material(written):
    folder, result, _ = written
    content = json.loads((folder / "masks.json").read_text())

    pixels = [coco_mask.area(one["segmentation"]) for one in content["annotations"]]

    assert pixels == [mask.area for mask in result.kept]
    assert [one["category_id"] for one in content["annotations"]] == result.merging.material_N.tolist()
    assert [one["name"] for one in content["categories"]] == ["material 1", "material 2"]
    assert content["info"]["settings"]["removal"]["parent_covered"] == 0.7


def test_its_masks_can_be_boosted_again(written):
    folder, result, _ = written
    image, _, _ = two_materials()
    content = json.loads((folder / "masks.json").read_text())

    again = boost(image, content["annotations"], k=2)

    assert np.array_equal(again.labels, result.labels)


def test_the_table_has_every_kept_mask_in_px_and_nm(written):
    folder, result, _ = written
    rows = list(csv.DictReader((folder / "regions.csv").read_text().splitlines()))

    assert [int(row["mask"]) for row in rows] == [mask.index for mask in result.kept]
    for row, mask in zip(rows, result.kept, strict=True):
        assert float(row["area_nm2"]) == pytest.approx(mask.area / 16)
        assert float(row["equivalent_diameter_nm"]) == pytest.approx(float(row["equivalent_diameter_px"]) / 4)
        assert int(row["material"]) in (1, 2)
        assert 0 < float(row["vote_share"]) <= 1
        assert 0 < float(row["solidity"]) <= 1


def test_the_removal_log_has_rule_number_and_partner(written):
    folder, _, _ = written
    rows = {row["index"]: row for row in csv.DictReader((folder / "removed.csv").read_text().splitlines())}

    assert rows["3"]["rule"] == "whole-image"
    assert rows["3"]["partner"] == ""
    assert rows["4"]["rule"] == "duplicates"
    assert rows["4"]["partner"] == "0"
    assert float(rows["4"]["value"]) >= float(rows["4"]["threshold"]) == 0.8


def test_the_hdf5_file_holds_raw_masks_embeddings_and_labels(written):
    folder, result, masks = written

    with h5py.File(folder / "boost.h5") as file:
        assert file.attrs["schema"] == "quatrain-boost-1"
        assert file.attrs["pixel_size_nm"].tolist() == [0.25, 0.25]
        assert np.array_equal(file["labels"][()], result.labels)
        raw = file["raw"]
        assert len(raw["counts"]) == len(masks)
        assert raw["area"][0] == masks[0]["segmentation"].sum()
        first = {"size": list(result.labels.shape), "counts": raw["counts"][0].decode()}
        assert file["crops/embedding"].shape == result.merging.embedding_CF.shape
        assert file["kept/material"][()].tolist() == result.merging.material_N.tolist()
    image, _, _ = two_materials()
    assert boost(image, [{"segmentation": first}], k=1).raw[0].area == masks[0]["segmentation"].sum()


@pytest.mark.parametrize("name", ["overlay", "image", "raw", "kept", "truth"])
def test_pictures_have_the_size_of_the_image(written, name):
    with Image.open(written[0] / f"{name}.png") as picture:
        assert picture.size == (256, 256)


def test_nothing_temporary_is_left(written):
    assert not [path for path in written[0].iterdir() if path.name.startswith(".")]


def test_without_a_pixel_size_there_are_no_nm(tmp_path):
    image, _, masks = two_materials()
    result = boost(image, masks, k=2)

    rows = mask_rows(result, image, None)

    assert {row["area_nm2"] for row in rows} == {None}
    picture = LoadedImage(image_HWC=np.repeat(image[..., None], 3, axis=2), pixel_size=None, truth_HW=None)
    write_image(tmp_path / "b", "b", picture, boost(image, [], k=2), BatchConfig())
    assert tifffile.imread(tmp_path / "b" / "labels.tif").max() == 0
    assert not (tmp_path / "b" / "truth.png").exists()


def test_regions_are_measured_by_material():
    labels = np.zeros((60, 60), np.uint16)
    labels[:20, :20], labels[40:60, 40:60], labels[30:33, 0:3] = 1, 1, 2

    found = region_diameters(labels, 64)

    assert found == {1: [pytest.approx((4 * 400 / np.pi) ** 0.5)] * 2, 2: []}


@pytest.mark.parametrize("y_nm", [1e-3, 0.135, 0.25, 5.0, 108.333, 2e4, 3e6])
@pytest.mark.parametrize("aspect", [1.0, 0.6])
def test_the_pixel_size_of_a_label_map_is_read_back_however_fine_it_is(tmp_path, y_nm, aspect):
    size = PixelSize(y_nm=y_nm, x_nm=y_nm * aspect, source="test")
    write_labels(tmp_path / "labels.tif", np.ones((20, 30), np.uint16), size)

    found = read(tmp_path / "labels.tif").pixel_size

    assert (found.y_nm, found.x_nm) == pytest.approx((size.y_nm, size.x_nm), rel=1e-5)
    with tifffile.TiffFile(tmp_path / "labels.tif") as tiff:
        assert max(max(tiff.pages[0].tags[f"{axis}Resolution"].value) for axis in "XY") < 1 << 32
        assert tiff.imagej_metadata["unit"] in ("pm", "nm", "um", "mm")


def test_areas_and_lengths_use_height_and_width_of_pixels_that_are_not_square():
    image = np.random.default_rng(0).integers(0, 255, (128, 128)).astype(np.uint8)
    mask = np.zeros((128, 128), bool)
    mask[20:60, 20:100] = True  # 40 rows of 2 nm, 80 columns of 1 nm: a square of 80 nm
    result = boost(image, [{"segmentation": mask}], k=1)

    (row,) = mask_rows(result, image, PixelSize(y_nm=2.0, x_nm=1.0, source="test"))
    (plain,) = mask_rows(result, image, None)

    assert row["area_nm2"] == 80 * 80
    assert row["equivalent_diameter_nm"] == pytest.approx((4 * 6400 / np.pi) ** 0.5)
    assert row["perimeter_nm"] == pytest.approx(4 * 80, rel=0.02)
    assert row["eccentricity"] == pytest.approx(0, abs=0.05)
    assert plain["eccentricity"] > 0.8
    assert plain["perimeter_px"] == row["perimeter_px"]
