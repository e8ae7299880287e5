from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from quatrain.data.prompts import points

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


def test_an_empty_mask_is_refused_by_name():
    with pytest.raises(ValueError, match="object 0 of image 'a' has no pixel"):
        points(np.zeros((1, 3, 3), bool), image="a", seed=0)
