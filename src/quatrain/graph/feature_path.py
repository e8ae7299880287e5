"""The feature path of a trainer, put together from a graph and the settings."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from quatrain.graph.config import CacheConfig, GnnConfig, TrainConfig
from quatrain.graph.distdgl.import_dgl import dgl
from quatrain.graph.distdgl.partition import FEATURES
from quatrain.graph.distdgl.remote_features import DistTensorFeatures, float16_features
from quatrain.graph.distdgl.rpc import RpcClient
from quatrain.graph.features.cache import FeatureCache, LocalPart, candidates
from quatrain.graph.features.candidates import HaloTable, Ints
from quatrain.graph.features.metrics import MeasuredCache, ReadMetrics
from quatrain.graph.features.shared_slots import SharedShape, SharedStore
from quatrain.graph.features.source import FeatureSource, IndexedSource, MemorySource, ask
from quatrain.graph.tuning.trace import TraceSetup, TraceWriter


class Features(Protocol):
    """A source whose reads begin and end apart and are counted."""

    def begin(self, vertices: Tensor, counters: ReadMetrics) -> Callable[[], Tensor]:
        """Begin to read and count into `counters`; return what ends it and gives the features, float32 (n, F).

        Reads end in the order in which they began; one may begin before the one before has ended.
        """


@dataclass(frozen=True, slots=True)
class FeaturePath:
    """How features come to a trainer."""

    features: Features
    rows: int
    """Rows of other machines that it keeps."""


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """The trainers of a machine that have one buffer in common."""

    file: Path
    """In /dev/shm, new in every job."""
    trainer: int
    trainers: int

    def store(self, size: int, rows: int, width: int) -> SharedStore:
        """Return this trainer's view of the memory for `rows` of `size` candidates."""
        shape = SharedShape(size=size, rows=rows, dim=width, readers=self.trainers)
        return SharedStore(self.file, shape, reader=self.trainer)


class TracingReader:
    """A feature path whose reads are written down with the times of sampling and training."""

    def __init__(self, inner: Features, writer: TraceWriter, own: range, steps: int) -> None:
        """Write reads of vertices outside `own` to a new trace of a training with `steps` steps an epoch."""
        self._inner, self._writer, self._own = inner, writer, own
        self._steps, self._read = steps, 0
        self.took: deque[tuple[float, float]] = deque()
        """Seconds of sampling and of training of steps, told by any thread and written with the next read."""

    def begin(self, vertices: Tensor, counters: ReadMetrics) -> Callable[[], Tensor]:
        """Write the vertices down and begin to read them from the inner path."""
        if self._read and self._read % self._steps == 0:
            self._writer.next_epoch()
        self._read += 1
        self._tell()
        self._writer.read(vertices.numpy(), self._own)
        return self._inner.begin(vertices, counters)

    def close(self) -> None:
        """Write what is left and close the trace; behind the last read."""
        self._tell()
        self._writer.close()

    def _tell(self) -> None:
        while self.took:
            sample_s, train_s = self.took.popleft()
            self._writer.times(sample_s=sample_s, train_s=train_s)


class UncachedReader:
    """A source as it is, counted."""

    def __init__(self, source: FeatureSource, own: range) -> None:
        """Count vertices outside `own` as remote."""
        self._source, self._own = source, own

    def begin(self, vertices: Tensor, counters: ReadMetrics) -> Callable[[], Tensor]:
        """Ask the source, and count all but the rows' time."""
        began = time.perf_counter()
        arriving = ask(self._source, vertices)
        counters.pull_s += time.perf_counter() - began

        def end() -> Tensor:
            began = time.perf_counter()
            rows = arriving()
            counters.pull_s += time.perf_counter() - began
            away = int(((vertices < self._own.start) | (vertices >= self._own.stop)).sum())
            counters.remote_misses += away
            counters.remote_rows += away
            counters.remote_bytes += away * rows.shape[1] * rows.element_size()
            counters.local_rows += len(vertices) - away
            return rows

        return end


def trace(graph: Any, file: Path) -> TraceWriter:
    """Begin the trace `file` of a graph's trainer; UsageError when it is there already."""
    setup = TraceSetup(
        halo=halo(graph),
        dim=graph.ndata[FEATURES].shape[1],
        vertex_count=graph.num_nodes(),
        part=graph.get_partition_book().partid,
    )
    return TraceWriter(file, setup)


def own_vertices(graph: Any) -> range:
    """Return the vertices of this machine's part."""
    book = graph.get_partition_book()
    ids = book.partid2nids(book.partid)
    return range(int(ids[0]), int(ids[-1]) + 1)


def halo(graph: Any) -> HaloTable:
    """Return the halo of this machine's part, with in-degrees asked for from the machines that own it."""
    structure = graph.local_partition
    outside: Ints = structure.ndata[dgl.NID][~structure.ndata["inner_node"].bool()].numpy()
    ids = np.sort(outside)
    return HaloTable(ids, graph.in_degrees(torch.from_numpy(ids)))


def plain(tensor: Any, config: TrainConfig, mail: RpcClient) -> FeatureSource:
    """Return the rows of a distributed tensor: beside the stock sampler by DGL's own calls, else by mail."""
    return IndexedSource(tensor) if config.sampler == "stock" else DistTensorFeatures(tensor, mail)


def way(
    graph: Any, config: GnnConfig, mail: RpcClient, accesses: Iterable[Any] | None, share: CacheGroup | None = None
) -> FeaturePath:
    """Return the way of features to a trainer: a copy of all, as they are, or through a buffer.

    `accesses` tells the vertices of each step to come, for policies that foresee; `share` with whom the buffer is
    shared. With stock DistDGL's sampler and no buffer, features come as they do in stock DistDGL.
    """
    turns = config.train.look_ahead + 2  # in training, ready, being made
    if config.train.replicate:
        own = own_vertices(graph)
        return FeaturePath(
            UncachedReader(replicated(graph, turns), range(graph.num_nodes())), graph.num_nodes() - len(own)
        )
    if config.buffer.policy == "none":
        return FeaturePath(UncachedReader(plain(graph.ndata[FEATURES], config.train, mail), own_vertices(graph)), 0)
    return buffered(graph, config.buffer, mail, accesses, share, turns)


def buffered(
    graph: Any,
    config: CacheConfig,
    mail: RpcClient,
    accesses: Iterable[Any] | None,
    share: CacheGroup | None,
    turns: int,
) -> FeaturePath:
    """Return a counted buffer over DistDGL's features; this part's own rows are read from shared memory."""
    tensor, own = graph.ndata[FEATURES], own_vertices(graph)
    local = LocalPart(first=own.start, rows=tensor.local_partition)
    table, width, count = halo(graph), tensor.shape[1], graph.num_nodes()
    store = None
    if share is not None:
        store = share.store(candidates(config, table, count).size, config.rows(table.size), width)
    buffer = FeatureCache(
        float16_features(graph, partial(DistTensorFeatures, mail=mail))
        if config.wire == "float16"
        else DistTensorFeatures(tensor, mail),
        table,
        config,
        width,
        local=local,
        accesses=accesses,
        vertex_count=count,
        store=store,
        turns=turns,
    )
    return FeaturePath(MeasuredCache(buffer), buffer.rows)


def replicated(graph: Any, turns: int) -> FeatureSource:
    """Return a source that holds every feature of the graph in this process; see MemorySource for `turns`."""
    return MemorySource(graph.ndata[FEATURES][torch.arange(graph.num_nodes())], turns=turns)
