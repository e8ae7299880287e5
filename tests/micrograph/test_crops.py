import numpy as np
import pytest
from micrograph_world import box, disc

from quatrain.micrograph.config import MergingConfig
from quatrain.micrograph.crops import cut, fitting_corners, narrow_crop, owners
from quatrain.micrograph.masks import read_masks

HW = (120, 160)
GREY = np.random.default_rng(0).integers(0, 255, HW).astype(np.uint8)


def crops_of(*masks, side=20, **settings):
    return cut(GREY, read_masks(masks, HW), MergingConfig(crop_px=side, **settings), 0, side)


def test_crops_lie_inside_their_mask_and_outside_of_smaller_ones():
    large, small = box(HW, 0, 0, 120, 120), box(HW, 40, 40, 80, 80)

    crops = crops_of(large, small, crop_inside=1.0)

    for corner, place in zip(crops.corner_C2, crops.mask_C, strict=True):
        window = tuple(slice(at, at + 20) for at in corner)
        assert (small[window].all()) if place else (large & ~small)[window].all()
    assert not crops.low_support_C.any()


def test_the_pixels_are_those_of_the_image():
    crops = crops_of(box(HW, 0, 0, 100, 100))

    for corner, pixels in zip(crops.corner_C2, crops.pixels_CSS, strict=True):
        assert np.array_equal(pixels, GREY[corner[0] : corner[0] + 20, corner[1] : corner[1] + 20])


@pytest.mark.parametrize(("side", "wanted"), [(22, 4), (70, 12), (120, 32)])
def test_the_number_of_crops_follows_the_area_within_its_bounds(side, wanted):
    assert len(crops_of(box(HW, 0, 0, side, side)).mask_C) == wanted


def test_a_part_of_a_crop_may_lie_outside():
    mask = box(HW, 0, 0, 60, 19)

    assert crops_of(mask, crop_inside=0.9).low_support_C.sum() == 0
    assert crops_of(mask, crop_inside=1.0).low_support_C.tolist() == [True]


def test_a_narrow_mask_gives_one_crop_of_its_own_grey():
    grey = np.full(HW, 200, np.uint8)
    mask = box(HW, 50, 10, 56, 150)
    grey[mask] = 17

    corner, pixels = narrow_crop(grey, mask[50:56, 10:150], (50, 10), 20)

    assert (pixels == 17).all()
    assert corner.shape == (1, 2)


def test_a_mask_that_smaller_ones_hide_still_gives_crops():
    whole, parts = box(HW, 0, 0, 60, 60), [box(HW, 0, 0, 30, 60), box(HW, 30, 0, 60, 60)]

    assert set(crops_of(whole, *parts).mask_C) == {0, 1, 2}


def test_every_pixel_belongs_to_its_smallest_mask():
    large, small = disc(HW, (60, 60), 50), disc(HW, (60, 60), 20)

    owner = owners(read_masks([small, large], HW), HW)

    assert (owner[small] == 0).all()
    assert (owner[large & ~small] == 1).all()
    assert (owner[~large] == -1).all()


def test_room_is_where_enough_of_a_square_lies_inside():
    own = np.random.default_rng(1).random((15, 19)) < 0.7

    found = {tuple(place) for place in fitting_corners(own, 4, 0.75)}

    assert found == {(r, c) for r in range(12) for c in range(16) if own[r : r + 4, c : c + 4].sum() >= 12}


def test_a_mask_keeps_its_crops_when_others_come():
    mask, other = box(HW, 0, 0, 60, 60), box(HW, 60, 60, 120, 160)

    alone, together = crops_of(mask), crops_of(mask, other)

    assert np.array_equal(alone.corner_C2, together.corner_C2[together.mask_C == 0])


def test_no_masks_give_no_crops():
    assert crops_of().pixels_CSS.shape == (0, 20, 20)


def test_an_image_smaller_than_a_crop_is_one_crop():
    assert crops_of(np.ones(HW, bool), side=500).pixels_CSS.shape[1:] == (120, 120)
