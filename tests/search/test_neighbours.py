from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from search_worlds import MINI, SAM, bounded, small_space, spaces

from quatrain.search.constraints import Bounds
from quatrain.search.neighbours import larger, options, repair, smaller, within
from quatrain.supernet.cost import encoder_macs, encoder_parameters, full_subnet
from quatrain.supernet.space import Subnet


def test_a_step_down_narrows_one_block_or_drops_one_at_its_narrowest():
    space = small_space(widths=2, blocks=2, removable=(0,))
    rest = (384,) * 10
    narrow, wide = 320, 384

    below = smaller(space, Subnet(widths=(narrow, wide, *rest)))

    assert below == [Subnet(widths=(0, wide, *rest)), Subnet(widths=(narrow, narrow, *rest))]


@given(spaces(), st.integers(0, 2**32))
def test_a_step_up_undoes_a_step_down(space, seed):
    subnet = space.sample(np.random.default_rng(seed))

    for below in smaller(space, subnet):
        space.check(below)
        assert subnet in larger(space, below)


def test_the_ends_of_the_space_have_no_further_steps():
    assert smaller(MINI, MINI.smallest()) == []
    assert larger(MINI, MINI.largest()) == []


def test_a_removable_block_may_also_be_absent():
    assert options(MINI, 0) == (96, 128, 192, 288, 384)
    assert options(MINI, 1) == (0, 96, 128, 192, 288, 384)


@given(bounded(), st.integers(0, 2**32))
def test_a_repaired_network_keeps_the_bounds_and_stays_in_the_space(world, seed):
    space, bounds = world
    proposal = space.sample(np.random.default_rng(seed))

    repaired = repair(space, bounds, proposal, seed=1)

    space.check(repaired)
    assert bounds.admits(repaired)
    assert all(mine <= theirs for mine, theirs in zip(repaired.widths, proposal.widths, strict=True))
    assert repaired == repair(space, bounds, proposal, seed=1)
    assert repair(space, bounds, repaired, seed=2) == repaired


def test_repair_does_not_shrink_more_than_it_must():
    bounds = Bounds.parse(SAM, max_params="60%")

    repaired = repair(MINI, bounds, MINI.largest(), seed=0)

    assert any(not bounds.admits(above) for above in larger(MINI, repaired))


def test_repair_heeds_macs_as_well():
    bounds = Bounds.parse(SAM, max_params="100%", max_macs="50%")

    assert encoder_macs(SAM, repair(MINI, bounds, MINI.largest(), seed=0)) <= encoder_macs(SAM, full_subnet(SAM)) / 2


@settings(max_examples=30)
@given(bounded())
def test_the_walk_visits_every_network_within_bounds_once(world):
    space, bounds = world
    every = itertools.product(*(options(space, block) for block in range(space.depth)))
    expected = [subnet for subnet in (Subnet(widths=widths) for widths in every) if bounds.admits(subnet)]

    assert list(within(space, bounds)) == expected


def test_the_walk_finds_few_networks_in_a_huge_space_at_once():
    floor = encoder_parameters(SAM, MINI.smallest())
    one_step = min(encoder_parameters(SAM, above) for above in larger(MINI, MINI.smallest()))

    found = list(within(MINI, Bounds(sam=SAM, max_params=one_step)))

    assert MINI.size() > 10**8
    assert MINI.smallest() in found
    assert all(floor <= encoder_parameters(SAM, subnet) <= one_step for subnet in found)
    assert len(found) == 1 + 7  # each block that always stays may be one step wider
