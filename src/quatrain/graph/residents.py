"""Who is in the buffer, and in which row: what a buffer with features and a replay without any have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.graph.halo import Candidates, Ints
from quatrain.graph.policy import Policy, Swap


@dataclass(frozen=True, slots=True)
class Place:
    """Where remote vertices are: `positions` and `slots` (n,), -1 for no candidate and for not in the buffer."""

    positions: Ints
    slots: Ints


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

    def decide(self, place: Place) -> Swap:
        """Tell the policy what was found and return what it wants changed; nothing changes yet."""
        inside = place.slots >= 0
        missed = place.positions[~inside]
        return self._policy.step(place.positions[inside], missed[missed >= 0])

    def replace(self, swap: Swap) -> Ints:
        """Carry a swap out; return the slots of the newcomers."""
        slots = self._slot[swap.leaving]
        self._slot[swap.leaving] = -1
        self._slot[swap.coming] = slots
        return slots.astype(np.int64)
