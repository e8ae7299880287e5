"""The batches of a trainer: which vertices, in which order, with which blocks; all of it follows from the seed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quatrain.graph.config import TrainConfig
from quatrain.graph.distdgl.import_dgl import dgl
from quatrain.graph.distdgl.rpc import RpcClient
from quatrain.graph.distdgl.sampler import Drawing, Sampled, SeededSampler
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


class _Dealt:
    """A sampler of batches by their number: of vertices, DGL's loader deals one after the other, 1.5 ms a 1,000."""

    def __init__(self, batches: Sequence[Tensor], sampler: SeededSampler) -> None:
        self._batches, self._sampler = batches, sampler

    def sample_blocks(self, _graph: Any, number_1: Tensor) -> tuple[None, Tensor, Drawing]:
        """Return the vertices of a batch and their draw, not begun."""
        vertices = self._batches[int(number_1)]
        return None, vertices, self._sampler.draw(vertices)


class Batches:
    """The batches of one trainer over a set of vertices."""

    def __init__(self, graph: Any, vertices: Ints, config: TrainConfig, seed: int, mail: RpcClient) -> None:
        self._graph, self._vertices, self._seed, self._mail = graph, vertices, seed, mail
        self._batch, self._fanout, self._stock = config.batch, config.fanout, config.sampler == "stock"
        self.seconds = 0.0
        """Time that sampling took so far."""

    @property
    def overlaps(self) -> bool:
        """Whether answers to others may be under way while it samples; stock DistDGL takes any answer for its own."""
        return not self._stock

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self._vertices) // self._batch)

    def stream(self, epochs: Iterable[int]) -> Iterator[Batch]:
        """Yield the batches of some epochs, sampled as they are asked for, by the seed or by stock DistDGL."""
        return self._drawn(epochs) if self._stock else self._overlapped(epochs)

    def _overlapped(self, epochs: Iterable[int]) -> Iterator[Batch]:
        """Yield batches; the first layer of the next one is asked for before the last of this one has arrived."""
        works = self._begun(epochs)
        work = next(works, None)
        while work is not None:
            began = time.perf_counter()
            for _ in self._fanout[1:]:
                next(work)
            following = next(works, None)
            inputs, outputs, blocks = _result(work)
            yield self._timed(began, inputs, outputs, blocks)
            work = following

    def _begun(self, epochs: Iterable[int]) -> Iterator[Drawing]:
        sampler = SeededSampler(self._graph, self._fanout, derive(self._seed, "neighbours"), self._mail)
        for order in map(self._order, epochs):
            loader = self._loader(torch.arange(self.steps), _Dealt(order.split(self._batch), sampler), 1)
            for _, _, work in loader:
                next(work)
                yield work

    def _drawn(self, epochs: Iterable[int]) -> Iterator[Batch]:
        sampler = dgl.dataloading.NeighborSampler(list(self._fanout))
        for order in map(self._order, epochs):
            loader = self._loader(order, sampler, self._batch)
            began = time.perf_counter()
            for inputs, outputs, blocks in loader:
                yield self._timed(began, inputs, outputs, blocks)
                began = time.perf_counter()

    def _timed(self, began: float, inputs: Tensor, outputs: Tensor, blocks: list[Any]) -> Batch:
        took = time.perf_counter() - began
        self.seconds += took
        return Batch(inputs, outputs, blocks, took)

    def _order(self, epoch: int) -> Tensor:
        return torch.from_numpy(numpy_rng(self._seed, "order", epoch).permutation(self._vertices))

    def _loader(self, items: Tensor, sampler: Any, size: int) -> Iterable[Any]:
        loader: Iterable[Any] = dgl.dataloading.DistNodeDataLoader(
            self._graph, items, sampler, batch_size=size, shuffle=False, drop_last=False
        )
        return loader


def _result(work: Drawing) -> Sampled:
    """Take a drawing to its end."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            sampled: Sampled = end.value
            return sampled


class PeekableBatches:
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
