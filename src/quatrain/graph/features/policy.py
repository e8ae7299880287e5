"""What a policy is: it sees positions (see `halo`) and says who leaves the buffer and who comes.

It keeps no features, so that a recorded trace can be replayed through it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import Candidates, Ints

EMPTY: Ints = np.empty(0, np.int64)


def distinct(positions: Ints) -> Ints:
    """Return each of `positions` once, ascending; by sorting, which is far quicker here than numpy's hash table."""
    ordered = np.sort(positions)
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


@dataclass(frozen=True, slots=True)
class Swap:
    """Positions that leave the buffer and positions that take their place, equally many and without repeats."""

    leaving: Ints = field(default_factory=lambda: EMPTY)
    coming: Ints = field(default_factory=lambda: EMPTY)


NO_SWAP = Swap()


class Policy(Protocol):
    """Decides what a buffer of a fixed number of rows holds."""

    def fill(self) -> Ints:
        """Return the positions to begin with, as many as there are rows; called once, first."""

    def step(self, hits: Ints, misses: Ints) -> Swap:
        """Learn the positions that one step found in the buffer and those that it did not; positions may repeat."""


@dataclass(frozen=True, kw_only=True)
class PolicyInputs:
    """What a policy is made from."""

    config: CacheConfig
    rows: int
    candidates: Candidates
    accesses: Iterable[Ints] = ()
    """Positions that each step to come will access, candidates only."""

    def filled_up(self, chosen: Ints) -> Ints:
        """Return the first `rows` of `chosen`, filled up with the top_by_degree by degree where they are fewer."""
        if len(chosen) >= self.rows:
            return chosen[: self.rows]
        top_by_degree = self.candidates.top_by_degree(self.rows)
        others = top_by_degree[~np.isin(top_by_degree, chosen)]
        return np.concatenate([chosen, others[: self.rows - len(chosen)]])
