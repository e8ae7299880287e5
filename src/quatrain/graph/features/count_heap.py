"""The lowest of many without looking at the rest, where values only ever grow."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

import numpy as np

from quatrain.graph.features.candidates import Ints

GRAIN = 1024
"""Positions that are looked at together, also where fewer are wanted: a look at one costs as much."""


class CountHeap:
    """Positions on rungs, by a whole number that may have grown since they were put there.

    A position climbs when it is met on a rung that it has outgrown, not when its value grows: taking the k lowest costs
    the k and those that climb, each of which has grown since. So the cost follows the accesses, not the size.
    """

    def __init__(self, value: Callable[[Ints], Ints]) -> None:
        """Take the function that tells positions' present values."""
        self._value = value
        self._rungs: dict[int, deque[Ints]] = {}
        self._heap: list[int] = []

    def add(self, positions: Ints) -> None:
        """Put positions on the rungs of their values, behind those that stand there."""
        values = self._value(positions)
        order = np.argsort(values, kind="stable")
        values, positions = values[order], positions[order]
        for group in np.split(np.arange(len(values)), np.flatnonzero(np.diff(values)) + 1):
            if len(group):
                self._append(int(values[group[0]]), positions[group])

    def floor(self) -> int | None:
        """Return a value that none is below, None when empty."""
        return self._heap[0] if self._heap else None

    def beaten_by(self, bounds: Ints) -> Ints:
        """Take away the lowest positions, in ascending order, as many as each stay below their bound.

        `bounds` descend: the first bound is that of the lowest position, and so on.
        """
        taken, count = [np.empty(0, np.int64)], 0
        while self._heap:
            most = int(np.searchsorted(-bounds, -self._heap[0]))  # bounds above this rung
            if count >= most:
                break
            rung = self._rungs[self._heap[0]]
            taken.append(self._settle(rung, most - count))
            count += len(taken[-1])
            if not rung:
                del self._rungs[heapq.heappop(self._heap)]
        return np.concatenate(taken)

    def _settle(self, rung: deque[Ints], count: int) -> Ints:
        """Take up to `count` from the front of the lowest rung; those that have outgrown it climb."""
        front = self._front(rung, max(count, GRAIN))
        stays = self._value(front) == self._heap[0]
        if not stays.all():
            self.add(front[~stays])
        settled: Ints = front[stays]
        if len(settled) > count:
            rung.appendleft(settled[count:])
        return settled[:count]

    def _front(self, rung: deque[Ints], count: int) -> Ints:
        """Take `count` from the front of a rung, or all."""
        fronts: list[Ints] = []
        while rung and count > 0:
            fronts.append(rung.popleft())
            if len(fronts[-1]) > count:
                rung.appendleft(fronts[-1][count:])
                fronts[-1] = fronts[-1][:count]
            count -= len(fronts[-1])
        return np.concatenate(fronts)

    def _append(self, value: int, positions: Ints) -> None:
        if value not in self._rungs:
            self._rungs[value] = deque()
            heapq.heappush(self._heap, value)
        self._rungs[value].append(positions)
