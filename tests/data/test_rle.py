from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from pycocotools import mask as coco_mask

from quatrain.data.rle import masks, run_lengths

MASKS = nps.arrays(bool, nps.array_shapes(min_dims=2, max_dims=2, max_side=20))


def text_of(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def runs(mask):
    return {"segmentation": {"size": list(mask.shape), "counts": text_of(mask).decode()}, "id": 7}


@given(MASKS)
def test_run_lengths_give_back_the_mask_that_pycocotools_wrote(mask):
    assert (masks([runs(mask)], *mask.shape).any(axis=0) == mask).all()


@given(MASKS)
def test_plain_run_lengths_mean_the_same_as_text(mask):
    plain = {"segmentation": {"size": list(mask.shape), "counts": run_lengths(text_of(mask)).tolist()}}

    assert (masks([plain], *mask.shape) == masks([runs(mask)], *mask.shape)).all()


def test_long_runs_are_read():
    mask = np.zeros((3000, 2000), bool)
    mask[100:2900, 50:1900] = True

    assert (masks([runs(mask)], 3000, 2000)[0] == mask).all()


@given(st.binary(max_size=40))
def test_bytes_that_are_no_code_raise_value_errors_only(text):
    try:
        found = run_lengths(text)
    except ValueError:
        return
    assert found.dtype == np.int64


def test_a_polygon_covers_its_inside_and_its_parts_are_joined():
    square, other = [2, 2, 8, 2, 8, 8, 2, 8], [12, 12, 18, 12, 18, 18, 12, 18]

    (mask,) = masks([{"segmentation": [square, other]}], 20, 20)

    assert int(mask.sum()) == 72
    assert mask[2:8, 2:8].all()
    assert mask[12:18, 12:18].all()


def test_a_polygon_that_leaves_the_image_is_cut_at_its_border():
    (mask,) = masks([{"segmentation": [[-1e12, 5, 1e12, 5, 1e12, 1e12, -1e12, 1e12]]}], 20, 10)

    assert mask[5:].all()
    assert not mask[:5].any()


def test_the_largest_objects_come_first_and_tiny_ones_are_left_out():
    small, large, tiny = np.zeros((3, 40, 40), bool)
    small[:4, :4], large[:20, :20], tiny[0, 0] = True, True, True

    assert [int(mask.sum()) for mask in masks([runs(small), runs(tiny), runs(large)], 40, 40)] == [400, 16]


def test_no_annotations_are_no_objects():
    assert masks([], 4, 5).shape == (0, 4, 5)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        7,
        [],
        "text",
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [["a", "b", "c", "d", "e", "f"]],
        [[[1, 2], [3, 4], [5, 6]]],
        {},
        {"size": [4, 5]},
        {"size": 4, "counts": [20]},
        {"size": [4], "counts": [20]},
        {"size": [5, 4], "counts": [20]},
        {"size": [4, 5], "counts": [10]},
        {"size": [4, 5], "counts": [30, -10]},
        {"size": [4, 5], "counts": [[20]]},
        {"size": [4, 5], "counts": None},
        {"size": [4, 5], "counts": ""},
        {"size": [4, 5], "counts": "\x01"},
        {"size": [4, 5], "counts": "ö"},
        {"size": [4, 5], "counts": "oooooooooooooooooooooooo0"},
        {"size": [4, 5], "counts": "P"},
        {"size": [4, 5], "counts": [2**70]},
    ],
)
def test_a_damaged_segmentation_is_refused_with_the_annotations_id(segmentation):
    with pytest.raises(ValueError, match=r"the segmentation of annotation 7 is damaged: \w"):
        masks([{"segmentation": segmentation, "id": 7}], 4, 5)
