"""The batches of a trainer: which vertices, in which order, with which blocks; all of it follows from the seed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quatrain.graph.library import dgl
from quatrain.graph.sampling import SeededSampler
from quatrain.graph.settings import TrainConfig
from quatrain.seeding import derive, numpy_rng

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is sampled for one step."""

    inputs: Tensor
    """Vertices whose features are needed, int64 (n,)."""
    outputs: Tensor
    """Training vertices, int64 (B,)."""
    blocks: list[Any]
    seconds: float
    """Time that sampling took."""


def share(vertices: Ints, rank: int, ranks: int) -> Ints:
    """Return the part of sorted `vertices` that belongs to a trainer: contiguous, so mostly of its own machine.

    Every trainer gets equally many; where they do not divide, some repeat a vertex, as in torch's DistributedSampler.
    """
    size = -(-len(vertices) // ranks)
    first = min(rank * len(vertices) // ranks, len(vertices) - size)
    return vertices[first : first + size]


class Batches:
    """The batches of one trainer over a set of vertices."""

    def __init__(self, graph: Any, vertices: Ints, config: TrainConfig, seed: int) -> None:
        self._graph, self._vertices, self._batch, self._seed = graph, vertices, config.batch, seed
        self.seconds = 0.0
        """Time that sampling took so far."""
        stock = config.sampler == "stock"
        self._sampler: Any = (
            dgl.dataloading.NeighborSampler(list(config.fanout))
            if stock
            else SeededSampler(config.fanout, derive(seed, "neighbours"))
        )

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self._vertices) // self._batch)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, sampled one by one as they are asked for."""
        order = numpy_rng(self._seed, "order", epoch).permutation(self._vertices)
        loader = dgl.dataloading.DistNodeDataLoader(
            self._graph, torch.from_numpy(order), self._sampler, batch_size=self._batch, shuffle=False, drop_last=False
        )
        batches = iter(loader)
        while True:
            began = time.perf_counter()
            try:
                inputs, outputs, blocks = next(batches)
            except StopIteration:
                return
            took = time.perf_counter() - began
            self.seconds += took
            yield Batch(inputs, outputs, blocks, took)


class Foresight:
    """A stream of batches whose next ones can be looked at before it is their turn; each is sampled once."""

    def __init__(self, stream: Iterator[Batch]) -> None:
        self._stream = stream
        self._seen: deque[Batch] = deque()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self._seen.popleft() if self._seen else next(self._stream)

    def accesses(self) -> Iterator[Tensor]:
        """Yield the input vertices of the batches to come, and keep those batches for their turn."""
        for batch in self._stream:
            self._seen.append(batch)
            yield batch.inputs
