from __future__ import annotations

import numpy as np
from buffer_world import steps
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.policy import make_policy

SIZE = 12
ACCESSES = steps(range(SIZE), most=30)


def array(*positions):
    return np.array(positions, np.int64)


@given(st.integers(0, SIZE), st.integers(1, 4), ACCESSES)
def test_lfu_admits_only_misses_that_were_read_more_often_than_the_evicted_rows(rows, interval, accesses):
    policy = make_policy(CacheConfig(policy="lfu", interval=interval), HaloTable(range(SIZE), [1] * SIZE), rows)
    resident, counts = set(policy.fill().tolist()), np.zeros(SIZE, int)

    for time, accessed in enumerate(accesses, start=1):
        step = set(accessed.tolist())
        counts[list(step)] += 1
        missed = step - resident
        swap = policy.step(array(*(step & resident)), array(*missed))
        evicted, admitted = swap.evicted.tolist(), swap.admitted.tolist()
        assert set(evicted) <= resident
        assert set(admitted) <= missed
        assert len(set(admitted)) == len(set(evicted)) == len(admitted) == len(evicted)
        assert all(counts[new] > counts[old] for new, old in zip(admitted, evicted, strict=True))
        resident = resident - set(evicted) | set(admitted)
        if time % interval == 0 and resident:  # no miss of this step exceeds a cached count
            assert max(counts[list(missed - resident)], default=0) <= min(counts[list(resident)])
        else:
            assert not admitted
