"""Timing model of the prefetch pipeline, and an estimate of what part of the preparation delays training."""

from __future__ import annotations

from collections import deque


class PrefetchPipeline:
    """Finish times of training steps whose batches are prefetched; times in seconds, from 0.

    A batch is prepared after the previous one, and once the batch `depth` before it has begun to train. With depth 0
    it is prepared once the previous batch has trained.
    """

    def __init__(self, depth: int) -> None:
        self._begun: deque[float] = deque([0.0] * depth, maxlen=depth)
        self._ready, self.end = 0.0, 0.0

    def step(self, prepare_s: float, train_s: float) -> None:
        """Add one step."""
        free = self._begun[0] if self._begun else self.end
        self._ready = max(self._ready, free) + prepare_s
        begun = max(self._ready, self.end)
        self._begun.append(begun)
        self.end = begun + train_s


class OverheadEstimate:
    """How much earlier a training would end without one part of its batch preparation."""

    def __init__(self, depth: int) -> None:
        self._full, self._without = PrefetchPipeline(depth), PrefetchPipeline(depth)
        self._taken_s = 0.0

    def step(self, prepare_s: float, part_s: float, train_s: float) -> None:
        """Add one step; `part_s` is the part of `prepare_s` that is estimated."""
        self._full.step(prepare_s, train_s)
        self._without.step(prepare_s - part_s, train_s)

    def take_s(self) -> float:
        """Return the seconds since the last call; below 0 if later steps made up for earlier delays."""
        overhead_s = self._full.end - self._without.end
        new_s, self._taken_s = overhead_s - self._taken_s, overhead_s
        return new_s
