"""When the steps of a training end whose batches are made ready ahead, and what a part of the making costs it."""

from __future__ import annotations

from collections import deque


class PrefetchPipeline:
    """Steps one after the other: one is prepared after the last and once the one `depth` before it has begun to train.

    With depth 0, once the last one has trained: everything is in turn. Times in seconds, from 0.
    """

    def __init__(self, depth: int) -> None:
        self._begun: deque[float] = deque([0.0] * depth, maxlen=depth)
        self._ready, self.end = 0.0, 0.0

    def step(self, prepare_s: float, train_s: float) -> None:
        """Go through one more step."""
        room = self._begun[0] if self._begun else self.end
        self._ready = max(self._ready, room) + prepare_s
        begun = max(self._ready, self.end)
        self._begun.append(begun)
        self.end = begun + train_s


class OverheadEstimate:
    """How much sooner a training would be there without one part of the work that makes its batches ready."""

    def __init__(self, depth: int) -> None:
        self._as_is, self._without = PrefetchPipeline(depth), PrefetchPipeline(depth)
        self._taken_s = 0.0

    def step(self, prepare_s: float, part_s: float, train_s: float) -> None:
        """Go through one more step, `part_s` of whose `prepare_s` are looked at."""
        self._as_is.step(prepare_s, train_s)
        self._without.step(prepare_s - part_s, train_s)

    def take(self) -> float:
        """Return the seconds that came to be spared since the last time; below 0 where steps made up for others."""
        spared_s = self._as_is.end - self._without.end
        taken_s, self._taken_s = spared_s - self._taken_s, spared_s
        return taken_s
