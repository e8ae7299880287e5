"""Who is in the buffer, and in which row: what a buffer with features and a replay without any have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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


_NONE = Change(NOBODY, NOBODY, NOBODY, NOBODY)


class Residents:
    """The rows ("slots") of a buffer and the candidates in them."""

    def __init__(self, candidates: Candidates, policy: Policy) -> None:
        self._candidates, self._policy = candidates, policy
        self.initial = policy.fill()
        """Positions that fill the slots 0, 1, 2, ... at the beginning."""
        self._slot = np.full(candidates.size + 1, -1, np.int32)  # the last one is that of position -1
        self._slot[self.initial] = np.arange(len(self.initial))

    def find(self, vertices: Ints) -> Place:
        """Look `vertices` up."""
        positions = self._candidates.find(vertices)
        return Place(positions, self._slot[positions].astype(np.int64))

    def decide(self, place: Place) -> Change:
        """Tell the policy what was found and return what it wants changed; nothing changes yet."""
        inside = place.slots >= 0
        missed = place.positions[~inside]
        swap = self._policy.step(place.positions[inside], missed[missed >= 0])
        if len(swap.coming) == 0:
            return _NONE
        pulled = self._among(missed, swap.coming)
        extra = swap.coming[pulled < 0]
        pulled[pulled < 0] = len(missed) + np.arange(len(extra))
        return Change(swap.leaving, swap.coming, pulled, extra)

    def replace(self, change: Change) -> Ints:
        """Carry a change out; return the slots of the newcomers."""
        slots = self._slot[change.leaving]
        self._slot[change.leaving] = -1
        self._slot[change.coming] = slots
        return slots.astype(np.int64)

    def _among(self, missed: Ints, coming: Ints) -> Ints:
        """Return where each newcomer stands in `missed`, -1 for those that do not; without sorting either."""
        self._slot[coming] = -2 - np.arange(len(coming))  # newcomers have no slot yet
        which = -2 - self._slot[missed]
        self._slot[coming] = -1
        at = np.full(len(coming), -1, np.int64)
        found = np.flatnonzero(which >= 0)
        at[which[found]] = found
        return at
