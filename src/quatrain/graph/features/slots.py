"""Who is in the buffer, and in which row: what a buffer with features and a replay without any have in common."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quatrain.graph.features.candidates import Candidates, Ints
from quatrain.graph.features.policy import EMPTY, Policy


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where remote vertices are: `positions` and `slots` (n,), -1 for no candidate and for not in the buffer.

    Slots from the number of rows on are those of the batch before, in its order (see `Slots.carry`).
    """

    positions: Ints
    slots: Ints


@dataclass(frozen=True, slots=True)
class Replacement:
    """Positions that leave, those that come in their place, and `origin`, where the rows of these are to be found.

    That is among the pulled ones, which are a step's misses and behind them `extra`, newcomers that the step does not
    read; or, with `carried`, among those of the batch before.
    """

    leaving: Ints
    coming: Ints
    origin: Ints
    extra: Ints
    carried: bool = False
    slots: Ints = field(default_factory=lambda: EMPTY)
    """Where the newcomers' rows go, once that is settled."""


NO_REPLACEMENT = Replacement(EMPTY, EMPTY, EMPTY, EMPTY)


class Slots:
    """The rows ("slots") of a buffer and the candidates in them."""

    def __init__(self, candidates: Candidates, slots: NDArray[np.int32], rows: int) -> None:
        """Take the candidates, their slots (see `Store.slots`) and the number of rows."""
        self._candidates, self._slot, self._rows = candidates, slots, rows
        self._before = EMPTY

    def begin(self, first: Ints) -> None:
        """Put the first positions into the slots 0, 1, 2, ..."""
        self._slot[first] = np.arange(len(first))

    def find(self, vertices: Ints) -> Lookup:
        """Look `vertices` up."""
        positions = self._candidates.find(vertices)
        return Lookup(positions, self._slot[positions].astype(np.int64))

    def decide(self, policy: Policy, place: Lookup, heard: Ints = EMPTY) -> Replacement:
        """Tell the policy what was found, and what others accessed; return what it wants. Nothing changes yet."""
        inside = place.slots >= 0
        missed = place.positions[~inside]
        there = self._slot[heard] >= 0
        swap = policy.step(
            np.concatenate([place.positions[inside], heard[there]]),
            np.concatenate([missed[missed >= 0], heard[~there]]),
        )
        if len(swap.coming) == 0:
            return NO_REPLACEMENT
        carried = self._slot[swap.coming].astype(np.int64) - self._rows
        if carried[0] >= 0:
            return Replacement(swap.leaving, swap.coming, carried, EMPTY, carried=True)
        origin = self._among(missed, swap.coming)
        extra = swap.coming[origin < 0]
        origin[origin < 0] = len(missed) + np.arange(len(extra))
        return Replacement(swap.leaving, swap.coming, origin, extra)

    def settle(self, change: Replacement) -> Replacement:
        """Let steps to come find the newcomers, whose rows are yet to follow; return the change with their slots."""
        slots = self.leave(change)
        self.come(change, slots)
        return replace(change, slots=slots)

    def leave(self, change: Replacement) -> Ints:
        """Take out those that leave; return their slots."""
        slots = self._slot[change.leaving].astype(np.int64)
        self._slot[change.leaving] = -1
        return slots

    def come(self, change: Replacement, slots: Ints) -> None:
        """Put the newcomers into `slots`."""
        self._slot[change.coming] = slots

    def carry(self, positions: Ints, rows: Ints) -> None:
        """Let the next step find what this one has read, `rows` (n,) being the places of `positions` in its batch."""
        self._slot[self._before[self._slot[self._before] >= self._rows]] = -1
        new = (positions >= 0) & (self._slot[positions] < 0)
        self._before = positions[new]
        self._slot[self._before] = self._rows + rows[new]

    def _among(self, missed: Ints, coming: Ints) -> Ints:
        """Return where each newcomer stands in `missed`, -1 for those that do not; without sorting either."""
        self._slot[coming] = -2 - np.arange(len(coming))  # newcomers have no slot yet
        which = -2 - self._slot[missed]
        self._slot[coming] = -1
        at = np.full(len(coming), -1, np.int64)
        found = np.flatnonzero(which >= 0)
        at[which[found]] = found
        return at


class Store(Protocol):
    """Memory that one buffer has for itself or several buffers of a machine share."""

    slots: NDArray[np.int32]
    """The row of each position, -1 for none; the last one is that of position -1, (candidates + 1,)."""
    rows: Tensor
    """Features, float32 (rows, F)."""
    leads: bool
    """Whether this buffer decides what is kept."""
    shared: bool
    """Whether others read and write too."""

    def ready(self) -> None:
        """Say that the rows are filled, or wait until they are."""

    def reading(self) -> AbstractContextManager[None]:
        """Hold what is in the buffer as it is."""

    def writing(self) -> AbstractContextManager[None]:
        """Keep everyone else from reading and writing."""

    def tell(self, positions: Ints) -> None:
        """Tell the buffer that decides what this one accessed; called while reading."""

    def hear(self) -> Ints:
        """Return what the others have told since; called while writing."""


class PrivateStore:
    """Memory of one buffer."""

    leads, shared = True, False

    def __init__(self, size: int, rows: int, dim: int) -> None:
        """Make room for `rows` rows of `dim` numbers and the places of `size` candidates."""
        self.slots = np.full(size + 1, -1, np.int32)
        self.rows = torch.empty(rows, dim)

    def ready(self) -> None:
        """Nobody waits."""

    def reading(self) -> AbstractContextManager[None]:
        """Nobody else is there."""
        return nullcontext()

    def writing(self) -> AbstractContextManager[None]:
        """Nobody else is there."""
        return nullcontext()

    def tell(self, positions: Ints) -> None:
        """Nobody hears."""

    def hear(self) -> Ints:
        """Nobody tells."""
        return EMPTY
