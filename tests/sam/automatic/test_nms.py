from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from quatrain.compat import nms
from quatrain.data.runs import Runs
from quatrain.sam.automatic.nms import intersection, keep_by_box, keep_by_mask, mask_iou

corners = st.tuples(*[st.integers(0, 12)] * 4)


def _mask(left, top, right, bottom):
    mask = np.zeros((13, 13), bool)
    mask[min(top, bottom) : max(top, bottom) + 1, min(left, right) : max(left, right) + 1] = True
    return mask


@given(st.lists(corners, max_size=9), st.floats(0.1, 0.9))
def test_boxes_that_stay_are_those_of_torchvisions_nms(boxes, threshold):
    ordered = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    scores = np.array([(7 * a + b) % 5 / 5 for a, b, _, _ in ordered])

    kept = keep_by_box(np.array(ordered), scores, threshold)

    expected = nms(torch.tensor(ordered).reshape(-1, 4), torch.tensor(scores), threshold)
    assert kept == expected.tolist()


@given(corners, corners)
def test_shared_pixels_and_iou_are_those_of_the_masks(a, b):
    one, other = _mask(*a), _mask(*b)

    assert intersection(Runs.of(one.T), Runs.of(other.T)) == (one & other).sum()
    assert mask_iou(Runs.of(one.T), Runs.of(other.T)) == (one & other).sum() / (one | other).sum()


@given(st.lists(corners, max_size=7), st.floats(0.1, 0.9))
def test_masks_that_stay_overlap_little_and_those_that_fall_overlap_a_better_one(boxes, threshold):
    masks = [_mask(*box) for box in boxes]
    scores = np.linspace(0, 1, len(boxes))

    kept = keep_by_mask([Runs.of(mask.T) for mask in masks], scores, threshold)

    def iou(i, j):
        return (masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum()

    assert kept == sorted(kept, reverse=True)
    assert all(iou(i, j) <= threshold for i in kept for j in kept if i != j)
    assert all(any(iou(i, j) > threshold and j > i for j in kept) for i in range(len(masks)) if i not in kept)


def test_a_matrix_with_the_box_of_the_whole_image_survives_by_its_mask():
    whole = np.ones((13, 13), bool)
    matrix = whole.copy()
    matrix[2:11, 2:11] = False
    runs = [Runs.of(whole.T), Runs.of(matrix.T)]

    assert keep_by_box(np.array([one.box for one in runs]), np.array([1.0, 0.9]), 0.7) == [0]
    assert keep_by_mask(runs, np.array([1.0, 0.9]), 0.7) == [0, 1]


def test_empty_masks_share_nothing():
    empty = Runs.of(np.zeros((3, 3), bool))

    assert mask_iou(empty, empty) == 0
    assert intersection(empty, Runs.of(np.ones((3, 3), bool))) == 0
