"""Feature sources: one verb, `read(ids)`, and sources that wrap others.

`read` takes global vertex ids, int64 (n,), and returns their features, float32 (n, F), row i for id i. Ids may repeat,
in any order. Remote sources also support asynchronous reads: `read_async` sends the request and returns a callable that
waits for the rows. A source that uses other processes is called from one thread only (see `prefetch`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from quatrain.graph.features.row_pool import RowPool


class FeatureSource(Protocol):
    """Anything that returns features by vertex id."""

    def read(self, ids_n: Tensor) -> Tensor:
        """Return the features of `ids_n`, int64 (n,), as float32 (n, F)."""


@runtime_checkable
class AsyncSource(FeatureSource, Protocol):
    """A source that can send its request before the rows are needed."""

    def read_async(self, ids_n: Tensor) -> Callable[[], Tensor]:
        """Request the features of `ids_n`; return a callable that waits for them, to be called once."""


def read_async(source: FeatureSource, ids_n: Tensor) -> Callable[[], Tensor]:
    """Return a callable that gives the rows; the request is sent now if `source` supports asynchronous reads."""
    return source.read_async(ids_n) if isinstance(source, AsyncSource) else partial(source.read, ids_n)


class MemorySource:
    """Features in memory, of the vertices `first`, `first + 1`, ... in this order."""

    def __init__(self, rows: Tensor, first: int = 0, output_buffers: int = 0) -> None:
        """Take (count, F) rows. With `output_buffers`, a result is overwritten that many reads later; with 0, never."""
        self._rows, self._first = rows, first
        self._pool = RowPool(rows.shape[1], output_buffers, rows.dtype)

    def read(self, ids_n: Tensor) -> Tensor:
        """Return rows in the tensor's dtype; IndexError for a vertex outside the range."""
        at = ids_n - self._first if self._first else ids_n
        return torch.index_select(self._rows, 0, at, out=self._pool.take(len(at)))


class IndexedSource:
    """Features by `rows[ids]`, for example of DGL's DistTensor."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def read(self, ids_n: Tensor) -> Tensor:
        """Return the indexed rows."""
        rows: Tensor = self._rows[ids_n]
        return rows


class Float16Source:
    """Rows that are transferred as float16 and returned as float32. LOSSY: 11 of 24 bits of each number are kept.

    The wrapped source must hold float16 (`to_float16`), because the sender halves the bytes.
    """

    lossy = True

    def __init__(self, source: FeatureSource) -> None:
        self._source = source

    def read(self, ids_n: Tensor) -> Tensor:
        """Return float32 rows; ValueError when the source returns another dtype than float16."""
        return self.read_async(ids_n)()

    def read_async(self, ids_n: Tensor) -> Callable[[], Tensor]:
        """Request the rows; return a callable that waits for them."""
        rows = read_async(self._source, ids_n)
        return lambda: self._float32(rows())

    def _float32(self, rows: Tensor) -> Tensor:
        if rows.dtype != torch.float16:
            raise ValueError(f"the source returned {rows.dtype}; wire='float16' needs a source that holds float16")
        return rows.float()


def to_float16(rows: Tensor) -> Tensor:
    """Return `rows` as float16 for the sender; ValueError when a number is above 65,504, float16's largest."""
    reduced = rows.to(torch.float16)
    if bool((reduced.isinf() & ~rows.isinf()).any()):
        raise ValueError(f"a feature of {float(rows.abs().max()):g} does not fit float16, whose largest is 65504")
    return reduced
