from __future__ import annotations

from fractions import Fraction

import numpy as np
from buffer_world import configs, steps
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.config import CacheConfig, reference_quirks
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.policy import make_policy

SIZE = 12
ACCESSES = steps(range(SIZE), most=30)


def array(*positions):
    return np.array(positions, np.int64)


class Literal:
    """The published scheme as written: each cached score is multiplied at each step, in exact fractions."""

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

    def swap(self, evicted, admitted):
        for old, new in zip(evicted, admitted, strict=True):
            self.missed[old] = self.recency.pop(old)
            count = self.missed.pop(new)
            self.recency[new] = Fraction(count) if self.config.score_transfer == "paper" else Fraction(1)


def check_eviction(literal, swap):
    """Evicted rows are below the threshold, admitted ones are the most missed, as many as both allow."""
    below = {position: score for position, score in literal.recency.items() if score < literal.alpha}
    evicted, admitted = swap.evicted.tolist(), swap.admitted.tolist()
    assert len(evicted) == len(admitted) == min(len(below), len(literal.missed))
    assert set(evicted) <= set(below)
    assert len(set(admitted)) == len(admitted)
    left = [float(score) for position, score in literal.missed.items() if position not in admitted]
    assert all(literal.missed[position] >= max(left, default=0) - 1e-9 for position in admitted)
    if literal.config.victims == "id-order":
        assert evicted == sorted(below)[: len(evicted)]
    stay = [float(score) for position, score in below.items() if position not in evicted]
    if literal.config.victims == "lowest-score":
        assert all(below[position] <= min(stay, default=9) + 1e-9 for position in evicted)


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
            assert len(swap.evicted) == len(swap.admitted) == 0
        literal.swap(swap.evicted.tolist(), swap.admitted.tolist())
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
            evicted[at] |= len(policy.step(array(), array(1, 2)).evicted) > 0
    assert evicted == [False, True]


def test_a_row_that_was_missed_often_is_cached_longer_unless_scores_are_reset():
    steps = {}
    for transfer in ("paper", "reset"):
        config = CacheConfig(policy="paper", decay=0.5, interval=1, score_transfer=transfer)
        policy = make_policy(config, HaloTable(range(2), [2, 1]), 1)
        policy.fill()
        swaps = [policy.step(array(), array(1)) for _ in range(2)]  # 0 is never used, 1 is missed twice
        assert swaps[1].admitted.tolist() == [1]
        steps[transfer] = 1
        while len(policy.step(array(), array(0)).evicted) == 0:
            steps[transfer] += 1

    assert steps == {"paper": 3, "reset": 2}
