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


def test_a_coco_file_of_several_images_gives_those_of_the_image(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "annotations": [{"image_id": 1, "segmentation": 1}, {"image_id": 2, "segmentation": 2}],
    }
    (tmp_path / "b.json").write_text(json.dumps(content))

    found = propose(np.zeros((9, 9, 3), np.uint8), MasksConfig(source="json"), name="b", path=str(tmp_path / "b.png"))

    assert [one["segmentation"] for one in found.records] == [2]


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_coco_file_that_is_missing_or_broken_is_named(content, tmp_path):
    if content is not None:
        (tmp_path / "a.json").write_text(content)

    with pytest.raises(UsageError, match=r"a\.json' has no masks of 'a'"):
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
def test_weights_that_are_missing_are_told(settings, words):
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
