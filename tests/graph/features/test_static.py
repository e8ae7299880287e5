from __future__ import annotations

import numpy as np

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.policy import make_policy


def array(*positions):
    return np.array(positions, np.int64)


def test_static_degree_holds_the_highest_degrees_and_never_changes():
    policy = make_policy(CacheConfig(policy="static-degree"), HaloTable([5, 6, 7], [1, 3, 2]), 2)

    assert policy.fill().tolist() == [1, 2]
    assert len(policy.step(array(), array(0, 0, 0)).admitted) == 0


def test_presample_holds_what_most_of_the_first_steps_read_and_then_the_highest_degrees():
    upcoming = [array(7, 7, 7, 5), array(5, 99), array(6), array(8)]
    policy = make_policy(
        CacheConfig(policy="presample", window=3), HaloTable([4, 5, 6, 7, 8], [9, 1, 1, 2, 1]), 4, upcoming
    )

    assert policy.fill().tolist() == [1, 3, 2, 0]  # 5 twice; 7 and 6 once; 4 by its degree
