"""Interface of a cache policy: it sees positions (see `candidates`) and decides which of them the cache holds.

A policy holds no features, so the replay of a recorded trace runs the same code as training.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from quatrain.errors import UsageError
from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import Candidates, Ints

EMPTY: Ints = np.empty(0, np.int64)


def distinct(pos_n: Ints) -> Ints:
    """Return each of `pos_n` once, ascending. Sorts, which is much faster here than numpy's hash table."""
    ordered = np.sort(pos_n)
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


@dataclass(frozen=True, slots=True)
class Swap:
    """Positions to evict and positions to admit in their slots: equally many, without repeats."""

    evicted: Ints = field(default_factory=lambda: EMPTY)
    admitted: Ints = field(default_factory=lambda: EMPTY)


NO_SWAP = Swap()


class Policy(Protocol):
    """Decides which positions a cache of fixed capacity holds."""

    def fill(self) -> Ints:
        """Return the positions that the cache holds at first, as many as its capacity; called once, first."""

    def step(self, hits: Ints, misses: Ints) -> Swap:
        """Return the swap after one step that read the positions `hits` (cached) and `misses`; both may repeat."""


@dataclass(frozen=True, kw_only=True)
class PolicyInputs:
    """Arguments of every policy's constructor."""

    config: CacheConfig
    capacity: int
    """Rows of the cache."""
    candidates: Candidates
    accesses: Iterable[Ints] = ()
    """Positions that each upcoming step reads; non-candidates are left out."""

    def filled_by_degree(self, chosen: Ints) -> Ints:
        """Return the first `capacity` of `chosen`; if there are fewer, add the candidates of highest in-degree."""
        if len(chosen) >= self.capacity:
            return chosen[: self.capacity]
        top = self.candidates.top_by_degree(self.capacity)
        others = top[~np.isin(top, chosen)]
        return np.concatenate([chosen, others[: self.capacity - len(chosen)]])


def make_policy(
    config: CacheConfig, candidates: Candidates, capacity: int, accesses: Iterable[Any] | None = None
) -> Policy:
    """Return a new policy for a cache of `capacity` rows.

    `accesses` gives the global ids that each upcoming step reads, int64 arrays or CPU tensors. UsageError when the
    policy looks ahead and `accesses` is None.
    """
    spec = config.spec
    if spec.looks_ahead and accesses is None:
        raise UsageError(f"the policy {spec.name!r} needs the ids of upcoming steps: pass accesses or choose another")
    upcoming = (_positions(candidates, ids) for ids in accesses or ())
    inputs = PolicyInputs(config=config, capacity=capacity, candidates=candidates, accesses=upcoming)
    policy: Policy = pkgutil.resolve_name(spec.factory)(inputs)
    return policy


def _positions(candidates: Candidates, ids: Any) -> Ints:
    pos_n = candidates.find(np.asarray(ids, dtype=np.int64))
    return pos_n[pos_n >= 0]
