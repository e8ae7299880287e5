"""Policies that choose the cache's content once and never change it."""

from __future__ import annotations

from itertools import islice

import numpy as np

from quatrain.graph.features.candidates import Ints
from quatrain.graph.features.policy import EMPTY, NO_SWAP, PolicyInputs, Swap, distinct


class StaticDegreePolicy:
    """Keeps the candidates of highest in-degree: MassiveGNN's prefetch without eviction."""

    def __init__(self, inputs: PolicyInputs) -> None:
        self._inputs = inputs

    def fill(self) -> Ints:
        """Return the candidates of highest in-degree."""
        return self._inputs.candidates.top_by_degree(self._inputs.capacity)

    def step(self, hits: Ints, misses: Ints) -> Swap:  # noqa: ARG002 - the protocol's arguments
        """Return no swap."""
        return NO_SWAP


class PresamplePolicy(StaticDegreePolicy):
    """Keeps the candidates that most of the first `window` upcoming steps read (GNNLab's pre-sampling)."""

    def fill(self) -> Ints:
        """Return candidates by the number of steps that read them; ties are broken by in-degree."""
        upcoming = islice(self._inputs.accesses, self._inputs.config.effective_window)
        seen, counts = np.unique(np.concatenate([EMPTY, *map(distinct, upcoming)]), return_counts=True)
        order = np.lexsort((seen, -self._inputs.candidates.degrees(seen), -counts))
        return self._inputs.filled_by_degree(seen[order])
