from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from quatrain.data.sample import Sample, objects, to_rgb8

LABELS = nps.arrays(np.int32, nps.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-1, 3))


def grey(height=4, width=5):
    return np.zeros((height, width, 3), np.uint8)


def test_a_sample_may_have_no_objects():
    assert len(Sample(name="a", image_HWC=grey(), masks_NHW=np.zeros((0, 4, 5), bool)).masks_NHW) == 0


@pytest.mark.parametrize("image", [grey().astype(float), grey()[:, :, 0], grey()[:, :, :2], grey(0)])
def test_a_sample_refuses_what_is_no_rgb_image(image):
    with pytest.raises(ValueError, match=r"image_HWC is .* it must be uint8"):
        Sample(name="a", image_HWC=image, masks_NHW=np.zeros((0, *image.shape[:2]), bool))


@pytest.mark.parametrize("masks", [np.zeros((1, 4, 5), np.uint8), np.zeros((1, 5, 4), bool), np.zeros((4, 5), bool)])
def test_a_sample_refuses_masks_of_another_kind_or_size(masks):
    with pytest.raises(ValueError, match=r"masks_NHW is .* it must be bool \(N, 4, 5\)"):
        Sample(name="a", image_HWC=grey(), masks_NHW=masks)


def test_touching_labels_are_two_objects_and_diagonal_neighbours_of_one_label_too():
    labels = np.array([[1, 1, 2], [0, 0, 2], [3, 0, 0], [0, 3, 0]])

    masks = objects(labels, smallest=0)

    assert [int(mask.sum()) for mask in masks] == [2, 2, 1, 1]
    assert masks[2][2, 0]
    assert masks[3][3, 1]


def test_background_and_negative_labels_are_no_objects():
    assert len(objects(np.array([[0, -1], [0, -1]]))) == 0


def test_only_the_largest_objects_are_kept_largest_first():
    labels = np.repeat(np.arange(5), [5, 1, 4, 2, 3])[None]

    assert [int(mask.sum()) for mask in objects(labels, smallest=0, most=3)] == [4, 3, 2]


def test_an_object_needs_its_share_of_the_image():
    labels = np.zeros((10, 10), np.uint8)
    labels[0, :4], labels[5, :5] = 1, 1

    assert [int(mask.sum()) for mask in objects(labels, smallest=0.05)] == [5]


@given(LABELS)
def test_objects_cover_every_labelled_pixel_once_and_never_mix_labels(labels):
    masks = objects(labels, smallest=0, most=labels.size)

    assert (masks.sum(axis=0) == (labels > 0)).all()
    assert all(len(np.unique(labels[mask])) == 1 for mask in masks)


def test_huge_labels_cost_nothing():
    assert len(objects(np.array([[2**62, 0], [0, 7]]), smallest=0)) == 2


@pytest.mark.parametrize("labels", [np.zeros((2, 2)), np.zeros((2, 2, 3), int)])
def test_labels_that_are_no_label_map_are_refused(labels):
    with pytest.raises(ValueError, match="labels are"):
        objects(labels)


def test_8_bits_stay_as_they_are():
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)

    assert (to_rgb8(image) == image).all()
    assert (to_rgb8(image[:, :, 0]) == image[:, :, :1]).all()


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_dropped(channels):
    image = np.full((3, 3, channels), 9, np.uint8)
    image[:, :, -1] = 200

    assert (to_rgb8(image) == 9).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_wide_range_is_stretched_and_outliers_do_not_darken_it(dtype):
    image = np.linspace(1000, 2000, 10_000).reshape(100, 100).astype(dtype)
    image[0, 0] = 60_000

    rgb = to_rgb8(image)

    assert rgb.dtype == np.uint8
    assert (rgb.min(), rgb.max()) == (0, 255)
    assert abs(float(rgb.mean()) - 127.5) < 2
    assert ((rgb == 0) | (rgb == 255)).mean() < 0.03


def test_a_few_bright_spots_on_an_even_ground_are_seen():
    image = np.full((100, 100), 5, np.uint16)
    image[50, 50] = 900

    assert sorted(np.unique(to_rgb8(image))) == [0, 255]


def test_colours_keep_their_balance():
    image = np.random.default_rng(0).random((20, 20, 3)) * [1, 0.5, 0.1]

    red, green, blue = to_rgb8(image).mean(axis=(0, 1))

    assert red > green > blue


def test_a_constant_image_and_values_that_are_not_finite_become_black():
    image = np.array([[np.nan, 1.0], [2.0, np.inf]])

    assert not to_rgb8(np.full((3, 3), 7.0)).any()
    assert not to_rgb8(image)[0, 0].any()
    assert not to_rgb8(image)[1, 1].any()


def test_true_is_white():
    assert sorted(np.unique(to_rgb8(np.eye(3, dtype=bool)))) == [0, 255]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((2, 2), np.nan), "no finite number"),
        (np.zeros((2, 2), complex), "real numbers"),
        (np.zeros((2, 2, 5), np.uint8), "shape"),
        (np.zeros((2, 2, 2, 2), np.uint8), "shape"),
        (np.zeros((0, 2), np.uint8), "shape"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(image, reason):
    with pytest.raises(ValueError, match=reason):
        to_rgb8(image)
