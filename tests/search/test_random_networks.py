from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_worlds import MINI, SAM, bounded, small_space

from quatrain.search.constraints import Bounds
from quatrain.search.random_networks import random_in_bucket
from quatrain.supernet.cost import encoder_parameters, full_subnet

BOUNDS = Bounds.parse(SAM, max_params="70%")


@given(st.sampled_from([0.45, 0.55, 0.65, 0.7]), st.integers(0, 99))
def test_the_networks_are_different_within_bounds_and_of_that_size(share, seed):
    params = int(share * encoder_parameters(SAM, full_subnet(SAM)))

    found = random_in_bucket(MINI, BOUNDS, params=params, count=8, seed=seed)

    assert len({subnet.key for subnet in found}) == len(found) == 8
    for subnet in found:
        MINI.check(subnet)
        assert BOUNDS.admits(subnet)
        assert abs(encoder_parameters(SAM, subnet) / params - 1) <= 0.05


@settings(max_examples=30)
@given(bounded())
def test_any_size_of_the_space_has_a_bucket(world):
    space, bounds = world
    smallest = encoder_parameters(SAM, space.smallest())

    found = random_in_bucket(space, bounds, params=smallest, count=2, seed=0)

    assert all(bounds.admits(subnet) for subnet in found)
    assert len(found) >= 1


def test_the_draw_repeats_under_its_seed():
    draws = [random_in_bucket(MINI, BOUNDS, params=900_000, count=5, seed=seed) for seed in (1, 1, 2)]

    assert draws[0] == draws[1] != draws[2]


def test_a_small_bucket_gives_what_it_has():
    space = small_space(widths=1, blocks=0, removable=(1, 2))

    found = random_in_bucket(space, Bounds(sam=SAM), params=encoder_parameters(SAM, space.largest()), count=9, seed=0)

    assert found == (space.largest(),)


def test_a_size_that_no_network_has_gives_none():
    assert random_in_bucket(MINI, BOUNDS, params=10, count=1, seed=0) == ()


def test_a_senseless_tolerance_is_refused():
    with pytest.raises(ValueError, match="tolerance is 1"):
        random_in_bucket(MINI, BOUNDS, params=900_000, count=1, seed=0, tolerance=1)
