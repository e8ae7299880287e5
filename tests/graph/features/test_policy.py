from __future__ import annotations

import numpy as np
import pytest
from buffer_world import configs, halos, steps
from hypothesis import given
from hypothesis import strategies as st

from quatrain.errors import UsageError
from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.policy import distinct, make_policy


@pytest.mark.parametrize("policy", ["presample", "belady"])
def test_a_policy_that_looks_ahead_needs_the_upcoming_ids(policy):
    with pytest.raises(UsageError, match=f"'{policy}' needs the ids of upcoming steps"):
        make_policy(CacheConfig(policy=policy), HaloTable([1], [1]), 1)


@given(halos(), configs(), steps(range(60)))
def test_every_policy_fills_every_row_with_distinct_candidates(halo, config, accesses):
    rows = config.capacity(halo.size)
    filled = make_policy(config, halo, rows, accesses).fill()

    assert len(filled) == len(set(filled.tolist())) == rows
    assert all(0 <= position < halo.size for position in filled)


@given(st.lists(st.integers(-3, 9)))
def test_distinct_positions_ascend(positions):
    assert distinct(np.array(positions, np.int64)).tolist() == sorted(set(positions))
