from __future__ import annotations

import numpy as np
import pytest
from search_worlds import MINI, SAM

from quatrain.search.constraints import Bounds
from quatrain.search.engines.additive import AdditiveEngine
from quatrain.search.neighbours import within
from quatrain.supernet.space import Space

SMALL = Space(
    full=MINI.full, choices=((96, 192, 384),) * 3 + ((384,),) * 9, removable=(4, 5, 6), drop_probability=(0.5,) * 3
)
BOUNDS = Bounds.parse(SAM, max_params="80%")


def worth(subnet):
    """A sum over blocks, where wider is not always better."""
    rng = np.random.default_rng(5)
    table = {(block, width): rng.normal() for block in range(12) for width in (0, 96, 192, 384)}
    return sum(table[place] for place in enumerate(subnet.widths))


def asked(engine, count):
    seen = []
    for _ in range(count):
        seen.append(engine.ask())
        engine.tell(seen[-1], worth(seen[-1]))
    return seen


@pytest.mark.parametrize("seed", range(3))
def test_where_blocks_add_up_the_best_of_all_networks_is_found_in_a_fraction_of_them(seed):
    every = list(within(SMALL, BOUNDS))
    best = max(every, key=worth)

    assert best in asked(AdditiveEngine(SMALL, BOUNDS, seed), len(every) // 4)


def test_nothing_outside_the_bounds_is_proposed():
    assert all(BOUNDS.admits(subnet) for subnet in asked(AdditiveEngine(SMALL, BOUNDS, 0), 40))


def test_a_network_that_was_set_aside_does_not_drown_the_others():
    engine = AdditiveEngine(SMALL, BOUNDS, 0)
    engine.tell(SMALL.smallest(), -1000.0)
    best = max(within(SMALL, BOUNDS), key=worth)

    assert best in asked(engine, 60)


def test_known_networks_are_proposed_only_when_nothing_else_is_left():
    every = list(within(SMALL, BOUNDS))
    seen = asked(AdditiveEngine(SMALL, BOUNDS, 0), len(every) // 2)

    learnt = seen[6:]
    assert len(set(learnt)) == len(learnt)
