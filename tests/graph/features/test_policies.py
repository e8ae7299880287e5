from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from buffer_world import configs, halos, steps
from hypothesis import given
from hypothesis import strategies as st

from quatrain.errors import UsageError
from quatrain.graph.config import CacheConfig, reference_quirks
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.policies import make_policy
from quatrain.graph.features.policy import distinct

SIZE = 12
ACCESSES = steps(range(SIZE), most=30)


def array(*positions):
    return np.array(positions, np.int64)


class Literal:
    """The published scheme as it is written: every score of the buffer is multiplied at every step, exactly."""

    def __init__(self, config, resident):
        self.config, self.time = config, 0
        self.gamma = Fraction(config.decay)
        self.alpha = self.gamma**config.interval
        if config.alpha_decimals is not None:
            self.alpha = Fraction(round(float(self.alpha), config.alpha_decimals))
        self.recency = {position: Fraction(1) for position in resident}  # S_E
        self.missed = {}  # S_A

    def score(self, step):
        self.time += 1
        for position in self.recency:
            if position not in step:
                self.recency[position] *= self.gamma
        evicts = self.time % self.config.interval == 0
        if self.config.count_on_eviction or not evicts:
            for position in step - set(self.recency):
                self.missed[position] = self.missed.get(position, 0) + 1
        return evicts

    def swap(self, leaving, coming):
        for old, new in zip(leaving, coming, strict=True):
            self.missed[old] = self.recency.pop(old)
            count = self.missed.pop(new)
            self.recency[new] = Fraction(count) if self.config.score_transfer == "paper" else Fraction(1)


def check_eviction(literal, swap):
    """The victims are below the threshold, the newcomers are the most missed, as many as both allow."""
    below = {position: score for position, score in literal.recency.items() if score < literal.alpha}
    leaving, coming = swap.leaving.tolist(), swap.coming.tolist()
    assert len(leaving) == len(coming) == min(len(below), len(literal.missed))
    assert set(leaving) <= set(below)
    assert len(set(coming)) == len(coming)
    left = [float(score) for position, score in literal.missed.items() if position not in coming]
    assert all(literal.missed[position] >= max(left, default=0) - 1e-9 for position in coming)
    if literal.config.victims == "id-order":
        assert leaving == sorted(below)[: len(leaving)]
    stay = [float(score) for position, score in below.items() if position not in leaving]
    if literal.config.victims == "lowest-score":
        assert all(below[position] <= min(stay, default=9) + 1e-9 for position in leaving)


@given(configs(["paper"]), st.integers(0, SIZE), ACCESSES)
def test_the_lazy_score_evicts_exactly_as_the_published_scheme(config, rows, accesses):
    policy = make_policy(config, HaloTable(range(SIZE), [1] * SIZE), rows)
    resident = set(policy.fill().tolist())
    literal = Literal(config, resident)

    for accessed in accesses:
        step = set(accessed.tolist())
        swap = policy.step(array(*(step & resident)), array(*(step - resident)))
        if literal.score(step):
            check_eviction(literal, swap)
        else:
            assert len(swap.leaving) == len(swap.coming) == 0
        literal.swap(swap.leaving.tolist(), swap.coming.tolist())
        resident = set(literal.recency)


def test_a_threshold_rounded_to_nothing_never_evicts():
    config = reference_quirks(decay=0.95, interval=149)
    policies = [
        make_policy(one, HaloTable(range(3), [3, 2, 1]), 1)
        for one in (config, CacheConfig(policy="paper", decay=0.95, interval=149))
    ]
    evicted = [False, False]
    for at, policy in enumerate(policies):
        policy.fill()
        for _ in range(3 * 149):
            evicted[at] |= len(policy.step(array(), array(1, 2)).leaving) > 0
    assert evicted == [False, True]


def test_a_newcomer_that_was_missed_often_is_pinned_unless_scores_are_reset():
    stays = {}
    for transfer in ("paper", "reset"):
        config = CacheConfig(policy="paper", decay=0.5, interval=1, score_transfer=transfer)
        policy = make_policy(config, HaloTable(range(2), [2, 1]), 1)
        policy.fill()
        swaps = [policy.step(array(), array(1)) for _ in range(2)]  # 0 is never used, 1 is missed twice
        assert swaps[1].coming.tolist() == [1]
        stays[transfer] = 1
        while len(policy.step(array(), array(0)).leaving) == 0:
            stays[transfer] += 1

    assert stays == {"paper": 3, "reset": 2}


def test_static_degree_keeps_the_highest_degrees_whatever_happens():
    policy = make_policy(CacheConfig(policy="static-degree"), HaloTable([5, 6, 7], [1, 3, 2]), 2)

    assert policy.fill().tolist() == [1, 2]
    assert len(policy.step(array(), array(0, 0, 0)).coming) == 0


def test_presampling_keeps_what_most_of_the_first_steps_access_and_then_the_highest_degrees():
    told = [array(7, 7, 7, 5), array(5, 99), array(6), array(8)]
    policy = make_policy(
        CacheConfig(policy="presample", window=3), HaloTable([4, 5, 6, 7, 8], [9, 1, 1, 2, 1]), 4, told
    )

    assert policy.fill().tolist() == [1, 3, 2, 0]  # 5 twice; 7 and 6 once; 4 by its degree


@pytest.mark.parametrize("policy", ["presample", "schedule"])
def test_a_policy_that_foresees_must_be_told(policy):
    with pytest.raises(UsageError, match=f"'{policy}' must be told the accesses"):
        make_policy(CacheConfig(policy=policy), HaloTable([1], [1]), 1)


@given(st.integers(0, SIZE), st.integers(1, 4), ACCESSES)
def test_counts_lets_in_only_misses_that_were_accessed_more_often_than_what_leaves(rows, interval, accesses):
    policy = make_policy(CacheConfig(policy="counts", interval=interval), HaloTable(range(SIZE), [1] * SIZE), rows)
    resident, counts = set(policy.fill().tolist()), np.zeros(SIZE, int)

    for time, accessed in enumerate(accesses, start=1):
        step = set(accessed.tolist())
        counts[list(step)] += 1
        missed = step - resident
        swap = policy.step(array(*(step & resident)), array(*missed))
        leaving, coming = swap.leaving.tolist(), swap.coming.tolist()
        assert set(leaving) <= resident
        assert set(coming) <= missed
        assert len(set(coming)) == len(set(leaving)) == len(coming) == len(leaving)
        assert all(counts[new] > counts[old] for new, old in zip(coming, leaving, strict=True))
        resident = resident - set(leaving) | set(coming)
        if time % interval == 0 and resident:  # nothing that was missed now still beats what is there
            assert max(counts[list(missed - resident)], default=0) <= min(counts[list(resident)])
        else:
            assert not coming


@given(halos(), configs(), steps(range(60)))
def test_every_policy_fills_every_row_with_distinct_candidates(halo, config, accesses):
    rows = config.rows(halo.size)
    filled = make_policy(config, halo, rows, accesses).fill()

    assert len(filled) == len(set(filled.tolist())) == rows
    assert all(0 <= position < halo.size for position in filled)


@given(st.lists(st.integers(-3, 9)))
def test_distinct_positions_ascend(positions):
    assert distinct(array(*positions)).tolist() == sorted(set(positions))
