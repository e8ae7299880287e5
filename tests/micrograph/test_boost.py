import subprocess
import sys

import numpy as np
import pytest
from micrograph_world import box, record, two_materials

from quatrain.micrograph import BoostConfig, MergingConfig, RemovalConfig, boost
from quatrain.micrograph.evaluate import label_ious, match


def test_overlapping_masks_become_one_label_map_of_the_materials():
    image, truth, masks = two_materials()

    result = boost(image, masks, k=2)

    iou, wrong = match(label_ious(result.labels, truth, 2))
    assert result.labels.dtype == np.uint16
    assert iou > 0.95
    assert wrong == 0
    assert result.materials == 2
    assert {one.rule for one in result.removed} == {"whole-image", "duplicates"}


def test_the_number_of_materials_can_be_found_out():
    image, _, masks = two_materials()

    assert boost(image, masks, k="auto").materials == 2


def test_the_largest_material_is_number_one():
    image, _, masks = two_materials()
    labels = boost(image, masks, k=2).labels

    assert (labels == 1).sum() >= (labels == 2).sum()


def test_equal_seeds_give_equal_maps_whatever_the_other_masks():
    image, _, masks = two_materials()

    first, second = (boost(image, masks, k=2, seed=4) for _ in range(2))

    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.merging.embedding_CF, second.merging.embedding_CF)


@pytest.mark.parametrize("depth", [np.uint16, np.int32, np.float32])
def test_deep_images_do_not_saturate(depth):
    image, truth, masks = two_materials()
    deep = (image.astype(np.float64) * 200 + 3000).astype(depth)

    assert match(label_ious(boost(deep, masks, k=2).labels, truth, 2))[0] > 0.95


def test_colour_images_are_taken():
    image, _, masks = two_materials()

    colour = boost(np.repeat(image[..., None], 3, axis=2), masks, k=2)

    assert np.array_equal(colour.labels, boost(image, masks, k=2).labels)


def test_pixels_without_mask_stay_zero_unless_they_are_to_be_filled():
    image, truth, masks = two_materials()
    bare = boost(image, masks[:2], k=2)
    config = BoostConfig(merging=MergingConfig(fill="texture"))
    filled = boost(image, [masks[0], record(box(truth.shape, 0, 140, 60, 250))], k=2, config=config)

    assert (bare.labels == 0).mean() > 0.3
    assert (filled.labels > 0).all()
    assert match(label_ious(filled.labels, truth, 2))[0] > 0.6


def test_textures_of_bare_pixels_found_materials_of_their_own_when_asked():
    image, truth, masks = two_materials()
    settings = {fill: BoostConfig(merging=MergingConfig(fill=fill)) for fill in ("texture", "cluster")}

    striped = {fill: boost(image, masks[:1], k=2, config=config) for fill, config in settings.items()}
    nothing = boost(image, [], k=2, config=settings["cluster"])

    quality = {fill: match(label_ious(found.labels, truth, 2))[0] for fill, found in striped.items()}
    assert quality["cluster"] > max(0.6, quality["texture"])
    assert nothing.materials == 2
    assert (nothing.labels > 0).all()


def test_the_map_of_one_mask_of_the_whole_image_is_no_worse_than_the_mask():
    image, truth, masks = two_materials()

    result = boost(image, masks[3:4], k=2)

    assert match(label_ious(result.labels, truth, 2))[0] == pytest.approx((truth == 1).mean() / 2, abs=0.3)
    assert (result.labels == 1).all()


def test_an_empty_map_has_a_reason():
    image, _, masks = two_materials()
    config = BoostConfig(removal=RemovalConfig(order=("island-masks",), island_image_share=0.9))

    nothing, removed = boost(image, [], k=3), boost(image, masks[:1], k=3, config=config)

    assert not nothing.labels.any()
    assert nothing.materials == 0
    assert "there is no raw mask" in nothing.error
    assert "removal left no mask" in removed.error
    assert boost(image, masks, k=2).error is None


def test_texture_fill_finds_materials_without_masks():
    image, truth, _ = two_materials()

    result = boost(image, [], k=2, config=BoostConfig(merging=MergingConfig(fill="texture")))

    assert result.error is None
    assert match(label_ious(result.labels, truth, 2))[0] > 0.6


def test_ward_labels_every_pixel_and_joins_only_neighbours():
    image, truth, masks = two_materials()
    layers = np.where(np.arange(256)[:, None] < 128, image[:, :128].mean(), image).astype(np.uint8)
    config = BoostConfig(merging=MergingConfig(rule="ward", grid_px=16, crop_px=32))

    result = boost(layers, masks, k=2, config=config)

    assert (result.labels > 0).all()
    assert result.materials == 2
    assert len(result.merging.material_N) == len(result.kept)
    assert (
        match(label_ious(result.labels, np.where(np.arange(256)[:, None] < 128, 1, 2) + np.zeros_like(truth), 2))[0]
        > 0.8
    )


def test_ward_regions_are_clustered_into_materials_again():
    image, truth, _ = two_materials()
    config = BoostConfig(merging=MergingConfig(rule="ward", grid_px=16, crop_px=32, regions=12))

    assert match(label_ious(boost(image, [], k=2, config=config).labels, truth, 2))[0] > 0.7
    assert boost(image, [], k="auto", config=config).materials >= 2


def test_auto_takes_the_paper_rule_only_if_the_masks_suffice():
    image, _, masks = two_materials()
    config = BoostConfig(merging=MergingConfig(rule="auto"))
    rows, columns = np.indices((256, 256))
    small = np.where(((rows // 18) + (columns // 18)) % 2, 60, 190).astype(np.uint8)

    assert boost(image, masks, k=2, config=config).merging.rule == "kmeans"
    assert boost(image, masks[:1], k=2, config=config).merging.rule == "ward"
    assert boost(small, [], k=2, config=config).merging.rule == "pixels"


def test_pixels_find_phases_that_are_smaller_than_a_crop():
    rows, columns = np.indices((256, 256))
    truth = 1 + ((rows // 18) + (columns // 18)) % 2
    image = (60 * truth + np.random.default_rng(0).integers(-10, 10, truth.shape)).astype(np.uint8)
    config = BoostConfig(merging=MergingConfig(rule="pixels"))

    result = boost(image, [np.ones(truth.shape, bool)], k=2, config=config)

    assert match(label_ious(result.labels, truth, 2))[0] > 0.8
    assert len(result.merging.material_N) == 1


def test_crops_shrink_on_images_of_small_phases_only():
    rng = np.random.default_rng(0)
    rows, columns = np.indices((256, 256))
    small = np.where(((rows // 18) + (columns // 18)) % 2, 60, 190) + rng.integers(-10, 10, (256, 256))
    large = np.where(columns < 128, 60, 190) + rng.integers(-10, 10, (256, 256))
    noise = rng.integers(0, 255, (256, 256))
    fixed = BoostConfig(merging=MergingConfig(crop_fit=False))

    sides = [boost(image.astype(np.uint8), [np.ones((256, 256), bool)], k=2).crop_px for image in (small, large, noise)]

    assert sides[0] < 40
    assert sides[1:] == [60, 60]
    assert boost(small.astype(np.uint8), [np.ones((256, 256), bool)], k=2, config=fixed).crop_px == 60


def test_a_single_mask_is_one_material():
    image, _, masks = two_materials()

    assert boost(image, masks[:1], k=3).materials <= 3
    assert boost(image, masks[1:2], k="auto").materials >= 1


def test_masks_too_narrow_for_a_crop_are_flagged_and_still_counted():
    image, _, masks = two_materials()
    thin = record(box(image.shape, 100, 140, 110, 250))
    order = ("duplicates", "whole-image")

    result = boost(image, [*masks[:3], thin], k=2, config=BoostConfig(removal=RemovalConfig(order=order)))

    place = [mask.index for mask in result.kept].index(3)
    assert result.merging.low_support_N[place]
    assert result.merging.confidence_N[place] == 1


def test_crops_can_be_given_in_nm():
    image, _, masks = two_materials()
    config = BoostConfig(merging=MergingConfig(crop_nm=15))

    assert boost(image, masks, k=2, config=config, pixel_nm=0.5).merging.crops.pixels_CSS.shape[1:] == (30, 30)
    assert boost(image, masks, k=2, config=config).merging.crops.pixels_CSS.shape[1:] == (60, 60)


@pytest.mark.parametrize("k", [0, -2])
def test_fewer_than_one_material_is_refused(k):
    image, _, masks = two_materials()

    with pytest.raises(ValueError, match=f"k is {k}"):
        boost(image, masks, k=k)


def test_boosting_needs_no_torch():
    code = (
        "import sys, numpy as np; from quatrain.micrograph import boost;"
        "mask = np.zeros((80, 80), bool); mask[:40] = True;"
        "image = np.random.default_rng(0).integers(0, 255, (80, 80)).astype(np.uint8);"
        "assert boost(image, [mask, ~mask], k=2).materials == 2; print('torch' in sys.modules)"
    )

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "False"


def test_as_many_materials_are_found_as_are_asked_for_where_there_are_masks_enough():
    rng = np.random.default_rng(0)
    bands = np.repeat([60, 64, 200], 100)[:, None] + 25 * rng.standard_normal((300, 300))
    image = np.clip(bands, 0, 255).astype(np.uint8)
    masks = [record(box((300, 300), top, 0, top + 100, 300)) for top in (0, 100, 200)]

    result = boost(image, masks, k=3)

    assert result.materials == 3
    assert (result.merging.confidence_N > 0).all()
    assert (result.merging.confidence_N <= 1).all()
