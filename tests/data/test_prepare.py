from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quatrain.compat import torchvision_ops
from quatrain.data.prepare import augment, prepare, resized_hw
from quatrain.data.prompts import points
from quatrain.data.sample import Sample

torchvision_ops()
from segment_anything.modeling import Sam  # noqa: E402 - after its stand-in
from segment_anything.utils.transforms import ResizeLongestSide  # noqa: E402 - the same

SIDES = st.integers(1, 90)


def sample(height, width, seed=0, count=3):
    """Noise, and `count` overlapping rectangles that are never empty."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), bool)
    for mask in masks:
        top, left = rng.integers(height), rng.integers(width)
        mask[top : rng.integers(top, height) + 1, left : rng.integers(left, width) + 1] = True
    return Sample(name="a", image_HWC=rng.integers(0, 256, (height, width, 3), np.uint8), masks_NHW=masks)


class Encoder(torch.nn.Module):
    """What Sam.preprocess asks of an image encoder."""

    img_size = 64


def segment_anything_input(image):
    sam = Sam(Encoder(), torch.nn.Module(), torch.nn.Module())
    resized = ResizeLongestSide(64).apply_image(image)
    return sam, sam.preprocess(torch.as_tensor(resized).permute(2, 0, 1))


@given(SIDES, SIDES)
def test_sizes_round_as_those_of_segment_anything(height, width):
    theirs = ResizeLongestSide.get_preprocess_shape(height, width, 64)

    assert resized_hw(height, width, 64) == tuple(max(1, side) for side in theirs)


@settings(max_examples=25, deadline=None)
@given(SIDES, SIDES)
def test_an_input_is_the_one_that_segment_anything_makes(height, width):
    assume(64 * min(height, width) >= 0.5 * max(height, width))  # else theirs has a side of no pixel
    image = sample(height, width)
    sam, theirs = segment_anything_input(image.image_HWC)

    prepared = prepare(image, 64)

    ours = torch.zeros(3, 64, 64)
    inside = (slice(None), slice(prepared.valid_hw[0]), slice(prepared.valid_hw[1]))
    ours[inside] = ((torch.from_numpy(prepared.image_CHW) - sam.pixel_mean) / sam.pixel_std)[inside]
    torch.testing.assert_close(ours, theirs)


@given(SIDES, SIDES, st.sampled_from(["pad", "squash"]), st.integers(0, 99))
def test_a_point_of_a_prepared_mask_lies_in_the_original_mask(height, width, fit, seed):
    image = sample(height, width, seed, count=1)
    prepared = prepare(image, 64, fit=fit)

    scale = np.divide(prepared.original_hw[::-1], prepared.valid_hw[::-1])  # pixel centres meet pixel centres
    points_N2 = (points(prepared.masks_NSS, image="a", seed=seed) + 0.5) * scale
    for x, y in np.floor(points_N2).astype(int):
        assert image.masks_NHW[0, y, x]


@given(SIDES, SIDES)
def test_nothing_lies_outside_the_valid_part(height, width):
    prepared = prepare(sample(height, width), 64)

    for extent, axis in zip(prepared.valid_hw, (1, 2), strict=True):
        assert not np.take(prepared.image_CHW, range(extent, 64), axis=axis).any()
        assert not np.take(prepared.masks_NSS, range(extent, 64), axis=axis).any()


def test_an_image_of_the_right_size_stays_as_it_is():
    image = sample(64, 64)

    prepared = prepare(image, 64)

    assert (prepared.image_CHW == image.image_HWC.transpose(2, 0, 1)).all()
    assert (prepared.masks_NSS == image.masks_NHW).all()
    assert prepared.image_CHW.dtype == np.uint8


def test_squashing_fills_the_whole_input():
    prepared = prepare(sample(40, 80), 64, fit="squash")

    assert prepared.valid_hw == (64, 64)
    assert prepared.original_hw == (40, 80)


def test_objects_that_vanish_are_dropped():
    masks = np.zeros((2, 640, 640), bool)
    masks[0, 1, 1] = masks[1, 100:300, 100:300] = True
    image = Sample(name="a", image_HWC=np.zeros((640, 640, 3), np.uint8), masks_NHW=masks)

    prepared = prepare(image, 64)

    assert [int(mask.sum()) for mask in prepared.masks_NSS] == [400]


def test_an_image_without_objects_can_be_prepared():
    assert prepare(sample(30, 20, count=0), 64).masks_NSS.shape == (0, 64, 64)


def block(height=60, width=40):
    """A bright quarter, which is the one object."""
    mask = np.zeros((1, height, width), bool)
    mask[0, : height // 2, : width // 2] = True
    return Sample(
        name="a", image_HWC=np.where(mask[0, :, :, None], 200, 50).repeat(3, 2).astype(np.uint8), masks_NHW=mask
    )


@given(st.integers(0, 2**32))
def test_image_and_masks_are_varied_alike(seed):
    varied = augment(block(), np.random.default_rng(seed))

    inside = varied.image_HWC[varied.masks_NHW[0]]
    outside = varied.image_HWC[~varied.masks_NHW[0]]
    assert len(np.unique(inside)) == 1
    assert not len(outside) or (len(np.unique(outside)) == 1 and inside[0, 0] > outside[0, 0])


@given(st.integers(0, 2**32), st.integers(1, 50), st.integers(1, 50))
def test_at_least_half_of_the_image_is_kept_and_every_object_has_its_share(seed, height, width):
    varied = augment(sample(height, width), np.random.default_rng(seed))

    rows, columns = sorted(varied.image_HWC.shape[:2]), sorted((height, width))
    assert all(new <= old for new, old in zip(rows, columns, strict=True))
    assert (rows[0] + 0.5) * (rows[1] + 0.5) >= 0.5 * height * width
    assert (varied.masks_NHW.mean(axis=(1, 2)) >= 0.002).all() or varied.masks_NHW.shape[1:] == (height, width)


def test_a_generator_in_the_same_state_gives_the_same_variation():
    first, second = (augment(sample(30, 40), np.random.default_rng(3)) for _ in range(2))

    assert (first.image_HWC == second.image_HWC).all()
    assert (first.masks_NHW == second.masks_NHW).all()


def test_all_eight_orientations_occur():
    labels = np.arange(64 * 64).reshape(64, 64) // 16 % 4 + np.arange(64)[:, None] // 32 * 4
    image = np.repeat((labels * 30).astype(np.uint8)[:, :, None], 3, 2)
    corners = set()
    for seed in range(100):
        varied = augment(
            Sample(name="a", image_HWC=image, masks_NHW=np.ones((1, 64, 64), bool)), np.random.default_rng(seed)
        ).image_HWC[:, :, 0]
        order = np.argsort([varied[0, 0], varied[0, -1], varied[-1, 0], varied[-1, -1]], kind="stable")
        corners.add(tuple(order.tolist()))

    assert len(corners) == 8


def test_a_sample_that_would_lose_every_object_comes_back_as_it_was():
    empty = sample(30, 20, count=0)

    assert augment(empty, np.random.default_rng(0)) is empty


def test_another_seed_gives_another_brightness():
    means = {round(float(augment(block(), np.random.default_rng(seed)).image_HWC.max())) for seed in range(20)}

    assert len(means) > 10


@pytest.mark.parametrize("fit", ["pad", "squash"])
def test_masks_keep_their_dtype_and_shape(fit):
    prepared = prepare(sample(33, 77), 64, fit=fit)

    assert prepared.masks_NSS.dtype == bool
    assert prepared.masks_NSS.shape[1:] == (64, 64)
