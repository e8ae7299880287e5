from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from quatrain.compat import nms
from quatrain.sam.automatic.nms import box_nms, mask_nms, suppress

corners = st.tuples(*[st.integers(0, 12)] * 4)


def _mask(left, top, right, bottom):
    mask = np.zeros((13, 13), bool)
    mask[min(top, bottom) : max(top, bottom) + 1, min(left, right) : max(left, right) + 1] = True
    return mask


def _rle(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


@given(st.lists(corners, max_size=9), st.floats(0.1, 0.9))
def test_kept_boxes_are_those_of_torchvision_and_of_its_stand_in(boxes, threshold):
    ordered = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    scores = np.array([(7 * a + b) % 5 / 5 for a, b, _, _ in ordered])

    kept = box_nms(np.array(ordered), scores, threshold)

    expected = nms(torch.tensor(ordered).reshape(-1, 4), torch.tensor(scores), threshold)
    assert kept == expected.tolist()


@given(st.lists(corners, max_size=7), st.floats(0.1, 0.9))
def test_kept_masks_overlap_little_and_suppressed_masks_overlap_a_better_kept_one(boxes, threshold):
    masks = [_mask(*box) for box in boxes]
    scores = np.linspace(0, 1, len(boxes))

    kept = mask_nms([_rle(mask) for mask in masks], scores, threshold)

    def iou(i, j):
        return (masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum()

    assert kept == sorted(kept, reverse=True)
    assert all(iou(i, j) <= threshold for i in kept for j in kept if i != j)
    assert all(any(iou(i, j) > threshold and j > i for j in kept) for i in range(len(masks)) if i not in kept)


@given(st.lists(st.integers(0, 3), max_size=6))
def test_of_equal_items_the_best_is_kept_and_the_earliest_of_equal_scores(scores):
    suppressed = suppress(scores, lambda _item: range(len(scores)))

    best = scores.index(max(scores)) if scores else None
    assert suppressed == {item: best for item in range(len(scores)) if item != best}


def test_a_suppressed_item_suppresses_nothing():
    chain = {0: [1], 1: [0, 2], 2: [1]}

    assert suppress([0.9, 0.8, 0.7], chain.__getitem__) == {1: 0}


def test_a_matrix_with_the_box_of_the_whole_image_is_kept_by_its_mask():
    whole = np.ones((13, 13), bool)
    matrix = whole.copy()
    matrix[2:11, 2:11] = False

    assert box_nms(np.array([[0, 0, 12, 12]] * 2), np.array([1.0, 0.9]), 0.7) == [0]
    assert mask_nms([_rle(whole), _rle(matrix)], np.array([1.0, 0.9]), 0.7) == [0, 1]


def test_empty_masks_do_not_suppress_each_other():
    assert mask_nms([_rle(np.zeros((3, 3), bool))] * 2, [1.0, 0.5], 0.1) == [0, 1]
