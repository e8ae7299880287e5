"""Where features come from: one verb, `read(vertices)`, and the sources that wrap others.

A source turns global vertex ids, int64 of shape (n,), into their features, float32 of shape (n, F), row i for id i.
Ids may repeat and stand in any order. Sources of other processes are read from one thread only (`lookahead`). A source
that is far away may be asked first and read later: its `ask` returns at once, and what it returns waits for the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from quatrain.graph.features.row_pool import RowPool


class FeatureSource(Protocol):
    """Anything that has features by vertex."""

    def read(self, vertices: Tensor) -> Tensor:
        """Return the features of `vertices` (int64 (n,)) as float32 (n, F)."""


@runtime_checkable
class AsyncSource(FeatureSource, Protocol):
    """A source that can be asked for rows before they are needed."""

    def ask(self, vertices: Tensor) -> Callable[[], Tensor]:
        """Send for the features of `vertices`; return what waits for them, to be called once."""


def ask(source: FeatureSource, vertices: Tensor) -> Callable[[], Tensor]:
    """Ask `source` where it can be asked, else put the reading off; return what gives the rows."""
    return source.ask(vertices) if isinstance(source, AsyncSource) else partial(source.read, vertices)


class MemorySource:
    """Features in memory, those of the vertices `first`, `first + 1`, ... in this order."""

    def __init__(self, rows: Tensor, first: int = 0, turns: int = 0) -> None:
        """Take (count, F) rows; with `turns` what is read is written over that many reads later, without, never."""
        self._rows, self._first = rows, first
        self._room = RowPool(rows.shape[1], turns, rows.dtype)

    def read(self, vertices: Tensor) -> Tensor:
        """Return rows of the tensor, in its dtype; IndexError for a vertex that it does not hold."""
        at = vertices - self._first if self._first else vertices
        return torch.index_select(self._rows, 0, at, out=self._room.take(len(at)))


class IndexedSource:
    """Features by `rows[vertices]`, such as those of DGL's DistTensor."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def read(self, vertices: Tensor) -> Tensor:
        """Return what indexing gives."""
        rows: Tensor = self._rows[vertices]
        return rows


class ThrottledSource:
    """A source behind an emulated link: rows come when it would have brought them. For tests and benchmarks only.

    What it yields is no measurement of a network: anything that was measured with it must say so (`LABEL`).
    """

    LABEL = "throttled source, not a network"

    def __init__(
        self,
        source: FeatureSource,
        *,
        mbit_s: float,
        latency_s: float = 0.0,
        own: range = range(0),
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Let the rows of all vertices but `own` pass a link, one request's behind those of the one before."""
        if not mbit_s > 0:
            raise ValueError(f"mbit_s is {mbit_s}; a link needs more than 0 Mbit/s")
        if latency_s < 0:
            raise ValueError(f"latency_s is {latency_s}; it must be at least 0")
        self._source, self._own, self._sleep, self._clock = source, own, sleep, clock
        self._bytes_s, self._latency_s, self._free_s = mbit_s * 1e6 / 8, latency_s, 0.0

    def read(self, vertices: Tensor) -> Tensor:
        """Return the rows of the source after latency + bytes / bandwidth seconds; an empty request is free."""
        return self.ask(vertices)()

    def ask(self, vertices: Tensor) -> Callable[[], Tensor]:
        """Send for rows; return what waits for the rest of their time, to be called in the order of asking."""
        asked_s, arriving = self._clock(), ask(self._source, vertices)
        away = int(((vertices < self._own.start) | (vertices >= self._own.stop)).sum())

        def rows() -> Tensor:
            rows = arriving()
            if away:
                size = away * rows[0].numel() * rows.element_size()
                self._free_s = max(self._free_s, asked_s) + size / self._bytes_s
                self._sleep(max(0.0, self._free_s + self._latency_s - self._clock()))
            return rows

        return rows


class Float16Source:
    """Rows that travel as float16 and arrive as float32. LOSSY: 11 bits of each number survive; never a default.

    The source that it wraps must hold float16 (`to_float16`), since it is the sender who halves the bytes.
    """

    lossy = True

    def __init__(self, source: FeatureSource) -> None:
        self._source = source

    def read(self, vertices: Tensor) -> Tensor:
        """Return float32 rows; ValueError when the source sends anything but float16."""
        return self.ask(vertices)()

    def ask(self, vertices: Tensor) -> Callable[[], Tensor]:
        """Send for the rows."""
        halves = ask(self._source, vertices)
        return lambda: self._whole(halves())

    def _whole(self, rows: Tensor) -> Tensor:
        if rows.dtype != torch.float16:
            raise ValueError(f"the source sends {rows.dtype}; float16 on the wire needs a source that holds float16")
        return rows.float()


def to_float16(rows: Tensor) -> Tensor:
    """Return `rows` as float16 for the sender's side; ValueError when a number does not fit (above 65,504)."""
    halves = rows.to(torch.float16)
    if bool((halves.isinf() & ~rows.isinf()).any()):
        raise ValueError(f"a feature of {float(rows.abs().max()):g} does not fit float16, whose largest is 65504")
    return halves
