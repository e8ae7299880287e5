from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask
from scipy import ndimage

from quatrain.data.rle import Rle, compress, counts_of_text

MASKS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


@given(MASKS, st.integers(0, 4), st.integers(0, 4))
def test_runs_return_their_mask_at_any_place(mask, x, y):
    rows, columns = mask.shape
    rle = Rle.from_mask(mask.T, x, y)

    whole = rle.mask(rows + 5, columns + 5)

    assert (rle.mask(rows, columns, x, y) == mask).all()
    assert (whole[y : y + rows, x : x + columns] == mask).all()
    assert whole.sum() == mask.sum() == rle.area


@given(MASKS)
def test_the_box_is_the_smallest_around_the_mask(mask):
    left, top, right, bottom = Rle.from_mask(mask.T).box

    if not mask.any():
        assert (left, top, right, bottom) == (0, 0, 0, 0)
    else:
        assert mask[top : bottom + 1, left : right + 1].sum() == mask.sum()
        assert all(side.any() for side in (mask[top], mask[bottom], mask[:, left], mask[:, right]))


@given(MASKS, st.integers(1, 8), st.integers(1, 8), st.integers(0, 8), st.integers(0, 8))
def test_a_view_shows_its_part_of_the_mask(mask, rows, columns, x, y):
    canvas = np.zeros((24, 24), bool)
    canvas[: mask.shape[0], : mask.shape[1]] = mask

    assert (Rle.from_mask(mask.T).mask(rows, columns, x, y) == canvas[y : y + rows, x : x + columns]).all()


def test_shifted_runs_are_those_of_the_shifted_mask():
    mask = np.eye(3, dtype=bool)

    moved = Rle.from_mask(mask.T).shifted(2, 1)

    assert moved.box == (2, 1, 4, 3)
    assert (moved.mask(4, 5)[1:, 2:] == mask).all()


@given(MASKS)
def test_the_encodings_are_those_of_pycocotools(mask):
    rle, hw = Rle.from_mask(mask.T), mask.shape
    stock = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))

    assert coco_mask.frPyObjects(rle.encoding(*hw), *hw) == stock
    assert rle.compressed(*hw) == compress(mask) == stock["counts"]
    assert rle.counts(*hw).sum() == mask.size
    assert rle.counts(*hw)[1:].all()


@given(MASKS)
def test_the_counts_in_a_text_of_pycocotools_return_the_same_runs(mask):
    rle = Rle.from_mask(mask.T)

    found = Rle.from_counts(counts_of_text(compress(mask)), mask.shape[0])

    assert all(np.array_equal(getattr(found, name), getattr(rle, name)) for name in ("x", "top", "end"))


def test_long_runs_are_read():
    mask = np.zeros((3000, 2000), bool)
    mask[100:2900, 50:1900] = True

    assert (Rle.from_counts(counts_of_text(compress(mask)), 3000).mask(3000, 2000) == mask).all()


@given(st.binary(max_size=40))
def test_bytes_that_are_not_a_code_raise_value_errors_only(text):
    try:
        found = counts_of_text(text)
    except ValueError:
        return
    assert found.dtype == np.int64


def labelled(pixels, diagonal):
    """Parts of a mask and their sizes; of two equal parts the first down the columns has the lower number."""
    parts, count = ndimage.label(pixels.T, np.ones((3, 3)) if diagonal else None)
    return parts.T, np.bincount(parts.ravel(), minlength=count + 1)


def islands_by_pixels(pixels, smallest, diagonal):
    parts, sizes = labelled(pixels, diagonal)
    sizes[0] = 0
    keep = sizes >= smallest
    keep[sizes.argmax()] = True
    keep[0] = False
    return keep[parts]


def holes_by_pixels(pixels, smallest, at_border):
    holes, sizes = labelled(~pixels, True)
    fill = sizes < smallest
    if not at_border:
        fill[np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])] = False
    fill[0] = False
    return pixels | fill[holes]


@given(
    st.integers(0, 2**32), st.integers(1, 24), st.integers(1, 24), st.floats(0, 1), st.integers(0, 40), st.booleans()
)
def test_islands_and_holes_are_those_of_a_labelling_of_pixels(seed, height, width, density, smallest, choice):
    pixels = np.random.default_rng(seed).random((height, width)) < density
    rle = Rle.from_mask(pixels.T)

    islands = rle.without_islands(smallest, diagonal=choice).mask(height, width)
    holes = rle.without_holes(height, width, smallest, at_border=choice).mask(height, width)

    assert np.array_equal(islands, islands_by_pixels(pixels, smallest, choice))
    assert np.array_equal(holes, holes_by_pixels(pixels, smallest, choice))


def test_a_mask_without_small_parts_is_returned_as_the_same_object():
    mask = np.zeros((12, 12), bool)
    mask[1:9, 1:9] = True
    mask[5:7, 5:7] = False
    rle = Rle.from_mask(mask.T)

    assert rle.without_islands(60, diagonal=True) is rle
    assert rle.without_holes(12, 12, 4, at_border=True) is rle
    assert rle.without_holes(12, 12, 5, at_border=True) is not rle


@pytest.mark.parametrize("mask", [np.zeros((5, 7), bool), np.ones((5, 7), bool)])
def test_an_empty_and_a_full_mask_stay_as_they_are(mask):
    rle = Rle.from_mask(mask.T).without_islands(100, diagonal=False).without_holes(5, 7, 10, at_border=False)

    assert np.array_equal(rle.mask(5, 7), mask)


def test_the_largest_part_stays_although_it_is_small():
    pixels = np.zeros((9, 9), bool)
    pixels[2:4, 2:4] = pixels[7, 7] = True

    assert Rle.from_mask(pixels.T).without_islands(1000, diagonal=False).area == 4


def test_a_bay_at_the_border_is_a_hole_for_segment_anything_only():
    pixels = np.ones((9, 9), bool)
    pixels[0, 4] = pixels[5, 5] = False
    rle = Rle.from_mask(pixels.T)

    assert rle.without_holes(9, 9, 10, at_border=False).area == 80
    assert rle.without_holes(9, 9, 10, at_border=True).area == 81
