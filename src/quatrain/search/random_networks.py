"""Random networks of a given size, the random baseline of a search."""

from __future__ import annotations

import numpy as np

from quatrain.search.constraints import Bounds
from quatrain.search.neighbours import larger, smaller
from quatrain.seeding import numpy_rng
from quatrain.supernet.cost import encoder_parameters
from quatrain.supernet.space import Space, Subnet

_TRIES = 50
"""Draws per requested network; size buckets of small spaces hold few."""


def random_in_bucket(
    space: Space, bounds: Bounds, *, params: int, count: int, seed: int, tolerance: float = 0.05
) -> tuple[Subnet, ...]:
    """Return up to `count` different random networks within the bounds whose size is near `params`.

    Each is a draw of the space, moved by random single steps into the size bucket from `params * (1 - tolerance)` to
    `params * (1 + tolerance)`. Small spaces may hold fewer than `count` of them.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; it must lie between 0 and 1")
    bucket = (params * (1 - tolerance), params * (1 + tolerance))
    rng = numpy_rng(seed, "bucket", params)
    found: dict[str, Subnet] = {}
    for _ in range(count * _TRIES):
        if len(found) == count:
            break
        subnet = _steer(space, bounds, bucket, rng)
        if subnet is not None:
            found.setdefault(subnet.key, subnet)
    return tuple(found.values())


def _steer(space: Space, bounds: Bounds, bucket: tuple[float, float], rng: np.random.Generator) -> Subnet | None:
    subnet = space.sample(rng)
    for _ in range(4 * space.depth):
        size = encoder_parameters(bounds.sam, subnet)
        if size > bucket[1] or not bounds.admits(subnet):
            steps = smaller(space, subnet)
        elif size < bucket[0]:
            steps = larger(space, subnet)
        else:
            return subnet
        if not steps:
            return None
        subnet = steps[int(rng.integers(len(steps)))]
    return None
