import json
from dataclasses import replace

import numpy as np
import pytest
from micrograph_world import two_materials
from pycocotools import mask as coco_mask

from quatrain.data.synthetic import SyntheticImages
from quatrain.errors import UsageError
from quatrain.micrograph import boost
from quatrain.micrograph.config import PRESETS, RULES, MasksConfig
from quatrain.micrograph.masks import read_masks
from quatrain.micrograph.outputs import coco
from quatrain.micrograph.proposals import load_model, propose

SAM = MasksConfig(points_per_side=4, pred_iou_thresh=0.5, stability_score_thresh=0.7)


def image_of(side=256):
    grey, _ = SyntheticImages(count=1, seed=0, size_px=side).micrograph(0)
    return np.repeat(grey[..., None], 3, axis=2)


def test_the_shipped_sam_proposes_masks_of_the_image():
    image = image_of()

    found = propose(image, SAM, name="a", path="")

    masks = read_masks(found.records, image.shape[:2])
    assert masks
    assert all(mask.predicted_iou >= 0.5 and mask.stability >= 0.7 for mask in masks)
    assert found.features.grid[0].shape[0] > 1


def test_a_faint_image_shows_more_masks_when_its_contrast_is_equalised_too():
    faint = (100 + image_of() // 12).astype(np.uint8)
    found = {
        contrast: propose(faint, replace(SAM, contrast=contrast), name="a", path="").records
        for contrast in ("plain", "equalised", "both")
    }

    several = [record["segmentation"] for record in found["both"]]
    shared = coco_mask.iou(several, several, [0] * len(several)) - np.eye(len(several))
    assert len(found["equalised"]) > len(found["plain"])
    assert len(found["both"]) >= len(found["equalised"]) - len(found["plain"])
    assert shared.max() < 0.8
    assert all(one in [*found["plain"], *found["equalised"]] for one in found["both"])


def test_the_model_stays_loaded_between_images():
    assert load_model(SAM) is load_model(SAM)


def test_regions_need_no_torch_weights_and_cover_the_image():
    image = image_of(600)

    masks = read_masks(propose(image, MasksConfig(source="regions"), name="a", path="").records, image.shape[:2])

    assert len(masks) > 5
    assert sum(mask.area for mask in masks) > 1.5 * 600 * 600


def test_masks_come_from_a_coco_file_beside_the_image_or_in_a_folder(tmp_path):
    image, _, records = two_materials()
    result = boost(image, records, k=2)
    content = coco("a.png", result, {})
    (tmp_path / "a.json").write_text(json.dumps(content))

    beside = propose(image, MasksConfig(source="json"), name="a", path=str(tmp_path / "a.png"))
    apart = propose(image, MasksConfig(source="json", folder=str(tmp_path)), name="a", path="/elsewhere/a.png")

    assert len(beside.records) == len(result.kept)
    assert apart.records == beside.records


SQUARES = [[[0, 0, 4, 0, 4, 4, 0, 4]], [[0, 0, 9, 0, 9, 9, 0, 9]]]


def areas(tmp_path, content, file, name, image):
    """The areas of the masks that a JSON file gives for an image of 9 x 9 pixels."""
    (tmp_path / file).write_text(json.dumps(content))
    config = MasksConfig(source="json")
    found = propose(np.zeros((9, 9, 3), np.uint8), config, name=name, path=str(tmp_path / image))
    return [mask.area for mask in read_masks(found.records, (9, 9))]


def listing(*names, **more):
    images = [{"id": n, "file_name": name, **more} for n, name in enumerate(names)]
    annotations = [{"id": n, "image_id": str(n), "segmentation": SQUARES[n]} for n in range(2)]
    return {"images": images, "annotations": annotations}


@pytest.mark.parametrize(
    "names", [("a.png", "b.png"), ("x\\a.png", "x\\B.PNG"), ("a.tif", "b.tif"), ("b.c.png", "b.png")]
)
def test_a_coco_file_of_several_images_gives_the_masks_of_the_image(tmp_path, names):
    assert areas(tmp_path, listing(*names), "b.json", "b", "b.png") == [81]


def test_names_of_images_are_not_cut_at_dots(tmp_path):
    content = listing("a.tif", "a.b.tif")

    assert areas(tmp_path, content, "a.json", "a", "a.tif") == [16]
    assert areas(tmp_path, content, "a.b.json", "a.b", "a.b.tif") == [81]


def test_a_bare_list_of_run_lengths_and_polygons_is_read(tmp_path):
    records = [{"segmentation": {"size": [9, 9], "counts": [0, 20, 61]}}, {"segmentation": SQUARES[0]}]

    assert areas(tmp_path, records, "a.json", "a", "a.png") == [20, 16]


def test_a_damaged_mask_costs_that_mask_alone(tmp_path, caplog):
    assert areas(tmp_path, [{"id": 5, "segmentation": []}, {"segmentation": SQUARES[0]}], "a.json", "a", "a.png") == [
        16
    ]
    assert "1 of 2 masks are left out: annotation 5: it has no outline" in caplog.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (listing("x.png", "y.png"), r"it holds masks of other images: 'x\.png', 'y\.png'"),
        (listing("a.b.png"), r"masks of other images: 'a\.b\.png'"),
        (listing("s/a.png", "t/a.png"), "several such images: 's/a.png', 't/a.png'"),
        (listing("a.png", "b.png", height=18, width=18), "the JSON says 18 x 18 pixels, the image has 9 x 9"),
        ([{"id": 3, "segmentation": None}], "none of its 1 masks can be used: annotation 3"),
    ],
)
def test_masks_of_other_images_are_refused_in_one_line(tmp_path, content, words):
    with pytest.raises(UsageError, match=words):
        areas(tmp_path, content, "a.json", "a", "a.png")


def test_frames_of_a_stack_never_share_the_masks_of_the_stack(tmp_path):
    (tmp_path / "a.json").write_text("[]")

    with pytest.raises(UsageError, match=r"a-0\.json' gives no masks of 'a-0'"):
        propose(np.zeros((9, 9, 3), np.uint8), MasksConfig(source="json"), name="a-0", path=str(tmp_path / "a.tif"))


@pytest.mark.parametrize("content", [None, "{", "7", "{}"])
def test_a_coco_file_that_is_missing_or_broken_is_named(content, tmp_path):
    if content is not None:
        (tmp_path / "a.json").write_text(content)

    with pytest.raises(UsageError, match=r"a\.json' gives no masks of 'a'"):
        propose(np.zeros((9, 9, 3), np.uint8), MasksConfig(source="json"), name="a", path=str(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "vit_x"}, "vit_b"),
        ({"model": "vit_b"}, "--checkpoint"),
        ({"model": "vit_b", "checkpoint": "nowhere.pth"}, "nowhere.pth"),
        ({"checkpoint": "nowhere.pth"}, "nowhere.pth"),
    ],
)
def test_weights_that_are_missing_are_reported(settings, words):
    with pytest.raises(UsageError, match=words):
        load_model(MasksConfig(**settings))


def test_the_lowest_scores_of_a_mask_are_those_that_fit_the_size_of_the_model():
    config = MasksConfig()

    assert config.thresholds(256) == (0.6, 0.8)
    assert config.thresholds(1024) == (0.88, 0.95)
    assert MasksConfig(pred_iou_thresh=0).thresholds(1024) == (0, 0.95)
    assert {preset().masks.pred_iou_thresh for preset in PRESETS.values()} == {None}


def test_each_preset_has_the_rules_that_suit_its_model():
    assert PRESETS["paper"]().removal.order == RULES
    assert set(RULES) - set(PRESETS["mini"]().removal.order) == {"compound-parents"}
    assert [PRESETS[name]().masks.model for name in ("mini", "paper")] == ["vit_mini", "vit_l"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": "sems"}, "did you mean 'sam'|known: json, regions, sam"),
        ({"points_per_side": 0}, "points_per_side is 0"),
        ({"contrast": "clahe"}, "equalised"),
        ({"pred_iou_thresh": 2}, "pred_iou_thresh is 2"),
    ],
)
def test_a_bad_setting_is_refused(settings, words):
    with pytest.raises((ValueError, UsageError), match=words):
        MasksConfig(**settings)
