"""An additive model of the blocks' choices: Bayesian linear regression with Thompson sampling.

The blocks of a weight-sharing supernet affect the score nearly independently. So a sum over blocks, which few networks
determine, ranks networks that were not measured (as predictors do in OFA and DyNAS-T's LINAS). Each proposal is the
best of many networks under one draw from the posterior (Thompson 1933; Agrawal and Goyal 2013). So concurrent proposals
differ by as much as the model is uncertain.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from quatrain.search.constraints import Bounds
from quatrain.search.neighbours import larger, options, repair, smaller
from quatrain.seeding import numpy_rng
from quatrain.supernet.space import Space, Subnet

Floats = NDArray[np.float64]

_FIRST = 6
"""Random networks before the model proposes any."""
_DRAWS = 16
"""Random networks added to the candidates at each proposal."""
_BEST = 4
"""Best networks whose neighbours are added too."""
_UNSURE = 3.0
"""Prior standard deviation of a choice's value, in standard deviations of the (ranked) scores."""
_NOISE = 0.5
"""Standard deviation that the additive model does not explain, in the same unit."""


class AdditiveEngine:
    """Learns the value of each width of each block, and of dropping it, and proposes by their sum."""

    def __init__(self, space: Space, bounds: Bounds, seed: int) -> None:
        self._space, self._bounds, self._seed = space, bounds, seed
        choices = [options(space, block) for block in range(space.depth)]
        places = [(block, width) for block, widths in enumerate(choices) for width in widths[1:]]
        self._column = {place: number for number, place in enumerate(places, start=1)}
        self._scores: dict[Subnet, float] = {}
        self._pool: dict[Subnet, Floats] = {}
        self._count = 0

    def ask(self) -> Subnet:
        """Return the best candidate without a score under one draw of the values."""
        rng = numpy_rng(self._seed, "additive", self._count)
        self._count += 1
        if len(self._scores) < _FIRST:
            return self._drawn(rng)
        self._fill(rng)
        open_ones = [subnet for subnet in self._pool if subnet not in self._scores]
        if not open_ones:
            return self._drawn(rng)
        rows = np.stack([self._pool[subnet] for subnet in open_ones])
        return open_ones[int(np.argmax(rows @ self._values(rng)))]

    def tell(self, subnet: Subnet, score: float) -> None:
        """Learn a score; a later one of the same network replaces it."""
        self._scores[subnet] = score

    def _drawn(self, rng: np.random.Generator) -> Subnet:
        return repair(self._space, self._bounds, self._space.sample(rng), self._seed)

    def _fill(self, rng: np.random.Generator) -> None:
        """Add random networks and the neighbours of the best ones to the pool."""
        best = sorted(self._scores, key=lambda subnet: (-self._scores[subnet], subnet.key))[:_BEST]
        near = (step for subnet in best for steps in (smaller, larger) for step in steps(self._space, subnet))
        for subnet in [*(self._drawn(rng) for _ in range(_DRAWS)), *filter(self._bounds.admits, near)]:
            if subnet not in self._pool:
                self._pool[subnet] = self._features(subnet)

    def _values(self, rng: np.random.Generator) -> Floats:
        """Draw one vector of values from the conjugate posterior with known noise."""
        rows = np.stack([self._features(subnet) for subnet in self._scores])
        # by rank, so that the score 0 of an excluded network does not hide the differences of the others
        scores = _normal_scores(list(self._scores.values()))
        precision = rows.T @ rows / _NOISE**2 + np.eye(rows.shape[1]) / _UNSURE**2
        mean = np.linalg.solve(precision, rows.T @ scores / _NOISE**2)
        lower = np.linalg.cholesky(precision)
        return np.asarray(mean + np.linalg.solve(lower.T, rng.standard_normal(len(mean))))

    def _features(self, subnet: Subnet) -> Floats:
        """Return 1, then one indicator per block and choice other than the block's smallest."""
        row = np.zeros(1 + len(self._column))
        row[0] = 1
        row[[self._column[place] for place in enumerate(subnet.widths) if place in self._column]] = 1
        return row


def _normal_scores(values: list[float]) -> Floats:
    """Return the normal quantiles of the ranks of these values; equal values rank in their order."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    normal = NormalDist()
    return np.array([normal.inv_cdf((rank + 0.5) / len(values)) for rank in ranks])
