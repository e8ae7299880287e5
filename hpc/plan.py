"""What a workflow is going to run, as data: for the dry run, and for a walltime that suits the longest task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quatrain.hpc.placement import Placement
from quatrain.hpc.site import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A number of equal tasks."""

    name: str
    shape: Shape
    count: int
    seconds: float
    """Estimate for one task on one worker of that shape."""
    resumable: bool = False
    """True where a task that is cut off goes on from its own checkpoint, so that no walltime need hold it whole."""

    def __post_init__(self) -> None:
        if self.count < 0 or self.seconds < 0:
            raise ValueError(f"step {self.name!r} has {self.count} tasks of {self.seconds} s; both must be at least 0")

    def elapsed_s(self, placement: Placement) -> float:
        """Return the estimated seconds until all of its tasks are done on one block."""
        return math.ceil(self.count / placement.workers(self.shape)) * self.seconds


def longest_s(plan: Sequence[Step], shape: Shape | None = None) -> float:
    """Return the estimated seconds of the longest single task that a walltime must hold whole; 0 without any.

    `shape` names one shape; without it every shape counts.
    """
    whole = [step for step in plan if step.count and not step.resumable]
    return max((step.seconds for step in whole if shape in (None, step.shape)), default=0.0)
