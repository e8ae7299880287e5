"""The feature path of a trainer, built from a graph and the settings: replicated, uncached or cached reads."""

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
from quatrain.graph.features.cache import FeatureCache, LocalPart, make_candidates
from quatrain.graph.features.candidates import HaloTable, Ints
from quatrain.graph.features.metrics import MeasuredCache, ReadMetrics
from quatrain.graph.features.shared_slots import SharedShape, SharedStore
from quatrain.graph.features.source import FeatureSource, IndexedSource, MemorySource, read_async
from quatrain.graph.tuning.trace import TraceSetup, TraceWriter


class FeatureReader(Protocol):
    """Features whose reads start and finish in two calls."""

    def start_read(self, ids_n: Tensor, metrics: ReadMetrics) -> Callable[[], Tensor]:
        """Start a read that is counted in `metrics`; return the callable that gives the features, float32 (n, F).

        The callables are called in the order of the starts. A read may start before the previous one has finished.
        """


@dataclass(frozen=True, slots=True)
class FeaturePath:
    """How a trainer reads features."""

    reader: FeatureReader
    cached_rows: int
    """Rows of other machines that are held in memory."""


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """The trainers of a machine that share one cache."""

    file: Path
    """In /dev/shm, new in every job."""
    trainer: int
    trainers: int

    def store(self, size: int, capacity: int, dim: int) -> SharedStore:
        """Return this trainer's view of the shared memory."""
        shape = SharedShape(size=size, rows=capacity, dim=dim, readers=self.trainers)
        return SharedStore(self.file, shape, reader=self.trainer)


class TracingReader:
    """A feature reader that records its reads, and times of sampling and training, in a trace."""

    def __init__(self, inner: FeatureReader, writer: TraceWriter, own: range, steps: int) -> None:
        """Record reads of vertices outside `own`, in epochs of `steps` steps."""
        self._inner, self._writer, self._own = inner, writer, own
        self._steps, self._reads = steps, 0
        self.step_times: deque[tuple[float, float]] = deque()
        """Seconds of sampling and of training per step; appended by any thread, written at the next read."""

    def start_read(self, ids_n: Tensor, metrics: ReadMetrics) -> Callable[[], Tensor]:
        """Record the ids and start the read of the inner reader."""
        if self._reads and self._reads % self._steps == 0:
            self._writer.next_epoch()
        self._reads += 1
        self._write_times()
        self._writer.read(ids_n.numpy(), self._own)
        return self._inner.start_read(ids_n, metrics)

    def close(self) -> None:
        """Write what is pending and close the trace; called after the last read."""
        self._write_times()
        self._writer.close()

    def _write_times(self) -> None:
        while self.step_times:
            sample_s, train_s = self.step_times.popleft()
            self._writer.times(sample_s=sample_s, train_s=train_s)


class UncachedReader:
    """Reads of a source without a cache, with metrics."""

    def __init__(self, source: FeatureSource, own: range) -> None:
        """Count vertices outside `own` as remote."""
        self._source, self._own = source, own

    def start_read(self, ids_n: Tensor, metrics: ReadMetrics) -> Callable[[], Tensor]:
        """Request the rows; return the callable that waits for them and counts them."""
        began = time.perf_counter()
        wait = read_async(self._source, ids_n)
        metrics.pull_s += time.perf_counter() - began

        def finish() -> Tensor:
            began = time.perf_counter()
            rows = wait()
            metrics.pull_s += time.perf_counter() - began
            remote = int(((ids_n < self._own.start) | (ids_n >= self._own.stop)).sum())
            metrics.remote_misses += remote
            metrics.remote_rows += remote
            metrics.remote_bytes += remote * rows.shape[1] * rows.element_size()
            metrics.local_rows += len(ids_n) - remote
            return rows

        return finish


def build_feature_path(
    graph: Any,
    config: GnnConfig,
    client: RpcClient,
    accesses: Iterable[Any] | None,
    group: CacheGroup | None = None,
) -> FeaturePath:
    """Return the feature path of a trainer: replicated, uncached or cached.

    `accesses` gives the ids of each upcoming step, for policies that look ahead. `group` is given if the trainers of
    the machine share a cache. With the stock sampler and the policy `none`, reads are those of stock DistDGL.
    """
    output_buffers = config.train.look_ahead + 2  # one in training, look_ahead ready, one in preparation
    own = own_vertices(graph)
    if config.train.replicate:
        all_local = range(graph.num_nodes())
        return FeaturePath(UncachedReader(replicated(graph, output_buffers), all_local), graph.num_nodes() - len(own))
    if not config.buffer.spec.caches:
        return FeaturePath(UncachedReader(tensor_source(graph.ndata[FEATURES], config.train, client), own), 0)
    cache = build_cache(graph, config.buffer, client, accesses, group, output_buffers)
    return FeaturePath(MeasuredCache(cache), cache.capacity)


def build_cache(
    graph: Any,
    config: CacheConfig,
    client: RpcClient,
    accesses: Iterable[Any] | None,
    group: CacheGroup | None,
    output_buffers: int,
) -> FeatureCache:
    """Return a cache over DistDGL's features; local rows are read from this machine's shared memory."""
    tensor, table = graph.ndata[FEATURES], halo(graph)
    dim, count = tensor.shape[1], graph.num_nodes()
    store = None
    if group is not None:
        store = group.store(make_candidates(config, table, count).size, config.capacity(table.size), dim)
    source = partial(DistTensorFeatures, client=client)
    return FeatureCache(
        float16_features(graph, source) if config.wire == "float16" else source(tensor),
        table,
        config,
        dim,
        local=LocalPart(first=own_vertices(graph).start, rows=tensor.local_partition),
        accesses=accesses,
        vertex_count=count,
        store=store,
        output_buffers=output_buffers,
    )


def tensor_source(tensor: Any, config: TrainConfig, client: RpcClient) -> FeatureSource:
    """Return a source of a distributed tensor: DGL's own calls with the stock sampler, else asynchronous RPC."""
    return IndexedSource(tensor) if config.sampler == "stock" else DistTensorFeatures(tensor, client)


def replicated(graph: Any, output_buffers: int) -> FeatureSource:
    """Return a source that holds all features of the graph; `output_buffers` as in MemorySource."""
    return MemorySource(graph.ndata[FEATURES][torch.arange(graph.num_nodes())], output_buffers=output_buffers)


def own_vertices(graph: Any) -> range:
    """Return the vertices of this machine's part."""
    book = graph.get_partition_book()
    ids = book.partid2nids(book.partid)
    return range(int(ids[0]), int(ids[-1]) + 1)


def halo(graph: Any) -> HaloTable:
    """Return the halo of this machine's part; the owning machines send the in-degrees."""
    structure = graph.local_partition
    outside: Ints = structure.ndata[dgl.NID][~structure.ndata["inner_node"].bool()].numpy()
    ids = np.sort(outside)
    return HaloTable(ids, graph.in_degrees(torch.from_numpy(ids)))


def open_trace(graph: Any, file: Path) -> TraceWriter:
    """Return the writer of a trainer's new trace `file`; UsageError when the file exists."""
    setup = TraceSetup(
        halo=halo(graph),
        dim=graph.ndata[FEATURES].shape[1],
        vertex_count=graph.num_nodes(),
        part=graph.get_partition_book().partid,
    )
    return TraceWriter(file, setup)
