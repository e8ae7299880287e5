"""Mini-batches of a trainer: vertices, their order and sampled blocks, all fixed by the seed."""

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
from quatrain.graph.distdgl.sampler import PendingDraw, Sampled, SeededSampler
from quatrain.seeding import derive, numpy_rng

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """One sampled mini-batch, without features."""

    inputs: Tensor
    """Vertices whose features are needed, int64 (n,)."""
    outputs: Tensor
    """Training vertices, int64 (B,)."""
    blocks: list[Any]
    """DGL blocks, the input layer's first."""
    seconds: float
    """Time of sampling."""


def rank_vertices(vertices: Ints, rank: int, ranks: int) -> Ints:
    """Return a trainer's share of sorted `vertices`: contiguous, so mostly of its own machine.

    All shares have the same size; if needed, some repeat a vertex, as in torch's DistributedSampler.
    """
    size = -(-len(vertices) // ranks)
    first = min(rank * len(vertices) // ranks, len(vertices) - size)
    return vertices[first : first + size]


class _BatchSampler:
    """Sampler of whole batches by their number. DGL's loader would collate single vertices, 1.5 ms per 1,000."""

    def __init__(self, batches: Sequence[Tensor], sampler: SeededSampler) -> None:
        self._batches, self._sampler = batches, sampler

    def sample_blocks(self, _graph: Any, number_1: Tensor) -> tuple[None, Tensor, PendingDraw]:
        """Return the vertices of a batch and their draw, not yet started."""
        vertices = self._batches[int(number_1)]
        return None, vertices, self._sampler.draw(vertices)


class Batches:
    """The batches of one trainer over a set of vertices."""

    def __init__(self, graph: Any, vertices: Ints, config: TrainConfig, seed: int, client: RpcClient) -> None:
        self._graph, self._vertices, self._seed, self._client = graph, vertices, seed, client
        self._batch, self._fanout, self._stock = config.batch, config.fanout, config.sampler == "stock"
        self.seconds = 0.0
        """Total time of sampling so far."""

    @property
    def can_overlap(self) -> bool:
        """Whether other requests may be pending during sampling; stock DistDGL takes any answer for its own."""
        return not self._stock

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-len(self._vertices) // self._batch)

    def stream(self, epochs: Iterable[int]) -> Iterator[Batch]:
        """Yield the batches of the given epochs, each sampled when it is requested."""
        return self._stock_batches(epochs) if self._stock else self._seeded_batches(epochs)

    def _seeded_batches(self, epochs: Iterable[int]) -> Iterator[Batch]:
        """Yield batches; the first layer of the next batch is requested before the last layer of this one arrives."""
        draws = self._started_draws(epochs)
        draw = next(draws, None)
        while draw is not None:
            began = time.perf_counter()
            for _ in self._fanout[1:]:
                next(draw)
            following = next(draws, None)
            inputs, outputs, blocks = _finished(draw)
            yield self._timed(began, inputs, outputs, blocks)
            draw = following

    def _started_draws(self, epochs: Iterable[int]) -> Iterator[PendingDraw]:
        sampler = SeededSampler(self._graph, self._fanout, derive(self._seed, "neighbours"), self._client)
        for order in map(self._order, epochs):
            loader = self._loader(torch.arange(self.steps), _BatchSampler(order.split(self._batch), sampler), 1)
            for _, _, draw in loader:
                next(draw)
                yield draw

    def _stock_batches(self, epochs: Iterable[int]) -> Iterator[Batch]:
        sampler = dgl.dataloading.NeighborSampler(list(self._fanout))
        for order in map(self._order, epochs):
            loader = self._loader(order, sampler, self._batch)
            began = time.perf_counter()
            for inputs, outputs, blocks in loader:
                yield self._timed(began, inputs, outputs, blocks)
                began = time.perf_counter()

    def _timed(self, began: float, inputs: Tensor, outputs: Tensor, blocks: list[Any]) -> Batch:
        seconds = time.perf_counter() - began
        self.seconds += seconds
        return Batch(inputs, outputs, blocks, seconds)

    def _order(self, epoch: int) -> Tensor:
        return torch.from_numpy(numpy_rng(self._seed, "order", epoch).permutation(self._vertices))

    def _loader(self, items: Tensor, sampler: Any, size: int) -> Iterable[Any]:
        loader: Iterable[Any] = dgl.dataloading.DistNodeDataLoader(
            self._graph, items, sampler, batch_size=size, shuffle=False, drop_last=False
        )
        return loader


def _finished(draw: PendingDraw) -> Sampled:
    """Run a draw to its end and return its result."""
    while True:
        try:
            next(draw)
        except StopIteration as end:
            sampled: Sampled = end.value
            return sampled


class PeekableBatches:
    """A stream of batches that can be looked at before they are consumed; each batch is sampled once."""

    def __init__(self, stream: Iterator[Batch]) -> None:
        self._stream = stream
        self._peeked: deque[Batch] = deque()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self._peeked.popleft() if self._peeked else next(self._stream)

    def peek_inputs(self) -> Iterator[Tensor]:
        """Yield the input vertices of upcoming batches; the batches are kept until they are consumed."""
        for batch in self._stream:
            self._peeked.append(batch)
            yield batch.inputs
