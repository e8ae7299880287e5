"""The policy that knows what comes: keep what is used soonest.

A sampling seed fixes which vertices every step reads, so sampling may run `window` steps ahead of reading (RapidGNN's
idea). A row that was pulled stays exactly if its next use comes before that of a row that is there (Belady's rule, with
the choice not to keep), which no other rule beats; beyond the window nothing is known, and such rows leave first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from quatrain.graph.features.candidates import Ints
from quatrain.graph.features.policy import EMPTY, NO_SWAP, PolicyInputs, Swap, distinct

Batch = TypeVar("Batch")
NEVER = np.iinfo(np.int32).max
"""The step of a use that is not known of."""
_NARROW = np.iinfo(np.int16).max


def foresee(batches: Iterable[Batch], vertices: Callable[[Batch], Any]) -> tuple[Iterator[Batch], Iterator[Any]]:
    """Split sampled batches into themselves and what they will access, for a policy that foresees.

    A batch is sampled when the first of the two asks for it, and kept until the other has taken it: the policy asks
    `window` steps ahead, so that many sampled batches (without features) are in memory. Both belong to one thread.
    """
    now, ahead = tee(batches)
    return now, (vertices(batch) for batch in ahead)


class BeladyPolicy:
    """Belady's rule within a window. A step costs as much as its accesses, whatever the size of the halo."""

    def __init__(self, setting: PolicyInputs) -> None:
        self._setting, self._step = setting, 0
        self._window = _Window(setting.accesses, setting.candidates.size)
        self._shelves = NextUseQueue(self._window, setting)

        self._before: tuple[Ints, NDArray[np.int32]] = EMPTY, np.empty(0, np.int32)  # what carry still has

    def fill(self) -> Ints:
        """Return the first to be used, filled up by degree."""
        self._look_ahead()
        first, steps = self._window.first_uses(self._setting.rows)
        chosen = self._setting.filled_up(first)
        self._shelves.put(chosen, np.concatenate([steps, np.full(len(chosen) - len(steps), NEVER, np.int32)]))
        return chosen

    def step(self, hits: Ints, misses: Ints) -> Swap:
        """Let misses in whose next use comes before that of what they replace; ValueError when told otherwise.

        After the last told step everything stays as it is.
        """
        self._look_ahead()
        if not self._window.steps:
            return NO_SWAP
        positions, following, asked = self._window.pop()
        if asked != _sums(np.concatenate([hits, misses])):
            raise ValueError(f"step {self._step} reads other vertices than were foretold: same seed, same order?")
        self._shelves.clear(self._step)
        self._step += 1
        if self._setting.config.carries:
            return self._carry(positions, following)
        inside = self._shelves.holds(positions)
        self._shelves.put(positions[inside], following[inside])
        return self._swap(positions[~inside], following[~inside])

    def _carry(self, positions: Ints, following: NDArray[np.int32]) -> Swap:
        """Let in what only the batch before still has; first to leave is what this batch has, which is not lost.

        So a row takes room in the buffer only while neither the batch before nor the one at hand has it.
        """
        before, then = self._before
        again = then >= self._step  # else this step has just read it
        inside = np.flatnonzero(self._shelves.holds(positions))
        inside = inside[self._by_step(following[inside])[::-1]]
        free = inside[: np.count_nonzero(again & (then != NEVER))]
        self._shelves.remove(positions[free])
        self._shelves.put(positions[inside[len(free) :]], following[inside[len(free) :]])
        swap = self._swap(before[again], then[again], positions[free])
        left = ~self._shelves.holds(positions)
        self._before = positions[left], following[left]
        return swap

    def _swap(self, missed: Ints, following: NDArray[np.int32], free: Ints = EMPTY) -> Swap:
        """Let the soonest of `missed` in, for those in `free` and then for what is used later than they are."""
        order = self._by_step(following)
        order = order[: np.searchsorted(following[order], NEVER)]
        leaving = np.concatenate([free, self._shelves.farthest(following[order[len(free) :]])])
        order = order[: len(leaving)]
        self._shelves.put(missed[order], following[order])
        return Swap(leaving, missed[order])

    def _by_step(self, following: NDArray[np.int32]) -> Ints:
        """Return the order of ascending steps."""
        if self._setting.config.known_steps > _NARROW - 2:
            return np.argsort(following, kind="stable")
        ahead = np.minimum(following - self._step, _NARROW).astype(np.int16)  # numpy sorts these by radix, 4 x as fast
        return np.argsort(ahead, kind="stable")

    def _look_ahead(self) -> None:
        while len(self._window.steps) <= self._setting.config.known_steps:
            told = self._window.grow()
            if told is None:
                return
            self._shelves.promote(*told)


class _Window:
    """The steps known in advance, and for each of their accesses the step of the position's next one."""

    def __init__(self, accesses: Iterable[Ints], size: int) -> None:
        self._accesses = iter(accesses)
        self.steps: deque[tuple[int, Ints, tuple[int, int]]] = deque()
        """Number of the first access, distinct positions, and the sums of what was told, of each step."""
        self._grown = self._begin = self._end = self._offset = 0  # accesses are numbered through
        self._latest = np.full(size, -1, np.int64)  # number of the last known access of each position
        self._following = np.empty(1 << 10, np.int32)  # by number - offset

    def pending(self, positions: Ints) -> NDArray[np.bool_]:
        """Tell which positions are accessed in the window."""
        return self._latest[positions] >= self._begin

    def grow(self) -> tuple[Ints, int] | None:
        """Learn one more step; return the positions that were not pending and its number; None after the last."""
        told = next(self._accesses, None)
        if told is None:
            return None
        positions, step = distinct(told), self._grown
        pending = self.pending(positions)
        self._reserve(len(positions))
        self._following[self._latest[positions[pending]] - self._offset] = step
        begin, self._end, self._grown = self._end, self._end + len(positions), step + 1
        self._following[begin - self._offset : self._end - self._offset] = NEVER
        self._latest[positions] = np.arange(begin, self._end)
        self.steps.append((begin, positions, _sums(told)))
        return positions[~pending], step

    def pop(self) -> tuple[Ints, NDArray[np.int32], tuple[int, int]]:
        """Take the first step: distinct positions, the steps of their next accesses, sums of what was told."""
        begin, positions, asked = self.steps.popleft()
        self._begin = begin + len(positions)
        return positions, self._following[begin - self._offset : self._begin - self._offset].copy(), asked

    def first_uses(self, count: int) -> tuple[Ints, NDArray[np.int32]]:
        """Return up to `count` positions by the step of their first access, and these steps."""
        positions, steps = [EMPTY], [np.empty(0, np.int32)]
        for step, (_, accessed, _) in enumerate(self.steps):
            positions.append(accessed)
            steps.append(np.full(len(accessed), step, np.int32))
        every = np.concatenate(positions)
        at = np.sort(np.unique(every, return_index=True)[1])[:count]
        return every[at], np.concatenate(steps)[at]

    def _reserve(self, count: int) -> None:
        """Make room for `count` more accesses, by dropping the past and doubling where that is not enough."""
        if self._end - self._offset + count <= len(self._following):
            return
        live = self._following[self._begin - self._offset : self._end - self._offset]
        grown = np.empty(max(len(self._following), 2 * (len(live) + count)), np.int32)
        grown[: len(live)] = live
        self._following, self._offset = grown, self._begin


class NextUseQueue:
    """Who is in the buffer, by the step of the next use."""

    def __init__(self, window: _Window, setting: PolicyInputs) -> None:
        self._window = window
        self._inside = np.zeros(setting.candidates.size, bool)
        self._shelf: dict[int, list[Ints]] = {}
        self._never: list[Ints] = []  # no use known when put there; those used or gone since are among it
        self._never_count, self._most = 0, 2 * setting.rows + 1024

    def holds(self, positions: Ints) -> NDArray[np.bool_]:
        """Tell which positions are in the buffer."""
        return self._inside[positions]

    def put(self, positions: Ints, following: NDArray[np.int32]) -> None:
        """Put positions into the buffer, or put those in it anew, by the steps of their next use."""
        self._inside[positions] = True
        order = np.argsort(following, kind="stable")
        positions, following = positions[order], following[order]
        for group in np.split(np.arange(len(order)), np.flatnonzero(np.diff(following)) + 1):
            if len(group):
                self._append(positions[group], int(following[group[0]]))

    def promote(self, positions: Ints, step: int) -> None:
        """Learn that positions of which no use was known will be used in `step`."""
        inside = positions[self._inside[positions]]
        if len(inside):
            self._append(inside, step)

    def remove(self, positions: Ints) -> None:
        """Take out positions that stand on no shelf, since their step is being cleared."""
        self._inside[positions] = False

    def clear(self, step: int) -> None:
        """Forget a shelf whose positions are used now and put anew."""
        self._shelf.pop(step, None)

    def farthest(self, sooner: NDArray[np.int32]) -> Ints:
        """Take out the positions used last, each later than its newcomer, whose next uses `sooner` ascend."""
        taken = [EMPTY, *self._forgotten(len(sooner))]
        count = sum(map(len, taken))
        for step in sorted(self._shelf, reverse=True):
            most = int(np.searchsorted(sooner, step))
            while count < most and step in self._shelf:
                taken.append(self._take(step, most - count))
                count += len(taken[-1])
            if count >= most:
                break
        leaving = np.concatenate(taken)
        self._inside[leaving] = False
        return leaving

    def _take(self, step: int, count: int) -> Ints:
        shelf = self._shelf[step]
        last = shelf.pop()
        if len(last) > count:
            shelf.append(last[count:])
        if not shelf:
            del self._shelf[step]
        return last[:count]

    def _forgotten(self, count: int) -> Iterator[Ints]:
        """Take out up to `count` positions of which no use is known."""
        while count > 0 and self._never:
            chunk = self._never.pop()
            self._never_count -= len(chunk)
            chunk = self._still(chunk)
            if len(chunk) > count:
                self._append(chunk[count:], NEVER)
            chunk = chunk[:count]
            self._inside[chunk] = False  # a repeat of it further down is passed over
            count -= len(chunk)
            yield chunk

    def _still(self, positions: Ints) -> Ints:
        """Return those that are in the buffer and still without a known use, once each."""
        return distinct(positions[self._inside[positions] & ~self._window.pending(positions)])

    def _append(self, positions: Ints, step: int) -> None:
        if step != NEVER:
            self._shelf.setdefault(step, []).append(positions)
            return
        self._never.append(positions)
        self._never_count += len(positions)
        if self._never_count > self._most:  # each repeat was paid for by an access
            self._never = [self._still(np.concatenate(self._never))]
            self._never_count = len(self._never[0])


def _sums(positions: Ints) -> tuple[int, int]:
    return len(positions), int(positions.sum())
