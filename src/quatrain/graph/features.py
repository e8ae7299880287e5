"""The feature path of a trainer, put together from a graph and the settings."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from quatrain.graph.beside import Beside
from quatrain.graph.buffer import BufferedFeatures, LocalPart, candidates
from quatrain.graph.counted import CountedFeatures, Counters
from quatrain.graph.half import halved
from quatrain.graph.halo import HaloTable, Ints
from quatrain.graph.library import dgl
from quatrain.graph.partition import FEATURES
from quatrain.graph.settings import GnnConfig
from quatrain.graph.settings_buffer import BufferConfig
from quatrain.graph.shared import SharedShape, SharedStore
from quatrain.graph.source import FeatureSource, IndexedSource, MemorySource
from quatrain.graph.trace import RecordedFeatures, Setup, TraceWriter


class Features(Protocol):
    """A source that tells what it did."""

    def read(self, vertices: Tensor) -> Tensor:
        """Return features, float32 (n, F)."""

    def take(self) -> Counters:
        """Return what was counted since the last time."""


@dataclass(frozen=True, slots=True)
class Way:
    """How features come to a trainer."""

    features: Features
    rows: int
    """Rows of other machines that it keeps."""


@dataclass(frozen=True, slots=True)
class Share:
    """The trainers of a machine that have one buffer in common."""

    file: Path
    """In /dev/shm, new in every job."""
    trainer: int
    trainers: int

    def store(self, size: int, rows: int, width: int) -> SharedStore:
        """Return this trainer's view of the memory for `rows` of `size` candidates."""
        shape = SharedShape(size=size, rows=rows, dim=width, readers=self.trainers)
        return SharedStore(self.file, shape, reader=self.trainer)


class TracedFeatures:
    """A feature path whose reads are written down with the times of sampling and training."""

    def __init__(self, inner: Features, graph: Any, file: Path, steps: int) -> None:
        """Begin the trace `file` of a training with `steps` steps an epoch; UsageError when it is there already."""
        own, tensor = own_vertices(graph), graph.ndata[FEATURES]
        book = graph.get_partition_book()
        setup = Setup(halo=halo(graph), dim=tensor.shape[1], vertex_count=graph.num_nodes(), part=book.partid)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.writer = TraceWriter(file, setup)
        self._source = RecordedFeatures(inner, self.writer, first=own.start, stop=own.stop)
        self._inner, self._steps, self._read = inner, steps, 0

    def read(self, vertices: Tensor) -> Tensor:
        """Return what the inner path returns."""
        if self._read and self._read % self._steps == 0:
            self.writer.next_epoch()
        self._read += 1
        return self._source.read(vertices)

    def take(self) -> Counters:
        """Return what the inner path counted."""
        return self._inner.take()


class DirectFeatures:
    """A source as it is, counted: DistDGL's own way, where the DistTensor copies local rows and pulls the others."""

    def __init__(self, source: FeatureSource, own: range) -> None:
        """Count vertices outside `own` as remote."""
        self._source, self._own = source, own
        self._counters = Counters()

    def read(self, vertices: Tensor) -> Tensor:
        """Return the rows of the source."""
        began = time.perf_counter()
        rows = self._source.read(vertices)
        self._counters.pull_s += time.perf_counter() - began
        away = int(((vertices < self._own.start) | (vertices >= self._own.stop)).sum())
        self._counters.remote_misses += away
        self._counters.remote_rows += away
        self._counters.remote_bytes += away * rows.shape[1] * rows.element_size()
        self._counters.local_rows += len(vertices) - away
        return rows

    def take(self) -> Counters:
        """Return the counters and begin anew."""
        taken, self._counters = self._counters, Counters()
        return taken


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


def way(graph: Any, config: GnnConfig, accesses: Iterable[Any] | None, share: Share | None = None) -> Way:
    """Return the way of features to a trainer: a copy of all, DistDGL's own, or through a buffer.

    `accesses` tells the vertices of each step to come, for policies that foresee; `share` with whom the buffer is
    shared.
    """
    turns = config.train.look_ahead + 2  # in training, ready, being made
    if config.train.replicate:
        own = own_vertices(graph)
        return Way(DirectFeatures(replicated(graph, turns), range(graph.num_nodes())), graph.num_nodes() - len(own))
    if config.buffer.policy == "none":
        return Way(DirectFeatures(IndexedSource(graph.ndata[FEATURES]), own_vertices(graph)), 0)
    return buffered(graph, config.buffer, accesses, share, turns)


def buffered(graph: Any, config: BufferConfig, accesses: Iterable[Any] | None, share: Share | None, turns: int) -> Way:
    """Return a counted buffer over DistDGL's features; this part's own rows are read from shared memory."""
    beside = Beside()
    tensor, own = graph.ndata[FEATURES], own_vertices(graph)
    local = LocalPart(first=own.start, rows=tensor.local_partition)
    table, width, count = halo(graph), tensor.shape[1], graph.num_nodes()
    store = None
    if share is not None:
        store = share.store(candidates(config, table, count).size, config.rows(table.size), width)
    buffer = BufferedFeatures(
        halved(graph) if config.wire == "float16" else IndexedSource(tensor),
        table,
        config,
        width,
        local=local,
        accesses=accesses,
        vertex_count=count,
        store=store,
        turns=turns,
        beside=beside,
    )
    return Way(CountedFeatures(buffer, beside=beside), buffer.rows)


def replicated(graph: Any, turns: int) -> FeatureSource:
    """Return a source that holds every feature of the graph in this process; see MemorySource for `turns`."""
    return MemorySource(graph.ndata[FEATURES][torch.arange(graph.num_nodes())], turns=turns)
