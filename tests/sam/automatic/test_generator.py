from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import ndimage

import quatrain
from quatrain.data.synthetic import SyntheticImages
from quatrain.sam.automatic.generator import MaskGenerator, MaskSettings
from quatrain.sam.build import load_mini
from quatrain.sam.official import SamAutomaticMaskGenerator
from quatrain.sam.registry import SHAPES
from quatrain.supernet import extract
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.space import Subnet

LOOSE = {"points_per_side": 7, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.5}
"""Thresholds that leave some tens of masks of the miniature."""
SCORES = ("predicted_iou", "stability_score")


@pytest.fixture(scope="module")
def model():
    return load_mini()


def _image(index, rows=256, columns=256):
    image = SyntheticImages(count=6, seed=5).read(index).image_HWC
    return np.ascontiguousarray(np.tile(image, (2, 2, 1))[:rows, :columns])


def _iou(one, other):
    return (one & other).sum() / max(1, (one | other).sum())


def _assert_equal(ours, stock, tolerance=1e-3):
    assert len(ours) == len(stock)
    for mine, theirs in zip(ours, stock, strict=True):
        assert mine.keys() == theirs.keys()
        assert mine["segmentation"].dtype == theirs["segmentation"].dtype
        assert _iou(mine["segmentation"], theirs["segmentation"]) >= 1 - tolerance
        assert mine["area"] == mine["segmentation"].sum()
        for key in ("bbox", "crop_box"):
            assert mine[key] == pytest.approx(theirs[key], abs=1)
            assert all(isinstance(value, int) for value in mine[key])
        assert np.allclose(mine["point_coords"], theirs["point_coords"])
        assert [mine[key] for key in SCORES] == pytest.approx([theirs[key] for key in SCORES], abs=1e-3)


CASES = {
    "grains": (0, {}, {}),
    "another": (2, {}, {}),
    "wide": (2, {"rows": 130}, {}),
    "tall and larger than the input": (1, {"rows": 400, "columns": 300}, {}),
    "tiny": (4, {"rows": 3, "columns": 5}, {}),
    "crops": (0, {"rows": 200}, {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}),
    "no thresholds": (3, {}, {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "points_per_side": 3}),
    "wider offset, few points at once": (0, {}, {"stability_score_offset": 2.0, "points_per_batch": 5}),
}


@pytest.mark.parametrize(("index", "size", "changes"), CASES.values(), ids=CASES)
def test_the_records_are_those_of_the_stock_generator(model, index, size, changes):
    image, settings = _image(index, **size), LOOSE | changes

    ours = MaskGenerator(model, **settings).generate(image)

    _assert_equal(ours, SamAutomaticMaskGenerator(model, **settings).generate(image))
    assert ours or size


@pytest.mark.parametrize("mode", ["uncompressed_rle", "coco_rle"])
def test_encoded_masks_are_those_of_the_stock_generator(model, mode):
    settings, image = LOOSE | {"output_mode": mode, "points_per_side": 5}, _image(1)

    ours = MaskGenerator(model, **settings).generate(image)

    stock = SamAutomaticMaskGenerator(model, **settings).generate(image)
    assert len(ours) == len(stock) > 0
    assert [one["segmentation"]["size"] for one in ours] == [one["segmentation"]["size"] for one in stock]
    same = [a["segmentation"] == b["segmentation"] for a, b in zip(ours, stock, strict=True)]
    assert sum(same) >= len(same) - 1  # a pixel whose logit is zero but for rounding may fall either way


def _cv2():
    """What segment_anything needs of OpenCV."""

    def connected(mask, _connectivity):
        parts, count = ndimage.label(mask, np.ones((3, 3), int))
        return count + 1, parts, np.bincount(parts.ravel(), minlength=count + 1)[:, None], None

    module = ModuleType("cv2")
    module.connectedComponentsWithStats = connected
    return module


def test_small_regions_are_removed_as_by_the_stock_generator(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", _cv2())
    settings, image = LOOSE | {"min_mask_region_area": 60}, _image(2)

    ours = MaskGenerator(model, **settings).generate(image)

    _assert_equal(ours, SamAutomaticMaskGenerator(model, **settings).generate(image))


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (77, 1)])
def test_images_of_one_pixel_or_line_give_a_list(model, size):
    image = np.full((*size, 3), 90, np.uint8)

    for changes in ({}, {"crop_n_layers": 1}, {"tile_px": 40, "overlap_px": 8}):
        records = MaskGenerator(model, **(LOOSE | changes)).generate(image)

        assert all(record["segmentation"].shape == size for record in records)


@pytest.mark.parametrize("changes", [{}, {"crop_n_layers": 1}, {"tile_px": 150}, {"mask_nms_thresh": 0.8}])
def test_no_mask_that_passes_gives_an_empty_list(model, changes):
    settings = LOOSE | {"pred_iou_thresh": 2.0, "points_per_side": 2, "min_mask_region_area": 9} | changes

    assert MaskGenerator(model, **settings).generate(_image(0)) == []


def test_half_precision_gives_nearly_the_same_masks(model):
    full, half = (MaskGenerator(model, precision=p, **LOOSE).generate(_image(0)) for p in ("fp32", "bf16"))

    best = [max(_iou(a["segmentation"], b["segmentation"]) for b in half) for a in full]
    assert len(half) == pytest.approx(len(full), abs=3)
    assert np.median(best) > 0.97


def test_masks_may_be_distinguished_by_themselves_and_not_by_their_boxes(model):
    settings = LOOSE | {"mask_nms_thresh": 0.8}

    records = MaskGenerator(model, **settings).generate(_image(0))

    masks = [record["segmentation"] for record in records]
    assert len(records) > len(MaskGenerator(model, **LOOSE).generate(_image(0)))
    assert all(_iou(a, b) <= 0.8 for i, a in enumerate(masks) for b in masks[:i])
    assert [r["predicted_iou"] for r in records] == sorted((r["predicted_iou"] for r in records), reverse=True)


def test_tiles_give_records_in_the_pixels_of_the_whole_image(model):
    image = _image(1, 256, 400)

    records = MaskGenerator(model, tile_px=256, overlap_px=64, **LOOSE).generate(image)

    assert records
    assert {record["crop_box"][0] for record in records} == {0, 144}
    for record in records:
        x, y, width, height = record["bbox"]
        mask = record["segmentation"]
        assert mask.shape == (256, 400)
        assert mask[y : y + height + 1, x : x + width + 1].sum() == mask.sum() == record["area"]
        (px, py), (left, top, wide, high) = record["point_coords"][0], record["crop_box"]
        assert left <= px < left + wide
        assert top <= py < top + high


def test_an_image_no_larger_than_a_tile_is_generated_as_without_tiles(model):
    image = _image(2)

    tiled, plain = (MaskGenerator(model, tile_px=px, **LOOSE).generate(image) for px in (256, None))

    _assert_equal(tiled, plain)


def test_an_extracted_sub_network_generates_as_by_the_stock_generator(model, tmp_path):
    shape = SHAPES["vit_mini"]
    subnet = Subnet(widths=(384,) * 5 + (0, 192) + (384,) * 5)
    path = tmp_path / "best.pth"
    extract.save(path, extract.extract(model, ElasticEncoder(load_mini().image_encoder, shape), subnet), shape, subnet)
    alone, settings = quatrain.load_sam(path), LOOSE | {"pred_iou_thresh": 0.1, "points_per_side": 4}

    ours = MaskGenerator(alone, **settings).generate(_image(0))

    _assert_equal(ours, SamAutomaticMaskGenerator(alone, **settings).generate(_image(0)))


def test_the_model_and_the_mode_of_gradients_stay_as_they_were(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.set_grad_enabled(True)

    MaskGenerator(model, points_per_side=2, precision="bf16").generate(_image(0))

    assert torch.is_grad_enabled()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_progress_is_reported_to_the_last_point(model):
    reported = []

    MaskGenerator(model, points_per_side=4, points_per_batch=6).generate(_image(0), lambda *now: reported.append(now))

    assert reported == [(6, 16), (12, 16), (16, 16)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points_per_side": 0}, "points_per_side is 0; it must be at least 1"),
        ({"box_nms_thresh": 1.5}, "box_nms_thresh is 1.5; it must lie between 0 and 1"),
        ({"mask_nms_thresh": -1}, "mask_nms_thresh is -1; it must lie between 0 and 1"),
        ({"output_mode": "png"}, "output_mode is 'png'; it must be one of binary_mask"),
        ({"precision": "fp8"}, "precision is 'fp8'; it must be one of fp32, bf16"),
        ({"tile_px": 64, "overlap_px": 64}, "overlap_px is 64; it must lie between 0 and tile_px, 64"),
        ({"tile_px": 640, "crop_n_layers": 1}, "crop_n_layers is 1; it must be 0 with tile_px 640"),
        ({"points_per_side": 2, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2}, "crop layer 2 has no point"),
    ],
)
def test_settings_refuse_values_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        MaskSettings(**changes)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 4), np.uint8)],
)
def test_what_is_no_image_is_refused(model, image):
    with pytest.raises(ValueError, match="give uint8"):
        MaskGenerator(model).generate(image)
