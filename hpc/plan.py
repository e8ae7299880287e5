"""The planned tasks of a workflow, for the dry run and for the check of the walltime."""

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
    """True if an interrupted task resumes from its own checkpoint; then it need not fit into one walltime."""

    def __post_init__(self) -> None:
        if self.count < 0 or self.seconds < 0:
            raise ValueError(f"step {self.name!r} has {self.count} tasks of {self.seconds} s; both must be at least 0")

    def elapsed_s(self, placement: Placement) -> float:
        """Return the estimated seconds until all of its tasks are done on one block."""
        return math.ceil(self.count / placement.workers(self.shape)) * self.seconds


def longest_s(plan: Sequence[Step], shape: Shape | None = None) -> float:
    """Return the estimated seconds of the longest task that must fit into one walltime; 0 without such tasks.

    `shape` names one shape; without it every shape counts.
    """
    whole = [step for step in plan if step.count and not step.resumable]
    return max((step.seconds for step in whole if shape in (None, step.shape)), default=0.0)
