"""Neighbour sampling that the seed fixes, with small answers.

DistDGL's servers draw with generators of their own, so the order of arriving requests changes the result. They answer
with source, target and edge id, 24 bytes per edge. Here each request carries the seed of its draw. The answer has the
source of each edge, 4 bytes, and the number of neighbours of each vertex, 1 byte.

Axes: R requested vertices, E drawn edges.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quatrain.graph.distdgl.import_dgl import dgl
from quatrain.graph.distdgl.rpc import RpcClient

rpc: Any = dgl.distributed.rpc

Ints = npt.NDArray[np.int64]
Sampled = tuple[Tensor, Tensor, list[Any]]
"""Input vertices, output vertices, and one block per layer, the input layer's first."""
PendingDraw = Generator[None, None, Sampled]
"""A pending draw: it yields once per layer, after it has sent the requests to other machines."""
DRAW = 910_001
"""Service id of the request; DGL's own ids lie between 800,000 and 902,000."""


class Neighbours:
    """The in-neighbours of a part's inner vertices."""

    def __init__(self, graph: Any, book: Any) -> None:
        starts, sources, _ = graph.adj_tensors("csc")
        self._starts: Ints = starts.numpy()
        self._sources: Ints = sources.numpy()
        self._global: Ints = graph.ndata[dgl.NID].numpy()
        self._first = int(book.partid2nids(book.partid)[0]) if book.num_partitions() > 1 else 0

    def draw(self, vertices_R: Ints, fanout: int, seed: int) -> tuple[Ints, Ints]:
        """Return the sources (E,), grouped by vertex, and the number of sources of each vertex, (R,).

        A vertex with at most `fanout` in-neighbours gets all of them, others a uniform subset of that size.
        """
        local = vertices_R - self._first
        start, degree = self._starts[local], self._starts[local + 1] - self._starts[local]
        counts = np.minimum(degree, fanout)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        many = degree > fanout
        chosen = subsets(degree[many], fanout, np.random.default_rng(seed))
        offsets[np.repeat(many, counts)] = chosen.reshape(-1)
        return self._global[self._sources[np.repeat(start, counts) + offsets]], counts


def subsets(sizes_R: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Return a uniform subset of `count` of the numbers below each size, int64 (R, count) (R. W. Floyd 1987).

    Each size must be at least `count`.
    """
    chosen = np.empty((count, len(sizes_R)), np.int64)
    for i in range(count):
        last = sizes_R - count + i
        drawn = (rng.random(len(sizes_R)) * (last + 1)).astype(np.int64)
        taken = (chosen[:i] == drawn).any(axis=0)
        chosen[i] = np.where(taken, last, drawn)
    return np.ascontiguousarray(chosen.T)


@functools.lru_cache(maxsize=1)
def neighbours(graph: Any, book: Any) -> Neighbours:
    """Return the neighbours of a process's own part."""
    return Neighbours(graph, book)


class Drawn(rpc.Response):  # type: ignore[misc]  # DGL ships no types
    """Answer to a Draw."""

    def __init__(self, part: int, sources: Tensor, counts: Tensor) -> None:
        self.part, self.sources, self.counts = part, sources, counts

    def __getstate__(self) -> tuple[int, Tensor, Tensor]:
        return self.part, self.sources, self.counts

    def __setstate__(self, state: tuple[int, Tensor, Tensor]) -> None:
        self.part, self.sources, self.counts = state


class Draw(rpc.Request):  # type: ignore[misc]  # DGL ships no types
    """Request for neighbours of vertices, sent to the machine that owns them."""

    def __init__(self, vertices: Tensor, fanout: int, seed: int) -> None:
        self.vertices, self.fanout, self.seed = vertices, fanout, seed

    def __getstate__(self) -> tuple[Tensor, int, int]:
        return self.vertices, self.fanout, self.seed

    def __setstate__(self, state: tuple[Tensor, int, int]) -> None:
        self.vertices, self.fanout, self.seed = state

    def process_request(self, server_state: Any) -> Drawn:
        """Draw on the server."""
        book = server_state.partition_book
        own = neighbours(server_state.graph, book)
        sources, counts = own.draw(self.vertices.numpy().astype(np.int64), self.fanout, self.seed)
        return Drawn(book.partid, packed(sources), torch.from_numpy(counts.astype(np.uint8)))


def packed(vertices: Ints) -> Tensor:
    """Return vertices as int32 if all ids are below 2^31, else as int64.

    numpy may give an empty array strides of 0. DGL takes that for not contiguous, which would end the server.
    """
    if not len(vertices):
        return torch.empty(0, dtype=torch.int32)
    small = int(vertices.max()) < 2**31
    return torch.from_numpy(vertices.astype(np.int32) if small else vertices)


@functools.cache
def register() -> None:
    """Register the request with DGL; called in servers and trainers."""
    rpc.register_service(DRAW, Draw, Drawn)


class SeededSampler:
    """Draws the blocks of batches.

    The result for a batch depends only on the seed, the batch's vertices and their order.
    """

    def __init__(self, graph: Any, fanout: tuple[int, ...], seed: int, client: RpcClient) -> None:
        self._graph, self._fanout, self._seed, self._client = graph, fanout, seed, client

    def draw(self, vertices: Tensor) -> PendingDraw:
        """Draw layer by layer, beginning with the neighbours of the training vertices."""
        outputs = vertices
        blocks: list[Any] = []
        key = hashlib.blake2b(vertices.numpy().tobytes(), digest_size=8, key=self._seed.to_bytes(8, "little")).digest()
        for layer, fanout in reversed(list(enumerate(self._fanout))):
            seed = int.from_bytes(key, "little") ^ layer
            sources, counts = yield from self._layer(vertices, fanout, seed)
            targets = torch.from_numpy(np.repeat(vertices.numpy(), counts))
            frontier = dgl.graph((torch.from_numpy(sources), targets), num_nodes=self._graph.num_nodes())
            block = dgl.to_block(frontier, vertices, include_dst_in_src=True)
            vertices = block.srcdata[dgl.NID]
            blocks.insert(0, block)
        return vertices, outputs, blocks

    def _layer(self, vertices: Tensor, fanout: int, seed: int) -> Generator[None, None, tuple[Ints, Ints]]:
        """Draw on each machine that owns some of the vertices; return sources and counts in the order of `vertices`."""
        book, ids = self._graph.get_partition_book(), vertices.numpy()
        part = book.nid2partid(vertices).numpy()
        owners = np.flatnonzero(np.bincount(part)).tolist()
        requests = [(owner, Draw(packed(ids[part == owner]), fanout, seed)) for owner in owners]
        request_ids = self._client.send([(owner, request) for owner, request in requests if owner != book.partid])
        drawn: dict[int, tuple[Ints, Ints]] = {}
        if book.partid in owners:
            own = neighbours(self._graph.local_partition, book)
            drawn[book.partid] = own.draw(ids[part == book.partid], fanout, seed)
        yield
        for answer in self._client.wait(request_ids):
            drawn[answer.part] = (answer.sources.numpy().astype(np.int64), answer.counts.numpy().astype(np.int64))
        return _merged(part, drawn)


def _merged(part_R: Ints, drawn: dict[int, tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Return sources and counts of all parts in the order of the vertices."""
    counts = np.empty(len(part_R), np.int64)
    for number, (_, own) in drawn.items():
        counts[part_R == number] = own
    sources = np.empty(counts.sum(), np.int64)
    of_edge = np.repeat(part_R, counts)
    for number, (own, _) in drawn.items():
        sources[of_edge == number] = own
    return sources, counts
