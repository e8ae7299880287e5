import numpy as np
import pytest
from micrograph_world import box, record, two_materials

from quatrain.micrograph.baselines import BASELINES, mean_ious, multi_otsu, oracle, pixel_kmeans
from quatrain.micrograph.config import MergingConfig
from quatrain.micrograph.masks import read_masks


def halves(side=160):
    truth = np.where(box((side, side), 0, 0, side, side // 2), 1, 2)
    noise = 5 * np.random.default_rng(0).standard_normal((side, side))
    return np.clip(60 * truth + noise, 0, 255).astype(np.uint8), truth


def test_pixels_and_masks_separate_two_distinct_halves():
    image, truth = halves()
    masks = read_masks([record(truth == label) for label in (1, 2)], truth.shape)

    found = mean_ious(image, masks, truth, MergingConfig(), seed=0)

    assert set(found) == set(BASELINES)
    assert min(found["multi-otsu"], found["pixel-kmeans"]) > 0.9
    assert found["oracle"] == 1


def test_windows_separate_textures_of_equal_grey():
    image, truth, _ = two_materials()

    found = mean_ious(image, [], truth, MergingConfig(), seed=0)

    assert found["window-kmeans"] > 0.6
    assert found["oracle"] == 0


def test_the_oracle_gives_each_mask_the_material_of_most_of_its_pixels():
    truth = np.where(box((40, 40), 0, 0, 40, 20), 1, 2)
    masks = read_masks([record(box((40, 40), 0, 0, 40, 30))], truth.shape)

    assert np.array_equal(oracle(masks, truth), np.where(box((40, 40), 0, 0, 40, 30), 1, 0))


@pytest.mark.parametrize("k", [1, 3])
def test_an_image_of_one_grey_is_one_material(k):
    image = np.full((64, 64), 7, np.uint8)

    assert (multi_otsu(image, k) == 1).all()
    assert (pixel_kmeans(image, k, MergingConfig(), 0) == 1).all()
