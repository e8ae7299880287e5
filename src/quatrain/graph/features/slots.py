"""Slots of a cache: which position holds which slot, and the memory that holds the rows.

Training and the replay of a trace share `Slots`; a replay has no rows. Number spaces and suffixes: see `cache`.
"""

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
    """Positions and slots of remote vertices."""

    pos_r: Ints
    """-1: not a candidate."""
    slot_r: Ints
    """-1: not cached. capacity + k: row k of the previous batch (see `Slots.carry`)."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """Evicted positions, the positions admitted in their slots, and where the rows of these are found."""

    evicted_pos_a: Ints
    admitted_pos_a: Ints
    source_row_a: Ints
    """Row among the fetched ones (the step's misses, then `extra_pos_e`) or, with `from_previous`, of the previous
    batch."""
    extra_pos_e: Ints
    """Admitted positions that the step does not read."""
    from_previous: bool = False
    slot_a: Ints = field(default_factory=lambda: EMPTY)
    """Slots of the admitted positions, once reserved."""


NO_REPLACEMENT = Replacement(EMPTY, EMPTY, EMPTY, EMPTY)


class Slots:
    """The slot table of a cache: the slot of every candidate."""

    def __init__(self, candidates: Candidates, slot_by_pos: NDArray[np.int32], capacity: int) -> None:
        """Take the candidates, their slots (see `Store.slots`) and the number of slots."""
        self._candidates, self._slot, self._capacity = candidates, slot_by_pos, capacity
        self._previous_pos = EMPTY

    def fill(self, first_pos: Ints) -> None:
        """Put the first positions into the slots 0, 1, 2, ..."""
        self._slot[first_pos] = np.arange(len(first_pos))

    def lookup(self, ids_r: Ints) -> Lookup:
        """Return positions and slots of remote vertices."""
        pos_r = self._candidates.find(ids_r)
        return Lookup(pos_r, self._slot[pos_r].astype(np.int64))

    def plan(self, policy: Policy, lookup: Lookup, others_pos: Ints = EMPTY) -> Replacement:
        """Pass a step to the policy and return the replacement it asks for; the slot table does not change yet.

        `others_pos` are positions that other trainers have read since the last call.
        """
        hit = lookup.slot_r >= 0
        missed = lookup.pos_r[~hit]
        others_hit = self._slot[others_pos] >= 0
        swap = policy.step(
            np.concatenate([lookup.pos_r[hit], others_pos[others_hit]]),
            np.concatenate([missed[missed >= 0], others_pos[~others_hit]]),
        )
        if len(swap.admitted) == 0:
            return NO_REPLACEMENT
        previous_row = self._slot[swap.admitted].astype(np.int64) - self._capacity
        if previous_row[0] >= 0:
            return Replacement(swap.evicted, swap.admitted, previous_row, EMPTY, from_previous=True)
        source_row = self._index_in(missed, swap.admitted)
        extra_pos = swap.admitted[source_row < 0]
        source_row[source_row < 0] = len(missed) + np.arange(len(extra_pos))
        return Replacement(swap.evicted, swap.admitted, source_row, extra_pos)

    def reserve(self, replacement: Replacement) -> Replacement:
        """Evict and admit at once, before the rows arrive; return the replacement with its slots.

        Later steps then find the admitted positions; rows are written in the same order.
        """
        slot_a = self.evict(replacement)
        self.admit(replacement, slot_a)
        return replace(replacement, slot_a=slot_a)

    def evict(self, replacement: Replacement) -> Ints:
        """Remove the evicted positions and return their slots."""
        slot_a = self._slot[replacement.evicted_pos_a].astype(np.int64)
        self._slot[replacement.evicted_pos_a] = -1
        return slot_a

    def admit(self, replacement: Replacement, slot_a: Ints) -> None:
        """Put the admitted positions into `slot_a`."""
        self._slot[replacement.admitted_pos_a] = slot_a

    def carry(self, pos_r: Ints, at_r: Ints) -> None:
        """Let the next step find the rows of this batch, `at_r` being the rows of `pos_r` in it."""
        self._slot[self._previous_pos[self._slot[self._previous_pos] >= self._capacity]] = -1
        new = (pos_r >= 0) & (self._slot[pos_r] < 0)
        self._previous_pos = pos_r[new]
        self._slot[self._previous_pos] = self._capacity + at_r[new]

    def _index_in(self, missed: Ints, admitted: Ints) -> Ints:
        """Return the index of each admitted position in `missed`, -1 if absent; neither array is sorted."""
        self._slot[admitted] = -2 - np.arange(len(admitted))  # admitted positions have no slot yet
        which = -2 - self._slot[missed]
        self._slot[admitted] = -1
        index = np.full(len(admitted), -1, np.int64)
        found = np.flatnonzero(which >= 0)
        index[which[found]] = found
        return index


class Store(Protocol):
    """Memory of a cache, private to one trainer or shared by the trainers of a machine."""

    slots: NDArray[np.int32]
    """Slot of each position, -1: not cached; (candidates + 1,), so that position -1 reads the last entry."""
    rows: Tensor
    """Features, float32 (capacity, F)."""
    leads: bool
    """Whether this trainer runs the policy and writes rows."""
    shared: bool
    """Whether other trainers read the same memory."""

    def ready(self) -> None:
        """Announce that the rows are filled, or wait until they are."""

    def reading(self) -> AbstractContextManager[None]:
        """Hold a lock under which rows and slots do not change."""

    def writing(self) -> AbstractContextManager[None]:
        """Hold a lock under which nobody else reads or writes."""

    def report(self, pos_n: Ints) -> None:
        """Report positions that this trainer read to the one that runs the policy; called under `reading`."""

    def collect(self) -> Ints:
        """Return the positions that other trainers have reported since the last call; called under `writing`."""


class PrivateStore:
    """Memory of one trainer's cache; its locks do nothing."""

    leads, shared = True, False

    def __init__(self, size: int, capacity: int, dim: int) -> None:
        """Allocate `capacity` rows of `dim` numbers and the slot table of `size` candidates."""
        self.slots = np.full(size + 1, -1, np.int32)
        self.rows = torch.empty(capacity, dim)

    def ready(self) -> None:
        """Return at once."""

    def reading(self) -> AbstractContextManager[None]:
        """Return a context without a lock."""
        return nullcontext()

    def writing(self) -> AbstractContextManager[None]:
        """Return a context without a lock."""
        return nullcontext()

    def report(self, pos_n: Ints) -> None:
        """Ignore the positions: the policy of this trainer sees them anyway."""

    def collect(self) -> Ints:
        """Return no positions."""
        return EMPTY
