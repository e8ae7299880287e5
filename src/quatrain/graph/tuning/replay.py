"""What a buffer would have done during a recorded trace: the buffer's own look-up and policy, without any features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.cache import candidates
from quatrain.graph.features.candidates import Candidates, Ints
from quatrain.graph.features.policies import make_policy
from quatrain.graph.features.policy import Policy
from quatrain.graph.features.slots import Slots
from quatrain.graph.tuning.trace import Trace


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What one configuration did, step by step; all arrays are (S,)."""

    buffer_rows: int
    fill_rows: int
    """Rows pulled before the first step."""
    halo_hits: Ints
    halo_misses: Ints
    remote_hits: Ints
    remote_misses: Ints
    remote_rows: Ints
    """Rows pulled: misses and newcomers that the step does not read."""
    lookup_s: float
    """Seconds that look-ups took here, all steps together."""
    policy_s: float
    """Seconds that the policy took here, all steps together."""

    @property
    def halo_hit_rate(self) -> float:
        """Hits over accesses of halo vertices, 0 without any."""
        return _rate(self.halo_hits, self.halo_misses)

    @property
    def remote_hit_rate(self) -> float:
        """Hits over accesses of all remote vertices, 0 without any."""
        return _rate(self.remote_hits, self.remote_misses)


def _rate(hits: Ints, misses: Ints) -> float:
    return float(hits.sum() / max(1, hits.sum() + misses.sum()))


def replay(trace: Trace, config: CacheConfig, clock: Callable[[], float] = time.perf_counter) -> Replay:
    """Run `config` over a trace; its hits, misses and rows are those of a buffer that reads the same steps.

    A policy that foresees is told the trace itself; for `presample` that means the steps it begins with, where a run
    would sample others of the same kind.
    """
    among = candidates(config, trace.setup.halo, trace.setup.vertex_count)
    policy = make_policy(config, among, config.rows(trace.setup.halo.size), trace.steps())
    return replay_policy(trace, policy, among, clock, carry=config.carries)


def replay_policy(
    trace: Trace,
    policy: Policy,
    among: Candidates,
    clock: Callable[[], float] = time.perf_counter,
    *,
    carry: bool = False,
) -> Replay:
    """Run any policy over the candidates `among` of a trace; with `carry`, a step finds what the one before read."""
    first = policy.fill()
    residents = Slots(among, np.full(among.size + 1, -1, np.int32), len(first))
    residents.begin(first)
    watch = _Watch(clock)
    counts = np.array(list(_counts(trace, residents, policy, watch, carry=carry)), np.int64).reshape(-1, 5)
    hits, misses, halo_hits, halo_misses, pulled = counts.T
    return Replay(
        buffer_rows=len(first),
        fill_rows=len(first),
        halo_hits=halo_hits,
        halo_misses=halo_misses,
        remote_hits=hits,
        remote_misses=misses,
        remote_rows=pulled,
        lookup_s=watch.lookup_s,
        policy_s=watch.policy_s,
    )


class _Watch:
    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.lookup_s = self.policy_s = 0.0


def _counts(trace: Trace, residents: Slots, policy: Policy, watch: _Watch, *, carry: bool) -> Iterator[tuple[int, ...]]:
    for vertices in trace.steps():
        began = watch.clock()
        place = residents.find(vertices)
        found = watch.clock()
        change = residents.decide(policy, place)
        watch.policy_s += watch.clock() - found
        watch.lookup_s += found - began
        inside, halo = place.slots >= 0, trace.setup.halo.find(vertices) >= 0
        residents.come(change, residents.leave(change))
        if carry:
            residents.carry(place.positions, np.arange(len(vertices)))
        masks = (inside, ~inside, inside & halo, ~inside & halo)
        hits, misses, halo_hits, halo_misses = (int(np.count_nonzero(mask)) for mask in masks)
        yield hits, misses, halo_hits, halo_misses, misses + len(change.extra)
