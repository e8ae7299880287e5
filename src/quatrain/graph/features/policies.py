"""What stays in the buffer: one small class a policy, known by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.errors import UsageError
from quatrain.graph.config import FORESEEING, CacheConfig
from quatrain.graph.features.belady import BeladyPolicy
from quatrain.graph.features.candidates import Candidates, Ints
from quatrain.graph.features.count_heap import CountHeap
from quatrain.graph.features.policy import EMPTY, NO_SWAP, Policy, PolicyInputs, Swap, distinct

TIE = 1e-9
"""Steps within which a score counts as equal to the threshold: logarithms of equal scores may differ by rounding."""


class StaticDegreePolicy:
    """The candidates of highest in-degree, for good: the published scheme without eviction."""

    def __init__(self, setting: PolicyInputs) -> None:
        self._setting = setting

    def fill(self) -> Ints:
        """Return the first by degree."""
        return self._setting.candidates.top_by_degree(self._setting.rows)

    def step(self, hits: Ints, misses: Ints) -> Swap:  # noqa: ARG002 - the protocol's
        """Leave everything as it is."""
        return NO_SWAP


class PresamplePolicy(StaticDegreePolicy):
    """The candidates that the first `window` told steps access most, for good (GNNLab's pre-sampling)."""

    def fill(self) -> Ints:
        """Return the first by the number of steps that access them, by degree among equals."""
        told = islice(self._setting.accesses, self._setting.config.known_steps)
        return most_accessed(self._setting, [distinct(positions) for positions in told])


def most_accessed(setting: PolicyInputs, accesses: list[Ints]) -> Ints:
    """Return the positions to fill a buffer with that most of the steps `accesses` contain, by degree among equals."""
    seen, counts = np.unique(np.concatenate([EMPTY, *accesses]), return_counts=True)
    order = np.lexsort((seen, -setting.candidates.degrees(seen), -counts))
    return setting.filled_up(seen[order])


class LfuPolicy:
    """Swap if higher: a vertex just pulled replaces a buffered one that fewer steps accessed, all steps counted.

    Newcomers are among the step's own misses, so they cost no byte. The lowest of the buffer stand first on a ladder:
    a step costs as much as its accesses, whatever the size of the halo.
    """

    def __init__(self, setting: PolicyInputs) -> None:
        self._setting = setting
        self._interval, self._steps = setting.config.interval, 0
        self._counts = np.zeros(setting.candidates.size, np.int32)
        self._ladder = CountHeap(lambda positions: self._counts[positions].astype(np.int64))

    def fill(self) -> Ints:
        """Return the first by degree; the last of them is the first to leave."""
        first = self._setting.candidates.top_by_degree(self._setting.rows)
        self._ladder.add(first[::-1])
        return first

    def step(self, hits: Ints, misses: Ints) -> Swap:
        """Count, and every `interval` steps swap the lowest rows for misses that were accessed more often."""
        self._steps += 1
        self._counts[hits] += 1  # a repeat within a step counts once
        self._counts[misses] += 1
        floor = self._ladder.floor()
        if self._steps % self._interval or floor is None:
            return NO_SWAP
        coming = distinct(misses[self._counts[misses] > floor])
        return self._swap(coming[np.argsort(-self._counts[coming], kind="stable")])

    def _swap(self, coming: Ints) -> Swap:
        """Let those of `coming` in, in descending order of counts, that beat the lowest, in ascending order."""
        leaving = self._ladder.beaten_by(self._counts[coming].astype(np.int64))
        coming = coming[: len(leaving)]
        self._ladder.add(coming)
        return Swap(leaving, coming)


class PaperPolicy:
    """The scheme of MassiveGNN (arXiv 2410.22697): rows whose recency has decayed give way to vertices missed often.

    A buffered row has a score S_E that each step without a use multiplies by gamma; every delta steps the rows with
    S_E < alpha = gamma**delta change places with the most missed candidates, S_A accesses while not buffered.

    S_E is never touched: S_E = s gamma**(t - b - u) for a row that came at step b with score s and was used in u steps,
    so one number a row, its origin o = b + u - log_gamma(s), tells S_E = gamma**(t - o) at any step t. A use adds 1 to
    the origin. For s = 1 this is exact, and so is the comparison with alpha, which is t - o > delta.
    An eviction looks at the buffer and at all that was missed: its cost is spread over delta steps.
    """

    def __init__(self, setting: PolicyInputs) -> None:
        config = setting.config
        self._setting, self._config, self._step = setting, config, 0
        self._log_decay, self._patience = math.log(config.decay), _patience(config)
        self._score = np.zeros(setting.candidates.size)  # S_A outside the buffer, the origin inside
        self._inside = np.zeros(setting.candidates.size, bool)
        self._residents = EMPTY
        self._missed: list[Ints] = []  # everything with S_A > 0, repeats and since buffered ones among it

    def fill(self) -> Ints:
        """Return the first by degree, each with S_E = 1."""
        first = self._setting.candidates.top_by_degree(self._setting.rows)
        self._residents = first.copy()
        self._inside[first] = True
        return first

    def step(self, hits: Ints, misses: Ints) -> Swap:
        """Score a step and, every `interval` steps, evict."""
        self._step += 1
        self._score[hits] += 1  # a repeat within a step counts once
        evicts = self._step % self._config.interval == 0
        if self._config.count_on_eviction or not evicts:
            self._score[misses] += 1
            self._missed.append(misses)
        return self._evict() if evicts else NO_SWAP

    def _evict(self) -> Swap:
        slots = np.flatnonzero(self._step - self._score[self._residents] > self._patience + TIE)
        waiting = distinct(np.concatenate([EMPTY, *self._missed]))
        waiting = waiting[~self._inside[waiting]]
        self._missed = [waiting]
        count = min(len(slots), len(waiting))
        if count == 0:
            return NO_SWAP
        coming = waiting[_largest(self._score[waiting], count)]
        slots = slots[self._first_out(self._residents[slots], count)]
        leaving = self._residents[slots]
        self._change_places(leaving, coming)
        self._residents[slots] = coming
        return Swap(leaving, coming)

    def _first_out(self, rows: Ints, count: int) -> Ints:
        if self._config.victims == "id-order":
            return np.argsort(rows)[:count]
        return _largest(-self._score[rows], count)

    def _change_places(self, leaving: Ints, coming: Ints) -> None:
        begin = self._score[coming] if self._config.score_transfer == "paper" else np.ones(len(coming))
        self._score[leaving] = np.exp(self._log_decay * (self._step - self._score[leaving]))
        self._score[coming] = self._step - np.log(begin) / self._log_decay
        self._inside[leaving], self._inside[coming] = False, True
        self._missed.append(leaving)


def _patience(config: CacheConfig) -> float:
    """Return the exponent e above which gamma**e is below the threshold; infinite when rounding makes that 0."""
    if config.alpha_decimals is None:
        return config.interval
    alpha = round(config.decay**config.interval, config.alpha_decimals)
    return math.log(alpha) / math.log(config.decay) if alpha > 0 else math.inf


def _largest(values: NDArray[np.float64], count: int) -> Ints:
    """Return the indices of the `count` largest values, ascending; of equal ones the first."""
    if count == len(values):
        return np.arange(count)
    least = np.partition(values, len(values) - count)[len(values) - count]
    above, equal = np.flatnonzero(values > least), np.flatnonzero(values == least)
    return np.sort(np.concatenate([above, equal[: count - len(above)]]))


POLICIES: dict[str, Callable[[PolicyInputs], Policy]] = {
    "none": StaticDegreePolicy,
    "static-degree": StaticDegreePolicy,
    "presample": PresamplePolicy,
    "paper": PaperPolicy,
    "counts": LfuPolicy,
    "schedule": BeladyPolicy,
}


def make_policy(
    config: CacheConfig, candidates: Candidates, rows: int, accesses: Iterable[Any] | None = None
) -> Policy:
    """Return a new policy; `accesses` tells the vertices of each step to come, for those that foresee.

    Its items are arrays or CPU tensors of global ids; what is no candidate is passed over. UsageError without it.
    """
    if config.policy in FORESEEING and accesses is None:
        raise UsageError(f"the policy {config.policy!r} must be told the accesses to come; choose another or pass them")
    told = (_positions(candidates, vertices) for vertices in accesses or ())
    return POLICIES[config.policy](PolicyInputs(config=config, rows=rows, candidates=candidates, accesses=told))


def _positions(candidates: Candidates, vertices: Any) -> Ints:
    found = candidates.find(np.asarray(vertices, dtype=np.int64))
    return found[found >= 0]
