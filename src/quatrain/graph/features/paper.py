"""The published scheme of MassiveGNN (arXiv 2410.22697): the policy `paper`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import Ints
from quatrain.graph.features.policy import EMPTY, NO_SWAP, PolicyInputs, Swap, distinct

TIE = 1e-9
"""Steps within which a score counts as equal to the threshold: logarithms of equal scores may differ by rounding."""


class PaperPolicy:
    """Evicts rows whose score has decayed and admits the candidates that were missed most often.

    A cached row has a score S_E. Each step that does not read the row multiplies S_E by gamma. Every delta steps the
    rows with S_E < alpha = gamma**delta are swapped for the candidates with the highest S_A, the number of misses.

    S_E is never updated. A row admitted at step b with score s and read in u steps has at step t
    S_E = s gamma**(t - b - u) = gamma**(t - o), with the origin o = b + u - log_gamma(s). One number per row is stored,
    o, and a read adds 1 to it. S_E < alpha becomes t - o > delta, which is exact for s = 1. An eviction scans the cache
    and all missed candidates: its cost is spread over delta steps.
    """

    def __init__(self, inputs: PolicyInputs) -> None:
        config = inputs.config
        self._inputs, self._config, self._step = inputs, config, 0
        self._log_decay, self._max_age = math.log(config.decay), _max_age(config)
        self._score = np.zeros(inputs.candidates.size)  # S_A if not cached, the origin o if cached
        self._cached = np.zeros(inputs.candidates.size, bool)
        self._by_slot = EMPTY
        self._missed: list[Ints] = []  # all candidates with S_A > 0, with repeats and some that are cached by now

    def fill(self) -> Ints:
        """Return the candidates of highest in-degree, each with S_E = 1."""
        first = self._inputs.candidates.top_by_degree(self._inputs.capacity)
        self._by_slot = first.copy()
        self._cached[first] = True
        return first

    def step(self, hits: Ints, misses: Ints) -> Swap:
        """Score a step; every `interval` steps, evict."""
        self._step += 1
        self._score[hits] += 1  # a repeat within a step counts once
        evicts = self._step % self._config.interval == 0
        if self._config.count_on_eviction or not evicts:
            self._score[misses] += 1
            self._missed.append(misses)
        return self._evict() if evicts else NO_SWAP

    def _evict(self) -> Swap:
        slot = np.flatnonzero(self._step - self._score[self._by_slot] > self._max_age + TIE)
        waiting = distinct(np.concatenate([EMPTY, *self._missed]))
        waiting = waiting[~self._cached[waiting]]
        self._missed = [waiting]
        count = min(len(slot), len(waiting))
        if count == 0:
            return NO_SWAP
        admitted = waiting[_largest(self._score[waiting], count)]
        slot = slot[self._victims(self._by_slot[slot], count)]
        evicted = self._by_slot[slot]
        self._exchange_scores(evicted, admitted)
        self._by_slot[slot] = admitted
        return Swap(evicted, admitted)

    def _victims(self, pos: Ints, count: int) -> Ints:
        """Return the indices of the `count` positions that are evicted."""
        if self._config.victims == "id-order":
            return np.argsort(pos)[:count]
        return _largest(-self._score[pos], count)

    def _exchange_scores(self, evicted: Ints, admitted: Ints) -> None:
        first = self._score[admitted] if self._config.score_transfer == "paper" else np.ones(len(admitted))
        self._score[evicted] = np.exp(self._log_decay * (self._step - self._score[evicted]))
        self._score[admitted] = self._step - np.log(first) / self._log_decay
        self._cached[evicted], self._cached[admitted] = False, True
        self._missed.append(evicted)


def _max_age(config: CacheConfig) -> float:
    """Return the largest exponent e with gamma**e >= alpha; infinite when rounding makes alpha 0."""
    if config.alpha_decimals is None:
        return config.interval
    alpha = round(config.decay**config.interval, config.alpha_decimals)
    return math.log(alpha) / math.log(config.decay) if alpha > 0 else math.inf


def _largest(values: NDArray[np.float64], count: int) -> Ints:
    """Return the indices of the `count` largest values, ascending; among equal values the first ones."""
    if count == len(values):
        return np.arange(count)
    least = np.partition(values, len(values) - count)[len(values) - count]
    above, equal = np.flatnonzero(values > least), np.flatnonzero(values == least)
    return np.sort(np.concatenate([above, equal[: count - len(above)]]))
