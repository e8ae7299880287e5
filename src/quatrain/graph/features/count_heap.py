"""Positions by a count that only grows: the lowest ones are found without a scan of the rest."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

import numpy as np

from quatrain.graph.features.candidates import Ints

CHUNK = 1024
"""Positions that are checked together, even if fewer are needed: checking one costs as much."""


class CountHeap:
    """Buckets of positions with equal counts, whose lowest bucket is known; counts are updated lazily.

    A position moves to a higher bucket when it is found in a bucket below its count, not when its count grows. Taking
    the k lowest costs k plus the number of moved positions, each of which was counted since. So the cost grows with the
    accesses, not with the number of positions.
    """

    def __init__(self, value: Callable[[Ints], Ints]) -> None:
        """Take the function that returns the present counts of positions."""
        self._value = value
        self._buckets: dict[int, deque[Ints]] = {}
        self._heap: list[int] = []

    def add(self, pos: Ints) -> None:
        """Append positions to the buckets of their counts."""
        values = self._value(pos)
        order = np.argsort(values, kind="stable")
        values, pos = values[order], pos[order]
        for group in np.split(np.arange(len(values)), np.flatnonzero(np.diff(values)) + 1):
            if len(group):
                self._append(int(values[group[0]]), pos[group])

    def lower_bound(self) -> int | None:
        """Return a count that no position is below; None when empty."""
        return self._heap[0] if self._heap else None

    def pop_below(self, bounds: Ints) -> Ints:
        """Remove and return the lowest positions, ascending, while each is below its bound.

        `bounds` descend: the first one is the bound of the lowest position, and so on.
        """
        taken, count = [np.empty(0, np.int64)], 0
        while self._heap:
            most = int(np.searchsorted(-bounds, -self._heap[0]))  # bounds above this bucket
            if count >= most:
                break
            bucket = self._buckets[self._heap[0]]
            taken.append(self._pop_bucket(bucket, most - count))
            count += len(taken[-1])
            if not bucket:
                del self._buckets[heapq.heappop(self._heap)]
        return np.concatenate(taken)

    def _pop_bucket(self, bucket: deque[Ints], count: int) -> Ints:
        """Remove up to `count` positions from the front of the lowest bucket; move those whose count has grown."""
        front = self._front(bucket, max(count, CHUNK))
        current = self._value(front) == self._heap[0]
        if not current.all():
            self.add(front[~current])
        lowest: Ints = front[current]
        if len(lowest) > count:
            bucket.appendleft(lowest[count:])
        return lowest[:count]

    def _front(self, bucket: deque[Ints], count: int) -> Ints:
        """Remove and return `count` positions from the front of a bucket, or all."""
        fronts: list[Ints] = []
        while bucket and count > 0:
            fronts.append(bucket.popleft())
            if len(fronts[-1]) > count:
                bucket.appendleft(fronts[-1][count:])
                fronts[-1] = fronts[-1][:count]
            count -= len(fronts[-1])
        return np.concatenate(fronts)

    def _append(self, value: int, pos: Ints) -> None:
        if value not in self._buckets:
            self._buckets[value] = deque()
            heapq.heappush(self._heap, value)
        self._buckets[value].append(pos)
