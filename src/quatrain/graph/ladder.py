"""The lowest of many without looking at the rest, where values only ever grow."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

import numpy as np

from quatrain.graph.halo import Ints


class Ladder:
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

    def lowest(self, count: int, below: int) -> Ints:
        """Take away up to `count` positions of the lowest values, those below `below` only, in ascending order."""
        taken: list[Ints] = [np.empty(0, np.int64)]
        while count > 0 and self._heap and self._heap[0] < below:
            rung = self._rungs[self._heap[0]]
            found = self._settle(rung, count)
            taken.append(found)
            count -= len(found)
            if not rung:
                del self._rungs[heapq.heappop(self._heap)]
        return np.concatenate(taken)

    def _settle(self, rung: deque[Ints], count: int) -> Ints:
        """Take up to `count` from the front of the lowest rung; those that have outgrown it climb."""
        front = rung.popleft()
        if len(front) > count:
            rung.appendleft(front[count:])
            front = front[:count]
        stays = self._value(front) == self._heap[0]
        if not stays.all():
            self.add(front[~stays])
        settled: Ints = front[stays]
        return settled

    def _append(self, value: int, positions: Ints) -> None:
        if value not in self._rungs:
            self._rungs[value] = deque()
            heapq.heappush(self._heap, value)
        self._rungs[value].append(positions)
