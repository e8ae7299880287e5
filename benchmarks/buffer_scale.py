"""What a step costs in the buffer, from 10 thousand to 10 million halo vertices with made ids.

    python benchmarks/buffer_scale.py [--quick] [--policies static-degree counts schedule paper] [--batch 3000]

The halo is every fourth id of a range; a step reads distinct vertices of it, few of them often (the cube of a uniform
number picks them). Rows come from a source that makes them up, whose time is left out. Every size is run three times in
turns; a step's time is the least of the three, so that what else the machine does drops out, and what a policy does
now and then stays in. A value is the mean over 96 steps after 32 of warm-up, in nanoseconds a vertex; its spread tells
how the first and the second half of the steps differ.

`growth` is the cost at the largest halo against that at the smallest. A larger halo leaves the processor's caches,
which no policy can help: `copy alone` is the cost of random rows of a tensor of the buffer's size and nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from lines import emit
from numpy.typing import NDArray
from torch import Tensor

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.cache import FeatureCache
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.metrics import MeasuredCache
from quatrain.seeding import numpy_rng

SIZES, DIM, FRACTION = (10_000, 100_000, 1_000_000, 10_000_000), 32, 0.25
PARTS = ("lookup_s", "policy_s", "copy_s")
WARM, ROUNDS = 32, 3
Seconds = NDArray[np.float64]


class Made:
    """A source that makes rows up, so that 10 million of them need no memory."""

    def read(self, vertices: Tensor) -> Tensor:
        """Ones."""
        return torch.ones(len(vertices), DIM)


def accesses(size: int, batch: int, steps: int) -> Iterator[NDArray[np.int64]]:
    """Ids of each step: halo vertex k has the id 4 k + 1, vertices often read lie anywhere."""
    rng = numpy_rng(0, "accesses", size)
    for _ in range(steps):
        ranks = np.unique((size * rng.random(8 * batch) ** 3).astype(np.int64))
        spread = rng.permutation(ranks)[:batch] * 7919 % size  # 7919 and the sizes share no factor
        yield 4 * spread + 1


def run(halo: HaloTable, config: CacheConfig, read: list[NDArray[np.int64]]) -> Seconds:
    """Read the steps through a new buffer; return what the parts of each took, (steps, 3)."""
    features = MeasuredCache(FeatureCache(Made(), halo, config, DIM, accesses=iter(read)))
    taken = []
    for ids in read:
        features.read(torch.from_numpy(ids))
        counters = features.take()
        taken.append([getattr(counters, part) for part in PARTS])
    return np.array(taken)[WARM:]


def copy_alone(size: int, batch: int, steps: int) -> Seconds:
    """Random rows of a tensor as large as the buffer, which no look-up or policy is part of, (steps, 1)."""
    rows, rng, taken = torch.ones(int(FRACTION * size), DIM), numpy_rng(0, "copy", size), []
    for _ in range(steps):
        at = torch.from_numpy(rng.integers(0, len(rows), batch))
        began = time.perf_counter()
        rows.index_select(0, at)
        taken.append([time.perf_counter() - began])
    return np.array(taken)


def tell(case: str, metric: str, seconds: NDArray[np.float64], batch: int) -> float:
    """Print the mean nanoseconds a vertex of (steps,) seconds, and return it."""
    halves: Sequence[float] = [1e9 * float(half.mean()) / batch for half in np.array_split(seconds, 2)]
    emit("buffer_scale", case, metric, halves, unit="ns/vertex", goal="", ok=None)
    return sum(halves) / 2


def measure(config: CacheConfig, sizes: tuple[int, ...], batch: int, steps: int) -> None:
    """Measure one policy at all sizes, in turns, and print its lines."""
    read = {size: list(accesses(size, batch, WARM + steps)) for size in sizes}
    best = {size: np.full((steps, len(PARTS)), np.inf) for size in sizes}
    alone = {size: np.full((steps, 1), np.inf) for size in sizes}
    for _ in range(ROUNDS):
        for size in sizes:
            degrees = numpy_rng(0, "degrees", size).integers(1, 100, size)
            halo = HaloTable(np.arange(size) * 4 + 1, degrees)
            best[size] = np.minimum(best[size], run(halo, config, read[size]))
            alone[size] = np.minimum(alone[size], copy_alone(size, batch, steps))
    cost = {}
    for size in sizes:
        case = f"{config.policy}, {size} halo rows, {batch} a step"
        cost[size] = tell(case, "look-up + policy + copy", best[size].sum(axis=1), batch)
        for at, part in enumerate(PARTS):
            tell(case, part.removesuffix("_s"), best[size][:, at], batch)
        tell(case, "copy alone", alone[size][:, 0], batch)
    if len(sizes) > 1:
        growth = cost[sizes[-1]] / cost[sizes[0]]
        case = f"{config.policy}, {sizes[-1]} against {sizes[0]} halo rows"
        emit("buffer_scale", case, "growth", [growth], unit="times", goal="no growth", ok=None)


def main() -> None:
    """Measure the policies one after the other, each by the size of the halo and then by that of the batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 100 thousand rows and few steps")
    parser.add_argument("--policies", nargs="+", default=["static-degree", "counts", "schedule", "paper"])
    parser.add_argument("--batch", type=int, default=3000, help="vertices a step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes, steps = (SIZES[:2], 32) if options.quick else (SIZES, 96)
    for policy in options.policies:
        config = CacheConfig(policy=policy, fraction=FRACTION, interval=16, window=16, candidates="halo")
        measure(config, sizes, options.batch, steps)
        for larger in (2, 8):
            measure(config, sizes[1:2], larger * options.batch, steps // 4)


if __name__ == "__main__":
    main()
