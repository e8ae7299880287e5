"""Counts and times of feature reads, taken from outside the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from quatrain.graph.features.cache import BatchLookup, FeatureCache


def hit_rate(hits: float, misses: float) -> float | None:
    """Return hits over accesses; None without an access."""
    return hits / (hits + misses) if hits + misses else None


@dataclass(kw_only=True, slots=True)
class ReadMetrics:
    """Sums over reads. The halo counts leave out remote vertices outside the halo; the remote counts include them."""

    halo_hits: int = 0
    halo_misses: int = 0
    remote_hits: int = 0
    remote_misses: int = 0
    local_rows: int = 0
    """Rows of this part."""
    remote_rows: int = 0
    """Fetched rows: misses and extra rows to admit."""
    remote_bytes: int = 0
    lookup_s: float = 0.0
    """Seconds of lookups; in a shared cache also of copying the hits."""
    policy_s: float = 0.0
    pull_s: float = 0.0
    """Seconds to request rows, to wait for them and to join the rows of several machines."""
    copy_s: float = 0.0
    """Seconds to assemble batches, local rows included, and to write admitted rows."""

    @property
    def cache_s(self) -> float:
        """Seconds of lookup, policy and copy."""
        return self.lookup_s + self.policy_s + self.copy_s


class MeasuredCache:
    """A cache with metrics: reads return the same rows."""

    def __init__(self, cache: FeatureCache, clock: Callable[[], float] = time.perf_counter) -> None:
        self._cache, self._clock = cache, clock
        self.metrics = ReadMetrics()

    @property
    def capacity(self) -> int:
        """Rows of the cache."""
        return self._cache.capacity

    def take(self) -> ReadMetrics:
        """Return the metrics since the last call and start new ones."""
        taken, self.metrics = self.metrics, ReadMetrics()
        return taken

    def read(self, ids_n: Tensor) -> Tensor:
        """Return the features of `ids_n`, int64 (n,), as float32 (n, F)."""
        return self.start_read(ids_n, self.metrics)()

    def start_read(self, ids_n: Tensor, metrics: ReadMetrics) -> Callable[[], Tensor]:
        """Start a read that is counted in `metrics`; return the callable that ends it and gives the rows.

        Call the results in the order of the starts. If reads must not overlap, the callable does the whole read.
        """
        return self._start(ids_n, metrics) if self._cache.can_overlap else partial(self._read_at_once, ids_n, metrics)

    def _read_at_once(self, ids_n: Tensor, metrics: ReadMetrics) -> Tensor:
        return self._start(ids_n, metrics)()

    def _start(self, ids_n: Tensor, metrics: ReadMetrics) -> Callable[[], Tensor]:
        cache = self._cache
        with self._timed(metrics, "lookup_s"):
            found = cache.lookup(ids_n)
        with self._timed(metrics, "policy_s"):
            replacement = cache.plan(found)
        with self._timed(metrics, "pull_s"):
            wait = cache.fetch(found, replacement)

        def finish() -> Tensor:
            with self._timed(metrics, "copy_s"):
                out = cache.gather(found, replacement)
            with self._timed(metrics, "pull_s"):
                fetched = wait()
            with self._timed(metrics, "copy_s"):
                rows = cache.commit(found, replacement, out, fetched)
            self._count(metrics, found, len(fetched), fetched.numel() * cache.config.bytes_per_number)
            return rows

        return finish

    def _count(self, metrics: ReadMetrics, found: BatchLookup, fetched: int, size: int) -> None:
        hit = found.remote.slot_r >= 0
        in_halo = found.remote.pos_r >= 0
        if self._cache.config.effective_candidates == "remote":
            in_halo = self._cache.halo.contains(found.ids_n[found.remote_at_r])
        hits, halo_hits = np.count_nonzero(hit), np.count_nonzero(in_halo & hit)
        metrics.halo_hits += halo_hits
        metrics.halo_misses += np.count_nonzero(in_halo) - halo_hits
        metrics.remote_hits += hits
        metrics.remote_misses += len(hit) - hits
        metrics.local_rows += len(found.ids_n) - len(found.remote_at_r)
        metrics.remote_rows += fetched
        metrics.remote_bytes += size

    @contextmanager
    def _timed(self, metrics: ReadMetrics, name: str) -> Iterator[None]:
        began = self._clock()
        yield
        setattr(metrics, name, getattr(metrics, name) + self._clock() - began)
