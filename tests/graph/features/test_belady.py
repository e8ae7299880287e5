from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from buffer_world import steps
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.policy import make_policy

SIZE = 6


def belady(rows, window, accesses, size=SIZE, carry=False):
    config = CacheConfig(policy="belady", window=window, carry=carry)
    return make_policy(config, HaloTable(range(size), [1] * size), rows, iter(accesses))


def hits(policy, accesses):
    """Run a policy as a cache does; check each swap and return the hits over distinct accesses."""
    resident, count = set(policy.fill().tolist()), 0
    for accessed in accesses:
        inside = np.array([at in resident for at in accessed.tolist()], bool)
        swap = policy.step(accessed[inside], accessed[~inside])
        assert set(swap.evicted.tolist()) <= resident
        assert set(swap.admitted.tolist()) <= set(accessed[~inside].tolist())
        assert len(swap.evicted) == len(swap.admitted) == len(set(swap.admitted.tolist()))
        count += len(set(accessed.tolist()) & resident)
        resident = resident - set(swap.evicted.tolist()) | set(swap.admitted.tolist())
    return count


def most_hits(rows, accesses):
    """The most hits of any choice of cached positions, by exhaustive search."""
    best = {frozenset(choice): 0 for choice in combinations(range(SIZE), rows)}
    for accessed in accesses:
        step, after = set(accessed.tolist()), {}
        for kept, count in best.items():
            count += len(kept & step)
            for choice in combinations(sorted(kept | step), rows):
                after[frozenset(choice)] = max(count, after.get(frozenset(choice), 0))
        best = after
    return max(best.values())


@given(st.integers(0, SIZE), steps(range(SIZE), most=7))
def test_no_choice_has_more_hits_than_belady_with_the_whole_future_announced(rows, accesses):
    assert hits(belady(rows, 99, accesses), accesses) == most_hits(rows, accesses)


def carried_hits(policy, accesses):
    """The same with rows of the previous batch: admitted rows are among them and cost no bytes."""
    resident, before, count = set(policy.fill().tolist()), set(), 0
    for accessed in accesses:
        there = resident | before
        inside = np.array([at in there for at in accessed.tolist()], bool)
        swap = policy.step(accessed[inside], accessed[~inside])
        assert set(swap.evicted.tolist()) <= resident
        assert set(swap.admitted.tolist()) <= before - resident - set(accessed.tolist())
        assert len(swap.evicted) == len(swap.admitted) == len(set(swap.admitted.tolist()))
        count += len(set(accessed.tolist()) & there)
        resident = resident - set(swap.evicted.tolist()) | set(swap.admitted.tolist())
        before = set(accessed.tolist())
    return count


def most_carried_hits(rows, accesses):
    """The most hits with rows of the previous batch, by exhaustive search."""
    best, before = {frozenset(choice): 0 for choice in combinations(range(SIZE), rows)}, set()
    for accessed in accesses:
        step, after = set(accessed.tolist()), {}
        for kept, count in best.items():
            count += len((kept | before) & step)
            for choice in combinations(sorted(kept | before | step), rows):
                after[frozenset(choice)] = max(count, after.get(frozenset(choice), 0))
        best, before = after, step
    return max(best.values())


@given(st.integers(0, SIZE), steps(range(SIZE), most=7))
def test_no_choice_has_more_hits_than_belady_with_carry(rows, accesses):
    policy = belady(rows, 99, accesses, carry=True)

    assert carried_hits(policy, accesses) == most_carried_hits(rows, accesses)


@given(st.integers(0, SIZE), st.integers(1, 4), steps(range(SIZE), most=30))
def test_a_short_window_never_has_more_hits_than_the_whole_future(rows, window, accesses):
    assert hits(belady(rows, window, accesses), accesses) <= hits(belady(rows, 99, accesses), accesses)


@given(st.integers(1, 8), st.integers(1, 5))
def test_belady_samples_no_further_ahead_than_its_window(window, taken):
    sampled = 0

    def sample():
        nonlocal sampled
        for _ in range(30):
            sampled += 1
            yield np.array([1], np.int64)

    policy = belady(2, window, sample())
    policy.fill()
    for step in range(taken):
        policy.step(np.array([1]), np.array([], np.int64))
        assert sampled <= step + window + 1


def test_a_batch_that_was_not_announced_is_an_error():
    policy = belady(1, 4, [np.array([0]), np.array([1])])
    policy.fill()

    with pytest.raises(ValueError, match="batch 0 does not match the one announced"):
        policy.step(np.array([0]), np.array([2]))


def test_nothing_changes_after_the_last_announced_step():
    policy = belady(1, 4, [np.array([0])])
    policy.fill()
    policy.step(np.array([0]), np.array([], np.int64))

    assert len(policy.step(np.array([0]), np.array([3])).admitted) == 0


def test_memory_does_not_grow_with_the_number_of_accesses():
    accesses = [np.arange(SIZE)] * 3000  # with a window of 1 each use becomes unknown and known again
    policy = belady(SIZE, 1, accesses)
    hits(policy, accesses)

    assert policy._queue._never_count <= 1100
    assert len(policy._window._next_use) <= 1 << 10
