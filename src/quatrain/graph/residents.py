"""Who is in the buffer, and in which row: what a buffer with features and a replay without any have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quatrain.graph.halo import Candidates, Ints
from quatrain.graph.policy import NOBODY, Policy


@dataclass(frozen=True, slots=True)
class Place:
    """Where remote vertices are: `positions` and `slots` (n,), -1 for no candidate and for not in the buffer."""

    positions: Ints
    slots: Ints


@dataclass(frozen=True, slots=True)
class Change:
    """Positions that leave, those that come in their place, and where the rows of these are among the pulled ones.

    Pulled are a step's misses and, behind them, `extra`: newcomers that the step does not read.
    """

    leaving: Ints
    coming: Ints
    pulled: Ints
    extra: Ints


NO_CHANGE = Change(NOBODY, NOBODY, NOBODY, NOBODY)


class Residents:
    """The rows ("slots") of a buffer and the candidates in them."""

    def __init__(self, candidates: Candidates, slots: NDArray[np.int32]) -> None:
        """Take the candidates and their slots (see `Store.slots`)."""
        self._candidates, self._slot = candidates, slots

    def begin(self, policy: Policy) -> Ints:
        """Let the policy fill the slots 0, 1, 2, ...; return the positions in them."""
        first = policy.fill()
        self._slot[first] = np.arange(len(first))
        return first

    def find(self, vertices: Ints) -> Place:
        """Look `vertices` up."""
        positions = self._candidates.find(vertices)
        return Place(positions, self._slot[positions].astype(np.int64))

    def decide(self, policy: Policy, place: Place, heard: Ints = NOBODY) -> Change:
        """Tell the policy what was found, and what others accessed; return what it wants. Nothing changes yet."""
        inside = place.slots >= 0
        missed = place.positions[~inside]
        there = self._slot[heard] >= 0
        swap = policy.step(
            np.concatenate([place.positions[inside], heard[there]]),
            np.concatenate([missed[missed >= 0], heard[~there]]),
        )
        if len(swap.coming) == 0:
            return NO_CHANGE
        pulled = self._among(missed, swap.coming)
        extra = swap.coming[pulled < 0]
        pulled[pulled < 0] = len(missed) + np.arange(len(extra))
        return Change(swap.leaving, swap.coming, pulled, extra)

    def leave(self, change: Change) -> Ints:
        """Take out those that leave; return their slots."""
        slots = self._slot[change.leaving].astype(np.int64)
        self._slot[change.leaving] = -1
        return slots

    def come(self, change: Change, slots: Ints) -> None:
        """Put the newcomers into `slots`."""
        self._slot[change.coming] = slots

    def _among(self, missed: Ints, coming: Ints) -> Ints:
        """Return where each newcomer stands in `missed`, -1 for those that do not; without sorting either."""
        self._slot[coming] = -2 - np.arange(len(coming))  # newcomers have no slot yet
        which = -2 - self._slot[missed]
        self._slot[coming] = -1
        at = np.full(len(coming), -1, np.int64)
        found = np.flatnonzero(which >= 0)
        at[which[found]] = found
        return at
