"""What a step costs in the buffer, from 10 thousand to 10 million halo vertices with made ids.

    python benchmarks/buffer_scale.py [--quick] [--policies counts schedule paper static-degree] [--batch 4000]

The halo is a quarter of a range of ids; a step reads distinct vertices of it, few of them often (the cube of a uniform
number picks them), none of this part's own. Rows come from a source that makes them up, whose time is left out. Values
are the medians and the means over the steps of look-up + policy + copy, after warm-up; steps of all sizes are measured in
turns. Means hold what a policy does now and then only. `growth` is the cost at the largest halo against that at the
smallest; a larger halo also leaves the processor's caches, which no policy can help: `copy alone`, random rows of a
tensor of the buffer's size, shows that part.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from lines import emit
from numpy.typing import NDArray
from torch import Tensor

from quatrain.graph.buffer import BufferedFeatures
from quatrain.graph.counted import CountedFeatures
from quatrain.graph.halo import HaloTable
from quatrain.graph.settings_buffer import BufferConfig
from quatrain.seeding import numpy_rng

SIZES, DIM, FRACTION = (10_000, 100_000, 1_000_000, 10_000_000), 32, 0.25
WARM = 40


class Made:
    """A source that makes rows up, so that 10 million of them need no memory."""

    def read(self, vertices: Tensor) -> Tensor:
        """Ones."""
        return torch.ones(len(vertices), DIM)


@dataclass
class Side:
    """A buffer beside a halo of one size, and what its steps took."""

    features: CountedFeatures
    steps: list[Tensor]
    seconds: list[float]
    parts: dict[str, list[float]]

    def step(self, at: int) -> None:
        """Read one step; the first WARM are not counted."""
        self.features.read(self.steps[at])
        taken = self.features.take()
        if at >= WARM:
            for name, values in self.parts.items():
                values.append(getattr(taken, f"{name}_s"))
            self.seconds.append(taken.lookup_s + taken.policy_s + taken.copy_s)


def accesses(size: int, batch: int, steps: int) -> Iterator[NDArray[np.int64]]:
    """Ids of each step: halo vertex k has the id 4 k + 1, vertices often read lie anywhere."""
    rng = numpy_rng(0, "accesses", size)
    for _ in range(steps):
        ranks = np.unique((size * rng.random(4 * batch) ** 3).astype(np.int64))
        spread = rng.permutation(ranks)[:batch] * 7919 % size  # 7919 and the sizes share no factor
        yield 4 * spread + 1


def side(size: int, config: BufferConfig, batch: int, steps: int) -> Side:
    """A filled buffer and the steps that it will read."""
    read = list(accesses(size, batch, steps))
    halo = HaloTable(np.arange(size) * 4 + 1, numpy_rng(0, "degrees", size).integers(1, 100, size))
    features = CountedFeatures(BufferedFeatures(Made(), halo, config, DIM, accesses=iter(read)))
    parts: dict[str, list[float]] = {"lookup": [], "policy": [], "copy": []}
    return Side(features, [torch.from_numpy(ids) for ids in read], [], parts)


def measure(config: BufferConfig, sizes: tuple[int, ...], batch: int, steps: int) -> None:
    """Measure one policy at all sizes and print its lines."""
    sides = {size: side(size, config, batch, WARM + steps) for size in sizes}
    for at in range(WARM + steps):
        for one in sides.values():
            one.step(at)
    for size, one in sides.items():
        case = f"{config.policy} {size} rows, {batch} a step"
        tell(case, "median", one.seconds, batch)
        tell(case, "mean", [statistics.fmean(part) for part in thirds(one.seconds)], batch)
        for name, values in one.parts.items():
            tell(case, name, values, batch)
    medians = [statistics.median(sides[size].seconds) for size in (sizes[0], sizes[-1])]
    means = [statistics.fmean(sides[size].seconds) for size in (sizes[0], sizes[-1])]
    for metric, (small, large) in (("growth of the median", medians), ("growth of the mean", means)):
        emit("buffer_scale", config.policy, metric, [large / small], unit="times", goal="no growth", ok=None)


def thirds(values: list[float]) -> list[list[float]]:
    """The first, second and last third, whose means tell the spread."""
    third = max(1, len(values) // 3)
    return [values[:third], values[third : 2 * third] or values, values[2 * third :] or values]


def tell(case: str, metric: str, seconds: list[float], batch: int) -> None:
    """Print nanoseconds a vertex; for many steps the quartiles are the spread and their middle the value."""
    values = [1e9 * value / batch for value in seconds]
    if len(values) > 3:
        low, middle, high = statistics.quantiles(values, n=4)
        half = (high - low) / 2
        values = [middle - half, middle + half]
    emit("buffer_scale", case, metric, values, unit="ns/vertex", goal="", ok=None)


def copy_alone(sizes: tuple[int, ...], batch: int, steps: int) -> None:
    """Random rows of a tensor as large as the buffer, which no look-up or policy is part of."""
    for size in sizes:
        rows, rng, seconds = torch.ones(int(FRACTION * size), DIM), numpy_rng(0, "copy", size), []
        for _ in range(steps):
            at = torch.from_numpy(rng.integers(0, len(rows), batch))
            began = time.perf_counter()
            rows.index_select(0, at)
            seconds.append(time.perf_counter() - began)
        tell(f"copy alone {size} rows, {batch} a step", "median", seconds, batch)


def main() -> None:
    """Measure the policies one after the other, then how the cost follows the batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 100 thousand rows and few steps")
    parser.add_argument("--policies", nargs="+", default=["static-degree", "counts", "schedule", "paper"])
    parser.add_argument("--batch", type=int, default=3000, help="vertices a step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes, steps = (SIZES[:2], 32) if options.quick else (SIZES, 160)
    copy_alone(sizes, options.batch, steps)
    for policy in options.policies:
        config = BufferConfig(policy=policy, fraction=FRACTION, interval=16, window=16)
        measure(config, sizes, options.batch, steps)
        for batch in (2 * options.batch, 8 * options.batch):
            measure(config, sizes[1:2], batch, steps // 2)


if __name__ == "__main__":
    main()
