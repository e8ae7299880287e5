"""Regularised evolution: mutate the best of a few recent networks, remove the oldest (Real et al. 2019)."""

from __future__ import annotations

from quatrain.search.constraints import Bounds
from quatrain.search.neighbours import options
from quatrain.seeding import numpy_rng
from quatrain.supernet.space import Space, Subnet

POPULATION = 24
"""Size of the population; the first networks are drawn from the space."""
TOURNAMENT = 6
"""Networks drawn from the population; the best is the parent."""
SECOND_CHANGE = 0.5
"""Probability that a child differs from its parent in a second block."""


class EvolutionEngine:
    """A population of the latest networks without generations, so any number of proposals may be open.

    The population holds only networks within the bounds: of a repaired proposal, the repaired one.
    """

    def __init__(self, space: Space, bounds: Bounds, seed: int) -> None:
        self._space, self._bounds = space, bounds
        self._rng = numpy_rng(seed, "evolution engine")
        self._elastic = [block for block in range(space.depth) if len(options(space, block)) > 1]
        self._population: dict[str, tuple[Subnet, float]] = {}

    def ask(self) -> Subnet:
        """Return a child of the best of some networks, or a draw of the space until the population is full."""
        if len(self._population) < POPULATION or not self._elastic:
            return self._space.sample(self._rng)
        members = list(self._population.values())
        rivals = self._rng.choice(len(members), min(TOURNAMENT, len(members)), replace=False)
        child, _ = max((members[i] for i in rivals), key=lambda one: one[1])
        child = self._changed(child)
        return self._changed(child) if self._rng.random() < SECOND_CHANGE else child

    def tell(self, subnet: Subnet, score: float) -> None:
        """Add a network or update its score; remove the oldest beyond the population size."""
        if not self._bounds.admits(subnet):
            return
        self._population[subnet.key] = (subnet, score)
        if len(self._population) > POPULATION:
            del self._population[next(iter(self._population))]

    def _changed(self, subnet: Subnet) -> Subnet:
        block = self._elastic[int(self._rng.integers(len(self._elastic)))]
        others = [width for width in options(self._space, block) if width != subnet.widths[block]]
        width = others[int(self._rng.integers(len(others)))]
        return Subnet(widths=(*subnet.widths[:block], width, *subnet.widths[block + 1 :]))
