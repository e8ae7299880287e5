import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from micrograph_world import box, disc, record
from pycocotools import mask as coco_mask

from quatrain.data.rle import compress
from quatrain.micrograph.masks import covered, nesting, read_masks

HW = (40, 60)


def masks_of(*pixels):
    return read_masks([record(mask) for mask in pixels], HW)


def test_a_record_keeps_its_pixels_area_box_and_scores():
    pixels = disc(HW, (15, 30), 9)

    (mask,) = read_masks([record(pixels, 0.8, 0.5)], HW)

    assert np.array_equal(mask.pixels(), pixels)
    assert np.array_equal(mask.inside(), pixels[mask.window])
    assert mask.area == pixels.sum()
    assert mask.box == (22, 7, 39, 24)
    assert mask.score == pytest.approx(0.4)


@pytest.mark.parametrize("kind", ["bool", "bare", "uint8", "text", "bytes", "plain runs", "polygon"])
def test_masks_come_in_many_forms(kind):
    pixels = box(HW, 5, 10, 20, 30)
    encoding = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    runs = [10 * 40 + 5, *([15, 25] * 19), 15, 40 * 60 - (29 * 40 + 20)]
    forms = {
        "bool": {"segmentation": pixels},
        "bare": pixels,
        "uint8": {"segmentation": pixels.astype(np.uint8)},
        "text": {"segmentation": {"size": list(HW), "counts": encoding["counts"].decode()}},
        "bytes": {"segmentation": encoding},
        "plain runs": {"segmentation": {"size": list(HW), "counts": runs}},
        "polygon": {"segmentation": [[10, 5, 30, 5, 30, 20, 10, 20]]},
    }

    (mask,) = read_masks([forms[kind]], HW)

    assert np.array_equal(mask.pixels(), pixels)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"segmentation": np.zeros((3, 3), bool)}, "mask 1 .*must be bool"),
        ({"segmentation": np.zeros(HW, float)}, "float64"),
        ({"area": 3}, "no 'segmentation'"),
        ({"segmentation": {"size": [9, 9], "counts": "abc"}}, "for 9 x 9"),
        ({"segmentation": {"size": list(HW), "counts": [5]}}, "add up to 5 pixels"),
    ],
)
def test_a_damaged_mask_is_reported_by_its_number(bad, words):
    with pytest.raises(ValueError, match=words):
        read_masks([record(box(HW, 0, 0, 5, 5)), bad], HW)


@given(st.integers(0, 2**32), st.floats(0.5, 1))
def test_nesting_finds_the_pairs_that_a_look_at_every_pixel_finds(seed, least):
    rng = np.random.default_rng(seed)
    pixels = [disc(HW, rng.uniform(0, 50, 2), rng.uniform(2, 25)) for _ in range(8)]
    pixels = [mask for mask in pixels if mask.any()]
    masks = masks_of(*pixels)

    found = nesting(masks, least)

    expected = {}
    for i, one in enumerate(pixels):
        for j, other in enumerate(pixels):
            smaller = other.sum() < one.sum() or (other.sum() == one.sum() and i < j)
            share = (one & other).sum() / other.sum()
            if i != j and smaller and share >= least:
                expected[i, j] = share, (one & other).sum() / (one | other).sum()
    pairs = dict(
        zip(zip(found.larger, found.smaller, strict=True), zip(found.inside, found.iou, strict=True), strict=True)
    )
    assert pairs.keys() == expected.keys()
    for pair, values in expected.items():
        assert pairs[pair] == pytest.approx(values)


def test_no_masks_have_no_pairs():
    assert len(nesting([], 0.8).larger) == 0


def test_covered_counts_what_several_masks_share_once():
    parent, left, right = masks_of(box(HW, 0, 0, 10, 10), box(HW, 0, 0, 10, 6), box(HW, 0, 4, 10, 9))

    assert covered([left, right], parent) == pytest.approx(0.9)


def test_run_lengths_are_those_of_pycocotools():
    pixels = disc(HW, (20, 20), 12)

    assert compress(pixels) == coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"]
