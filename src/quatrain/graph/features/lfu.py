"""Least frequently used with admission: the policy `lfu`."""

from __future__ import annotations

import numpy as np

from quatrain.graph.features.candidates import Ints
from quatrain.graph.features.count_heap import CountHeap
from quatrain.graph.features.policy import NO_SWAP, PolicyInputs, Swap, distinct


class LfuPolicy:
    """Replaces a cached row by a missed one that more steps have read, counted over the whole run.

    Admitted rows are among the step's own misses, so they cost no extra bytes. A heap yields the rows of lowest count:
    the cost of a step grows with its accesses, not with the size of the halo.
    """

    def __init__(self, inputs: PolicyInputs) -> None:
        self._inputs = inputs
        self._interval, self._steps = inputs.config.interval, 0
        self._counts = np.zeros(inputs.candidates.size, np.int32)
        self._heap = CountHeap(lambda pos: self._counts[pos].astype(np.int64))

    def fill(self) -> Ints:
        """Return the candidates of highest in-degree; the lowest of them is evicted first."""
        first = self._inputs.candidates.top_by_degree(self._inputs.capacity)
        self._heap.add(first[::-1])
        return first

    def step(self, hits: Ints, misses: Ints) -> Swap:
        """Count the step; every `interval` steps swap the rows of lowest count for misses of higher count."""
        self._steps += 1
        self._counts[hits] += 1  # a repeat within a step counts once
        self._counts[misses] += 1
        lowest = self._heap.lower_bound()
        if self._steps % self._interval or lowest is None:
            return NO_SWAP
        admitted = distinct(misses[self._counts[misses] > lowest])
        return self._swap(admitted[np.argsort(-self._counts[admitted], kind="stable")])

    def _swap(self, admitted: Ints) -> Swap:
        """Admit those of `admitted`, by descending count, that exceed the lowest cached counts, ascending."""
        evicted = self._heap.pop_below(self._counts[admitted].astype(np.int64))
        admitted = admitted[: len(evicted)]
        self._heap.add(admitted)
        return Swap(evicted, admitted)
