"""Cost of a read of the cache, for halos of 10 thousand to 10 million synthetic vertices.

    python benchmarks/buffer_scale.py [--quick] [--policies static-degree lfu belady paper] [--batch 3000]

The halo is every fourth id of a range. A step reads distinct vertices of it, few of them often (the cube of a uniform
number picks them). Rows come from a source of constant rows, whose time is left out. Each size is run three times, in
rotation. A step's time is the least of the three: this removes other load of the machine, and includes what a policy
does only at intervals. A value is the mean over 96 steps after 32 steps of warm-up, in ns per vertex; its spread is the
difference between the first and the second half of the steps.

`growth` is the cost at the largest halo over that at the smallest. A larger halo exceeds the processor's caches under
any policy: `copy alone` is the cost of copying random rows of a tensor of the cache's size.
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


class Ones:
    """A source of constant rows, which needs no memory for 10 million of them."""

    def read(self, vertices: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones(len(vertices), DIM)


def accesses(size: int, batch: int, steps: int) -> Iterator[NDArray[np.int64]]:
    """Yield the ids of each step: halo vertex k has the id 4 k + 1, often read vertices are spread over the range."""
    rng = numpy_rng(0, "accesses", size)
    for _ in range(steps):
        ranks = np.unique((size * rng.random(8 * batch) ** 3).astype(np.int64))
        spread = rng.permutation(ranks)[:batch] * 7919 % size  # 7919 and the sizes share no factor
        yield 4 * spread + 1


def run(halo: HaloTable, config: CacheConfig, read: list[NDArray[np.int64]]) -> Seconds:
    """Read the steps through a new cache; return the seconds of the parts of each step, (steps, 3)."""
    features = MeasuredCache(FeatureCache(Ones(), halo, config, DIM, accesses=iter(read)))
    taken = []
    for ids in read:
        features.read(torch.from_numpy(ids))
        metrics = features.take()
        taken.append([getattr(metrics, part) for part in PARTS])
    return np.array(taken)[WARM:]


def copy_alone(size: int, batch: int, steps: int) -> Seconds:
    """Return the seconds of copying random rows of a tensor of the cache's size, (steps, 1)."""
    rows, rng, taken = torch.ones(int(FRACTION * size), DIM), numpy_rng(0, "copy", size), []
    for _ in range(steps):
        at = torch.from_numpy(rng.integers(0, len(rows), batch))
        began = time.perf_counter()
        rows.index_select(0, at)
        taken.append([time.perf_counter() - began])
    return np.array(taken)


def report(case: str, metric: str, seconds: NDArray[np.float64], batch: int) -> float:
    """Print and return the mean of (steps,) seconds in nanoseconds per vertex."""
    halves: Sequence[float] = [1e9 * float(half.mean()) / batch for half in np.array_split(seconds, 2)]
    emit("buffer_scale", case, metric, halves, unit="ns/vertex", goal="", ok=None)
    return sum(halves) / 2


def measure(config: CacheConfig, sizes: tuple[int, ...], batch: int, steps: int) -> None:
    """Measure one policy at all sizes, in rotation, and print its lines."""
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
        cost[size] = report(case, "lookup + policy + copy", best[size].sum(axis=1), batch)
        for at, part in enumerate(PARTS):
            report(case, part.removesuffix("_s"), best[size][:, at], batch)
        report(case, "copy alone", alone[size][:, 0], batch)
    if len(sizes) > 1:
        growth = cost[sizes[-1]] / cost[sizes[0]]
        case = f"{config.policy}, {sizes[-1]} against {sizes[0]} halo rows"
        emit("buffer_scale", case, "growth", [growth], unit="times", goal="no growth", ok=None)


def main() -> None:
    """Measure the policies, each by halo size and then by batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 100 thousand rows and few steps")
    parser.add_argument("--policies", nargs="+", default=["static-degree", "lfu", "belady", "paper"])
    parser.add_argument("--batch", type=int, default=3000, help="vertices per step")
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
