"""Replay of a recorded trace through the cache's own slot table and policy, without features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.cache import make_candidates
from quatrain.graph.features.candidates import Ints
from quatrain.graph.features.metrics import hit_rate
from quatrain.graph.features.policy import Policy, make_policy
from quatrain.graph.features.slots import Slots
from quatrain.graph.tuning.trace import Trace


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """Counts of one configuration per step, arrays (S,), and total times."""

    buffer_rows: int
    """Capacity of the cache; also the rows fetched before the first step."""
    halo_hits: Ints
    halo_misses: Ints
    remote_hits: Ints
    remote_misses: Ints
    remote_rows: Ints
    """Fetched rows: misses and extra rows to admit."""
    lookup_s: float
    """Seconds of all lookups, measured in this process."""
    policy_s: float
    """Seconds of the policy in all steps, measured in this process."""

    @property
    def halo_hit_rate(self) -> float | None:
        """Hits over accesses of halo vertices; None without an access."""
        return hit_rate(int(self.halo_hits.sum()), int(self.halo_misses.sum()))

    @property
    def remote_hit_rate(self) -> float | None:
        """Hits over accesses of all remote vertices; None without an access."""
        return hit_rate(int(self.remote_hits.sum()), int(self.remote_misses.sum()))


def replay(trace: Trace, config: CacheConfig, clock: Callable[[], float] = time.perf_counter) -> Replay:
    """Return what a cache with `config` does over a trace: hits, misses and rows equal those of a real run.

    A policy that looks ahead gets the trace itself. For `presample` these are the trace's first steps; a run would
    sample other steps of the same distribution.
    """
    halo = trace.setup.halo
    candidates = make_candidates(config, halo, trace.setup.vertex_count)
    policy = make_policy(config, candidates, config.capacity(halo.size), trace.steps())
    first_pos = policy.fill()
    slots = Slots(candidates, np.full(candidates.size + 1, -1, np.int32), len(first_pos))
    slots.fill(first_pos)
    times = _Times(clock)
    steps = _step_counts(trace, slots, policy, times, carry=config.effective_carry)
    counts = np.array(list(steps), np.int64).reshape(-1, 5)
    hits, misses, halo_hits, halo_misses, fetched = counts.T
    return Replay(
        buffer_rows=len(first_pos),
        halo_hits=halo_hits,
        halo_misses=halo_misses,
        remote_hits=hits,
        remote_misses=misses,
        remote_rows=fetched,
        lookup_s=times.lookup_s,
        policy_s=times.policy_s,
    )


class _Times:
    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.lookup_s = self.policy_s = 0.0


def _step_counts(
    trace: Trace, slots: Slots, policy: Policy, times: _Times, *, carry: bool
) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield hits, misses, halo hits, halo misses and fetched rows of each step."""
    for ids_r in trace.steps():
        began = times.clock()
        lookup = slots.lookup(ids_r)
        found = times.clock()
        replacement = slots.plan(policy, lookup)
        times.policy_s += times.clock() - found
        times.lookup_s += found - began
        hit, in_halo = lookup.slot_r >= 0, trace.setup.halo.find(ids_r) >= 0
        slots.admit(replacement, slots.evict(replacement))
        if carry:
            slots.carry(lookup.pos_r, np.arange(len(ids_r)))
        masks = (hit, ~hit, hit & in_halo, ~hit & in_halo)
        hits, misses, halo_hits, halo_misses = (int(np.count_nonzero(mask)) for mask in masks)
        yield hits, misses, halo_hits, halo_misses, misses + len(replacement.extra_pos_e)
