from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from buffer_world import steps
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.belady import foresee
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.policies import make_policy

SIZE = 6


def scheduled(rows, window, accesses, size=SIZE, carry=False):
    config = CacheConfig(policy="schedule", window=window, carry=carry)
    return make_policy(config, HaloTable(range(size), [1] * size), rows, iter(accesses))


def hits(policy, accesses):
    """Run a policy as a buffer does; check each swap and return the hits over distinct accesses."""
    resident, count = set(policy.fill().tolist()), 0
    for accessed in accesses:
        inside = np.array([at in resident for at in accessed.tolist()], bool)
        swap = policy.step(accessed[inside], accessed[~inside])
        assert set(swap.leaving.tolist()) <= resident
        assert set(swap.coming.tolist()) <= set(accessed[~inside].tolist())
        assert len(swap.leaving) == len(swap.coming) == len(set(swap.coming.tolist()))
        count += len(set(accessed.tolist()) & resident)
        resident = resident - set(swap.leaving.tolist()) | set(swap.coming.tolist())
    return count


def most_hits(rows, accesses):
    """The most hits that any choice of what to keep can have, by trying all of them."""
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
def test_nothing_beats_a_schedule_that_is_told_everything(rows, accesses):
    assert hits(scheduled(rows, 99, accesses), accesses) == most_hits(rows, accesses)


def carried_hits(policy, accesses):
    """The same where the batch before is there too: newcomers come from it, and cost no byte."""
    resident, before, count = set(policy.fill().tolist()), set(), 0
    for accessed in accesses:
        there = resident | before
        inside = np.array([at in there for at in accessed.tolist()], bool)
        swap = policy.step(accessed[inside], accessed[~inside])
        assert set(swap.leaving.tolist()) <= resident
        assert set(swap.coming.tolist()) <= before - resident - set(accessed.tolist())
        assert len(swap.leaving) == len(swap.coming) == len(set(swap.coming.tolist()))
        count += len(set(accessed.tolist()) & there)
        resident = resident - set(swap.leaving.tolist()) | set(swap.coming.tolist())
        before = set(accessed.tolist())
    return count


def most_carried_hits(rows, accesses):
    """The most hits with the batch before, by trying all choices."""
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
def test_nothing_beats_a_schedule_that_carries_either(rows, accesses):
    policy = scheduled(rows, 99, accesses, carry=True)

    assert carried_hits(policy, accesses) == most_carried_hits(rows, accesses)


@given(st.integers(0, SIZE), st.integers(1, 4), steps(range(SIZE), most=30))
def test_a_window_changes_what_is_kept_and_not_what_is_allowed(rows, window, accesses):
    assert hits(scheduled(rows, window, accesses), accesses) <= hits(scheduled(rows, 99, accesses), accesses)


@given(st.integers(1, 8), st.integers(1, 5))
def test_a_schedule_asks_no_further_ahead_than_its_window(window, taken):
    asked = 0

    def telling():
        nonlocal asked
        for _ in range(30):
            asked += 1
            yield np.array([1], np.int64)

    policy = scheduled(2, window, telling())
    policy.fill()
    for step in range(taken):
        policy.step(np.array([1]), np.array([], np.int64))
        assert asked <= step + window + 1


def test_what_was_foretold_must_come():
    policy = scheduled(1, 4, [np.array([0]), np.array([1])])
    policy.fill()

    with pytest.raises(ValueError, match="step 0 reads other vertices than were foretold"):
        policy.step(np.array([0]), np.array([2]))


def test_after_the_last_foretold_step_everything_stays():
    policy = scheduled(1, 4, [np.array([0])])
    policy.fill()
    policy.step(np.array([0]), np.array([], np.int64))

    assert len(policy.step(np.array([0]), np.array([3])).coming) == 0


def test_positions_used_again_and_again_do_not_pile_up():
    accesses = [np.arange(SIZE)] * 3000  # a window of 1 forgets each and learns it again
    policy = scheduled(SIZE, 1, accesses)
    hits(policy, accesses)

    assert policy._shelves._never_count <= 1100
    assert len(policy._window._following) <= 1 << 10


def test_batches_are_sampled_once_and_seen_twice():
    sampled = []

    def sample():
        for batch in range(4):
            sampled.append(batch)
            yield batch

    batches, accesses = foresee(sample(), lambda batch: batch * 10)
    assert [next(accesses), next(accesses)] == [0, 10]
    assert sampled == [0, 1]
    assert list(batches) == [0, 1, 2, 3]
    assert list(accesses) == [20, 30]
    assert sampled == [0, 1, 2, 3]
