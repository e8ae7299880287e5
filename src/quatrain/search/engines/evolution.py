"""Regularised evolution: the best of a few recent networks has a child, and the oldest dies (Real et al. 2019)."""

from __future__ import annotations

from quatrain.search.constraints import Bounds
from quatrain.search.neighbours import options
from quatrain.seeding import numpy_rng
from quatrain.supernet.space import Space, Subnet

POPULATION = 24
"""Networks that live at once; the first so many are drawn from the space."""
TOURNAMENT = 6
"""Networks of which the best becomes the parent."""
SECOND_CHANGE = 0.5
"""Chance that a child differs from its parent in one block more."""


class EvolutionEngine:
    """A population of the networks told last, without generations, so that any number may be in flight.

    Only networks within the bounds live: of a proposal that was repaired, the repaired one.
    """

    def __init__(self, space: Space, bounds: Bounds, seed: int) -> None:
        self._space, self._bounds = space, bounds
        self._rng = numpy_rng(seed, "evolution engine")
        self._elastic = [block for block in range(space.depth) if len(options(space, block)) > 1]
        self._alive: dict[str, tuple[Subnet, float]] = {}

    def ask(self) -> Subnet:
        """Return a child of the best of some living networks, or a draw of the space while few live."""
        if len(self._alive) < POPULATION or not self._elastic:
            return self._space.sample(self._rng)
        living = list(self._alive.values())
        rivals = self._rng.choice(len(living), min(TOURNAMENT, len(living)), replace=False)
        child, _ = max((living[i] for i in rivals), key=lambda one: one[1])
        child = self._changed(child)
        return self._changed(child) if self._rng.random() < SECOND_CHANGE else child

    def tell(self, subnet: Subnet, score: float) -> None:
        """Let a network join the living, or renew its score; the oldest dies when there are too many."""
        if not self._bounds.admits(subnet):
            return
        self._alive[subnet.key] = (subnet, score)
        if len(self._alive) > POPULATION:
            del self._alive[next(iter(self._alive))]

    def _changed(self, subnet: Subnet) -> Subnet:
        block = self._elastic[int(self._rng.integers(len(self._elastic)))]
        others = [width for width in options(self._space, block) if width != subnet.widths[block]]
        width = others[int(self._rng.integers(len(others)))]
        return Subnet(widths=(*subnet.widths[:block], width, *subnet.widths[block + 1 :]))
