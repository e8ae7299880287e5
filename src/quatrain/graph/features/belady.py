"""Belady's rule on announced accesses: the policy `belady`.

A sampling seed fixes which vertices each step reads. Sampling therefore runs `window` steps ahead of reading, as in
RapidGNN. A fetched row is cached if its next use is earlier than that of a cached row, which it replaces. This is
Belady's rule with bypass: no other policy has more hits. Beyond the window nothing is known, and rows without a known
use are evicted first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from quatrain.graph.features.candidates import Ints
from quatrain.graph.features.policy import EMPTY, NO_SWAP, PolicyInputs, Swap, distinct

Steps = NDArray[np.int32]
NEVER = np.iinfo(np.int32).max
"""Step of a next use that is unknown."""
_INT16_MAX = np.iinfo(np.int16).max


class BeladyPolicy:
    """Belady's rule within a window. The cost of a step grows with its accesses, not with the size of the halo."""

    def __init__(self, inputs: PolicyInputs) -> None:
        self._inputs, self._step = inputs, 0
        self._window_steps, self._carries = inputs.config.effective_window, inputs.config.effective_carry
        self._window = _Window(inputs.accesses, inputs.candidates.size)
        self._queue = NextUseQueue(self._window, inputs)
        self._previous: tuple[Ints, Steps] = EMPTY, np.empty(0, np.int32)  # only in the previous batch (carry)

    def fill(self) -> Ints:
        """Return the positions that are read first; if there are fewer than rows, add those of highest in-degree."""
        self._look_ahead()
        first, steps = self._window.first_uses(self._inputs.capacity)
        chosen = self._inputs.filled_by_degree(first)
        self._queue.put(chosen, np.concatenate([steps, np.full(len(chosen) - len(steps), NEVER, np.int32)]))
        return chosen

    def step(self, hits: Ints, misses: Ints) -> Swap:
        """Admit misses whose next use is earlier than that of the rows they replace.

        After the last announced step nothing changes. ValueError when a step does not match its announcement.
        """
        self._look_ahead()
        if not self._window.steps:
            return NO_SWAP
        pos, next_use, announced = self._window.pop()
        if announced != _checksum(np.concatenate([hits, misses])):
            raise ValueError(
                f"batch {self._step} does not match the one announced to the cache policy. "
                "Use the same seed and batch order."
            )
        self._queue.clear(self._step)
        self._step += 1
        if self._carries:
            return self._step_with_previous(pos, next_use)
        cached = self._queue.contains(pos)
        self._queue.put(pos[cached], next_use[cached])
        return self._swap(pos[~cached], next_use[~cached])

    def _step_with_previous(self, pos: Ints, next_use: Steps) -> Swap:
        """Admit rows of the previous batch; evict first what the present batch holds anyway.

        A row thus needs a slot only while neither the previous batch nor the present one holds it.
        """
        previous, then = self._previous
        unread = then >= self._step  # the present step does not read it
        cached = np.flatnonzero(self._queue.contains(pos))
        cached = cached[self._by_step(next_use[cached])[::-1]]
        free = cached[: np.count_nonzero(unread & (then != NEVER))]
        self._queue.remove(pos[free])
        self._queue.put(pos[cached[len(free) :]], next_use[cached[len(free) :]])
        swap = self._swap(previous[unread], then[unread], pos[free])
        outside = ~self._queue.contains(pos)
        self._previous = pos[outside], next_use[outside]
        return swap

    def _swap(self, candidates: Ints, next_use: Steps, free: Ints = EMPTY) -> Swap:
        """Admit the `candidates` used soonest: for those in `free`, then for cached rows that are used later."""
        order = self._by_step(next_use)
        order = order[: np.searchsorted(next_use[order], NEVER)]
        evicted = np.concatenate([free, self._queue.pop_later_than(next_use[order[len(free) :]])])
        order = order[: len(evicted)]
        self._queue.put(candidates[order], next_use[order])
        return Swap(evicted, candidates[order])

    def _by_step(self, next_use: Steps) -> Ints:
        """Return the indices that sort steps in ascending order."""
        if self._window_steps > _INT16_MAX - 2:
            return np.argsort(next_use, kind="stable")
        ahead = np.minimum(next_use - self._step, _INT16_MAX).astype(np.int16)  # radix sort, 4 times as fast
        return np.argsort(ahead, kind="stable")

    def _look_ahead(self) -> None:
        while len(self._window.steps) <= self._window_steps:
            announced = self._window.grow()
            if announced is None:
                return
            self._queue.promote(*announced)


class _Window:
    """The announced steps, and for each of their accesses the step in which the same position is read next."""

    def __init__(self, accesses: Iterable[Ints], size: int) -> None:
        self._accesses = iter(accesses)
        self.steps: deque[tuple[int, Ints, tuple[int, int]]] = deque()
        """Per step: number of its first access, its distinct positions, and the checksum of its announcement."""
        self._grown = self._begin = self._end = self._offset = 0  # accesses are numbered consecutively
        self._latest = np.full(size, -1, np.int64)  # number of the last announced access of each position
        self._next_use = np.empty(1 << 10, np.int32)  # by number - offset

    def pending(self, pos_n: Ints) -> NDArray[np.bool_]:
        """Return whether each position is read within the window, (n,)."""
        return self._latest[pos_n] >= self._begin

    def grow(self) -> tuple[Ints, int] | None:
        """Add one step; return its positions that were not pending before, and its number. None after the last."""
        accessed = next(self._accesses, None)
        if accessed is None:
            return None
        pos, step = distinct(accessed), self._grown
        pending = self.pending(pos)
        self._reserve(len(pos))
        self._next_use[self._latest[pos[pending]] - self._offset] = step
        begin, self._end, self._grown = self._end, self._end + len(pos), step + 1
        self._next_use[begin - self._offset : self._end - self._offset] = NEVER
        self._latest[pos] = np.arange(begin, self._end)
        self.steps.append((begin, pos, _checksum(accessed)))
        return pos[~pending], step

    def pop(self) -> tuple[Ints, Steps, tuple[int, int]]:
        """Remove the first step; return its distinct positions, the steps of their next uses, and its checksum."""
        begin, pos, checksum = self.steps.popleft()
        self._begin = begin + len(pos)
        return pos, self._next_use[begin - self._offset : self._begin - self._offset].copy(), checksum

    def first_uses(self, count: int) -> tuple[Ints, Steps]:
        """Return up to `count` positions by the step of their first use, and these steps."""
        pos, steps = [EMPTY], [np.empty(0, np.int32)]
        for step, (_, accessed, _) in enumerate(self.steps):
            pos.append(accessed)
            steps.append(np.full(len(accessed), step, np.int32))
        all_pos = np.concatenate(pos)
        first = np.sort(np.unique(all_pos, return_index=True)[1])[:count]
        return all_pos[first], np.concatenate(steps)[first]

    def _reserve(self, count: int) -> None:
        """Allocate space for `count` more accesses: drop past ones, and double the array if that is not enough."""
        if self._end - self._offset + count <= len(self._next_use):
            return
        live = self._next_use[self._begin - self._offset : self._end - self._offset]
        grown = np.empty(max(len(self._next_use), 2 * (len(live) + count)), np.int32)
        grown[: len(live)] = live
        self._next_use, self._offset = grown, self._begin


class NextUseQueue:
    """The cached positions, grouped by the step of their next use."""

    def __init__(self, window: _Window, inputs: PolicyInputs) -> None:
        self._window = window
        self._cached = np.zeros(inputs.candidates.size, bool)
        self._by_step: dict[int, list[Ints]] = {}
        self._never: list[Ints] = []  # no use known when put; may hold positions that were used or evicted since
        self._never_count, self._never_most = 0, 2 * inputs.capacity + 1024

    def contains(self, pos_n: Ints) -> NDArray[np.bool_]:
        """Return whether each position is cached, (n,)."""
        return self._cached[pos_n]

    def put(self, pos_n: Ints, next_use_n: Steps) -> None:
        """Add positions, or move cached ones, to the groups of their next uses."""
        self._cached[pos_n] = True
        order = np.argsort(next_use_n, kind="stable")
        pos_n, next_use_n = pos_n[order], next_use_n[order]
        for group in np.split(np.arange(len(order)), np.flatnonzero(np.diff(next_use_n)) + 1):
            if len(group):
                self._append(pos_n[group], int(next_use_n[group[0]]))

    def promote(self, pos_n: Ints, step: int) -> None:
        """Register that positions without a known use are used in `step`."""
        cached = pos_n[self._cached[pos_n]]
        if len(cached):
            self._append(cached, step)

    def remove(self, pos_n: Ints) -> None:
        """Remove positions that are in no group, since the group of the present step is being cleared."""
        self._cached[pos_n] = False

    def clear(self, step: int) -> None:
        """Drop the group of `step`, whose positions are used now and put again."""
        self._by_step.pop(step, None)

    def pop_later_than(self, next_use_n: Steps) -> Ints:
        """Remove and return the positions used last, each later than its replacement; `next_use_n` ascends."""
        taken = [EMPTY, *self._pop_never(len(next_use_n))]
        count = sum(map(len, taken))
        for step in sorted(self._by_step, reverse=True):
            most = int(np.searchsorted(next_use_n, step))
            while count < most and step in self._by_step:
                taken.append(self._pop_group(step, most - count))
                count += len(taken[-1])
            if count >= most:
                break
        evicted = np.concatenate(taken)
        self._cached[evicted] = False
        return evicted

    def _pop_group(self, step: int, count: int) -> Ints:
        group = self._by_step[step]
        last = group.pop()
        if len(last) > count:
            group.append(last[count:])
        if not group:
            del self._by_step[step]
        return last[:count]

    def _pop_never(self, count: int) -> Iterator[Ints]:
        """Remove and yield up to `count` positions without a known use."""
        while count > 0 and self._never:
            chunk = self._never.pop()
            self._never_count -= len(chunk)
            chunk = self._still_unused(chunk)
            if len(chunk) > count:
                self._append(chunk[count:], NEVER)
            chunk = chunk[:count]
            self._cached[chunk] = False  # a repeat in an earlier chunk is skipped
            count -= len(chunk)
            yield chunk

    def _still_unused(self, pos_n: Ints) -> Ints:
        """Return those that are cached and still without a known use, without repeats."""
        return distinct(pos_n[self._cached[pos_n] & ~self._window.pending(pos_n)])

    def _append(self, pos_n: Ints, step: int) -> None:
        if step != NEVER:
            self._by_step.setdefault(step, []).append(pos_n)
            return
        self._never.append(pos_n)
        self._never_count += len(pos_n)
        if self._never_count > self._never_most:  # amortised: each repeat belongs to one access
            self._never = [self._still_unused(np.concatenate(self._never))]
            self._never_count = len(self._never[0])


def _checksum(pos_n: Ints) -> tuple[int, int]:
    return len(pos_n), int(pos_n.sum())
