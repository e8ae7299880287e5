"""What stays in the buffer: one small class a policy, known by name.

A policy sees positions (see `halo`) and nothing else: which of a step's accesses were in the buffer and which were not.
It answers with what leaves and what comes. It keeps no features, so that a recorded trace can be replayed through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from quatrain.errors import UsageError
from quatrain.graph.halo import Candidates, Ints
from quatrain.graph.settings_buffer import FORESEEING, BufferConfig

NOBODY: Ints = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Swap:
    """Positions that leave the buffer and positions that take their place, equally many and without repeats."""

    leaving: Ints = field(default_factory=lambda: NOBODY)
    coming: Ints = field(default_factory=lambda: NOBODY)


STAY = Swap()


class Policy(Protocol):
    """Decides what a buffer of a fixed number of rows holds."""

    def fill(self) -> Ints:
        """Return the positions to begin with, as many as there are rows; called once, first."""

    def step(self, hits: Ints, misses: Ints) -> Swap:
        """Learn the positions that one step found in the buffer and those that it did not; positions may repeat."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a policy is made from."""

    config: BufferConfig
    rows: int
    candidates: Candidates
    accesses: Iterable[Ints] | None = None
    """Positions that each step to come will access, remote candidates only."""


class StaticDegree:
    """The candidates of highest in-degree, for good: the published scheme without eviction."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def fill(self) -> Ints:
        """Return the first `rows` by degree."""
        return self._setting.candidates.likeliest(self._setting.rows)

    def step(self, hits: Ints, misses: Ints) -> Swap:  # noqa: ARG002 - the protocol's
        """Leave everything as it is."""
        return STAY


POLICIES: dict[str, Callable[[Setting], Policy]] = {"none": StaticDegree, "static-degree": StaticDegree}


def make_policy(
    config: BufferConfig, candidates: Candidates, rows: int, accesses: Iterable[Any] | None = None
) -> Policy:
    """Return a new policy; `accesses` tells the vertices of each step to come, for those that foresee.

    Its items are arrays or CPU tensors of global ids; what is no candidate is passed over. UsageError without it.
    """
    if config.policy in FORESEEING and accesses is None:
        raise UsageError(f"the policy {config.policy!r} must be told the accesses to come; choose another or pass them")
    told = None if accesses is None else (_positions(candidates, vertices) for vertices in accesses)
    return POLICIES[config.policy](Setting(config=config, rows=rows, candidates=candidates, accesses=told))


def _positions(candidates: Candidates, vertices: Any) -> Ints:
    found = candidates.find(np.asarray(vertices, dtype=np.int64))
    return found[found >= 0]
