from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from quatrain.data.runs import Runs, without_small

masks = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


@given(masks, st.integers(0, 4), st.integers(0, 4))
def test_runs_give_the_mask_back_wherever_it_lies(mask, x, y):
    rows, columns = mask.shape
    runs = Runs.of(mask.T, x, y)

    whole = runs.mask(rows + 5, columns + 5)

    assert (runs.mask(rows, columns, x, y) == mask).all()
    assert (whole[y : y + rows, x : x + columns] == mask).all()
    assert whole.sum() == mask.sum() == runs.area


@given(masks)
def test_the_box_is_the_smallest_around_the_mask(mask):
    left, top, right, bottom = Runs.of(mask.T).box

    if not mask.any():
        assert (left, top, right, bottom) == (0, 0, 0, 0)
    else:
        assert mask[top : bottom + 1, left : right + 1].sum() == mask.sum()
        assert mask[top].any()
        assert mask[bottom].any()
        assert mask[:, left].any()
        assert mask[:, right].any()


@given(masks, st.integers(1, 8), st.integers(1, 8), st.integers(0, 8), st.integers(0, 8))
def test_a_view_shows_its_part_of_the_mask(mask, rows, columns, x, y):
    canvas = np.zeros((17, 17), bool)
    canvas[: mask.shape[0], : mask.shape[1]] = mask

    assert (Runs.of(mask.T).mask(rows, columns, x, y) == canvas[y : y + rows, x : x + columns]).all()


@given(masks)
def test_the_encoding_is_the_one_of_coco(mask):
    rows, columns = mask.shape

    encoding = Runs.of(mask.T).encoding(rows, columns)

    assert coco.frPyObjects(encoding, rows, columns) == coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert sum(encoding["counts"]) == rows * columns
    assert all(encoding["counts"][1:])


def test_moved_runs_are_runs_of_the_moved_mask():
    mask = np.eye(3, dtype=bool)

    moved = Runs.of(mask.T).shifted(2, 1)

    assert moved.box == (2, 1, 4, 3)
    assert (moved.mask(4, 5)[1:, 2:] == mask).all()


@pytest.fixture
def ragged():
    """A block with a hole of two pixels and an island of one; a hole of four stays."""
    mask = np.zeros((12, 12), bool)
    mask[1:9, 1:9] = True
    mask[2, 2:4] = mask[5:7, 5:7] = False
    mask[11, 11] = True
    return mask


def test_small_holes_are_filled_and_small_islands_dropped(ragged):
    cleaned, changed = without_small(ragged, 3)

    assert changed
    assert cleaned[2, 2:4].all()
    assert not cleaned[11, 11]
    assert not cleaned[5:7, 5:7].any()


def test_a_clean_mask_stays_as_it_is(ragged):
    cleaned, changed = without_small(ragged, 1)

    assert not changed
    assert (cleaned == ragged).all()


def test_the_largest_island_stays_even_when_it_is_small():
    mask = np.zeros((9, 9), bool)
    mask[0, :2] = mask[8, 8] = True

    cleaned, changed = without_small(mask, 5)

    assert changed
    assert cleaned.sum() == 2
    assert cleaned[0, :2].all()
