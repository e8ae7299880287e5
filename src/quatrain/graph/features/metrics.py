"""What a buffer does, counted and timed from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from quatrain.graph.features.cache import BatchLookup, FeatureCache


@dataclass(kw_only=True, slots=True)
class ReadMetrics:
    """Counters of reads.

    The halo hit rate leaves out remote vertices outside the halo; the remote hit rate counts them.
    """

    halo_hits: int = 0
    halo_misses: int = 0
    remote_hits: int = 0
    remote_misses: int = 0
    local_rows: int = 0
    """Rows of this part."""
    remote_rows: int = 0
    """Rows pulled: misses and newcomers of the buffer."""
    remote_bytes: int = 0
    lookup_s: float = 0.0
    """Seconds to look vertices up, and to take buffered rows out where others might write over them."""
    policy_s: float = 0.0
    pull_s: float = 0.0
    """Seconds to ask for rows, to wait for them and to put those of several machines together."""
    copy_s: float = 0.0
    """Seconds to put batches together, this part's own rows among them, and to write newcomers into the buffer."""

    @property
    def own_s(self) -> float:
        """Seconds of look-up, policy and copy."""
        return self.lookup_s + self.policy_s + self.copy_s

    @property
    def halo_hit_rate(self) -> float | None:
        """Hits over accesses of halo vertices, None without any."""
        return _rate(self.halo_hits, self.halo_misses)

    @property
    def remote_hit_rate(self) -> float | None:
        """Hits over accesses of all remote vertices, None without any."""
        return _rate(self.remote_hits, self.remote_misses)


def _rate(hits: int, misses: int) -> float | None:
    return hits / (hits + misses) if hits + misses else None


class MeasuredCache:
    """A buffer that keeps counters: the same verb, the same rows."""

    def __init__(self, buffer: FeatureCache, clock: Callable[[], float] = time.perf_counter) -> None:
        self._buffer, self._clock = buffer, clock
        self.counters = ReadMetrics()

    @property
    def rows(self) -> int:
        """How many rows the buffer holds."""
        return self._buffer.rows

    def take(self) -> ReadMetrics:
        """Return the counters and begin anew, as at the end of an epoch."""
        taken, self.counters = self.counters, ReadMetrics()
        return taken

    def read(self, vertices: Tensor) -> Tensor:
        """Return what the buffer returns."""
        return self.begin(vertices, self.counters)()

    def begin(self, vertices: Tensor, counters: ReadMetrics) -> Callable[[], Tensor]:
        """Begin to read and count into `counters`; return what ends the read, after the end of the one before.

        Where reads must not overlap, beginning does nothing and ending does it all.
        """
        return self._begin(vertices, counters) if self._buffer.overlaps else partial(self._whole, vertices, counters)

    def _whole(self, vertices: Tensor, counters: ReadMetrics) -> Tensor:
        return self._begin(vertices, counters)()

    def _begin(self, vertices: Tensor, counters: ReadMetrics) -> Callable[[], Tensor]:
        buffer = self._buffer
        with self._timed(counters, "lookup_s"):
            found = buffer.find(vertices)
        with self._timed(counters, "policy_s"):
            change = buffer.decide(found)
        with self._timed(counters, "pull_s"):
            arriving = buffer.ask(found, change)

        def end() -> Tensor:
            with self._timed(counters, "copy_s"):
                rows = buffer.lay(found, change)
            with self._timed(counters, "pull_s"):
                pulled = arriving()
            with self._timed(counters, "copy_s"):
                rows = buffer.finish(found, change, rows, pulled)
            self._count(counters, found, len(pulled), pulled.numel() * buffer.config.number_bytes)
            return rows

        return end

    def _count(self, counters: ReadMetrics, found: BatchLookup, pulled: int, size: int) -> None:
        inside = found.place.slots >= 0
        halo = found.place.positions >= 0
        if self._buffer.config.among == "remote":
            halo = self._buffer.halo.holds(found.vertices[found.remote])
        hits, halo_hits = np.count_nonzero(inside), np.count_nonzero(halo & inside)
        counters.halo_hits += halo_hits
        counters.halo_misses += np.count_nonzero(halo) - halo_hits
        counters.remote_hits += hits
        counters.remote_misses += len(inside) - hits
        counters.local_rows += len(found.vertices) - len(found.remote)
        counters.remote_rows += pulled
        counters.remote_bytes += size

    @contextmanager
    def _timed(self, counters: ReadMetrics, name: str) -> Iterator[None]:
        began = self._clock()
        yield
        setattr(counters, name, getattr(counters, name) + self._clock() - began)
