"""Laws of every engine, and what the learning ones are for."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_worlds import MINI, SAM, bounded, score, small_space

from quatrain.search.constraints import Bounds
from quatrain.search.engines.registry import ENGINES, Engine, make_engine
from quatrain.supernet.space import Subnet

ANY = Bounds(sam=SAM)
NAMES = sorted(ENGINES)
LEARNING = sorted(set(ENGINES) - {"random"})


def asked(engine: Engine, count: int, workers: int = 1) -> list[Subnet]:
    flying: list[Subnet] = []
    seen = []
    for _ in range(count):
        flying.append(engine.ask())
        seen.append(flying[-1])
        if len(flying) == workers:
            done = flying.pop(0)
            engine.tell(done, score(done))
    return seen


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workers", [1, 6])
def test_the_same_seed_and_the_same_results_give_the_same_proposals(name, workers):
    one, other, third = (asked(make_engine(name, MINI, ANY, seed), 40, workers) for seed in (3, 3, 4))

    assert one == other
    assert one != third


@settings(max_examples=10)
@given(bounded(), st.sampled_from(NAMES), st.integers(1, 5))
def test_every_proposal_is_of_the_space(world, name, workers):
    space, bounds = world

    for subnet in asked(make_engine(name, space, bounds, 0), 30, workers):
        space.check(subnet)


@pytest.mark.parametrize("name", NAMES)
def test_a_space_of_one_network_is_no_trouble(name):
    space = small_space(widths=1, blocks=1, removable=())

    assert set(asked(make_engine(name, space, ANY, 0), 30)) == {space.largest()}


@pytest.mark.parametrize("name", NAMES)
def test_results_that_nobody_asked_for_are_taken_twice_over(name):
    engine = make_engine(name, MINI, ANY, 0)
    for value in (0.4, 0.6):
        engine.tell(MINI.smallest(), value)
        engine.tell(MINI.largest(), value / 2)

    for subnet in asked(engine, 30, workers=3):
        MINI.check(subnet)


@pytest.mark.parametrize("name", LEARNING)
def test_what_learns_proposes_better_networks_later(name):
    scores = [score(subnet) for subnet in asked(make_engine(name, MINI, ANY, 0), 120, workers=2)]

    assert statistics.fmean(scores[-30:]) > statistics.fmean(scores[:20])


def test_evolution_lets_nothing_outside_the_bounds_live():
    bounds = Bounds.parse(SAM, max_params="60%")
    engine = make_engine("evolution", MINI, bounds, 0)
    for _ in range(40):
        engine.tell(MINI.largest(), 0.99)
        engine.tell(MINI.smallest(), 0.5)

    assert MINI.largest() not in [engine.ask() for _ in range(40)]
