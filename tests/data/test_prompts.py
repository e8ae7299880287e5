from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from quatrain.data.prompts import jittered_boxes, points

MASKS = nps.arrays(bool, nps.array_shapes(min_dims=3, max_dims=3, max_side=9)).map(
    lambda masks: masks[masks.any(axis=(1, 2))]
)
SEEDS = st.integers(0, 2**40)


@given(MASKS, SEEDS)
def test_a_point_lies_in_its_object(masks, seed):
    xy = points(masks, image="a", seed=seed)

    assert (xy.dtype, xy.shape) == (np.float32, (len(masks), 2))
    assert all(mask[int(y), int(x)] for mask, (x, y) in zip(masks, xy, strict=True))


@given(MASKS, SEEDS)
def test_prompts_are_frozen_by_image_seed_and_index_alone(masks, seed):
    assert (points(masks, image="a", seed=seed)[:1] == points(masks[:1], image="a", seed=seed)).all()
    assert (jittered_boxes(masks, image="a", seed=seed)[:1] == jittered_boxes(masks[:1], image="a", seed=seed)).all()


def test_another_image_seed_or_object_draws_another_point():
    masks = np.ones((2, 100, 100), bool)

    here = points(masks, image="a", seed=0)

    assert (here[0] != here[1]).any()
    assert (here != points(masks, image="b", seed=0)).any()
    assert (here != points(masks, image="a", seed=1)).any()


def test_points_are_uniform_over_the_object():
    mask = np.zeros((1, 4, 4), bool)
    mask[0, 1, 1:3] = mask[0, 3, 0] = True

    drawn = [tuple(points(mask, image="a", seed=seed)[0]) for seed in range(600)]

    counts = [drawn.count(xy) for xy in [(1, 1), (2, 1), (0, 3)]]
    assert sum(counts) == 600
    assert min(counts) > 160


@given(MASKS, SEEDS, st.floats(0, 0.49))
def test_a_jittered_box_stays_in_the_image_and_in_order(masks, seed, jitter):
    boxes = jittered_boxes(masks, image="a", seed=seed, jitter=jitter)

    height, width = masks.shape[1:]
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= (width - 1, height - 1)).all()


def test_a_box_without_jitter_runs_through_the_outermost_pixels():
    mask = np.zeros((1, 9, 9), bool)
    mask[0, 2, 3:6] = mask[0, 4:7, 4] = True

    assert jittered_boxes(mask, image="a", seed=0, jitter=0).tolist() == [[3, 2, 5, 6]]


def test_no_edge_moves_by_more_than_its_share_of_the_box():
    mask = np.zeros((1, 100, 100), bool)
    mask[0, 30:71, 20:61] = True

    moves = [jittered_boxes(mask, image="a", seed=seed)[0] - (20, 30, 60, 70) for seed in range(50)]

    assert 3 < np.abs(moves).max() <= 4


def test_an_empty_mask_is_refused_by_name():
    with pytest.raises(ValueError, match="object 0 of image 'a' has no pixel"):
        points(np.zeros((1, 3, 3), bool), image="a", seed=0)


def test_a_jitter_that_could_turn_a_box_over_is_refused():
    with pytest.raises(ValueError, match=r"jitter is 0\.5"):
        jittered_boxes(np.ones((1, 3, 3), bool), image="a", seed=0, jitter=0.5)
