"""A feature source behind an emulated link, for tests and for benchmarks without network namespaces."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

from quatrain.graph.features.source import FeatureSource, read_async


class ThrottledSource:
    """A source whose remote rows arrive when a link of the given bandwidth would have transferred them.

    Times measured with it are not measurements of a network; results must say so (`LABEL`).
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
        """Delay the rows of all vertices outside `own`; requests use the link one after the other."""
        if not mbit_s > 0:
            raise ValueError(f"mbit_s is {mbit_s}; it must be positive")
        if latency_s < 0:
            raise ValueError(f"latency_s is {latency_s}; it must be at least 0")
        self._source, self._own, self._sleep, self._clock = source, own, sleep, clock
        self._bytes_s, self._latency_s, self._free_s = mbit_s * 1e6 / 8, latency_s, 0.0

    def read(self, ids_n: Tensor) -> Tensor:
        """Return the source's rows after latency + bytes / bandwidth seconds; an empty request takes no time."""
        return self.read_async(ids_n)()

    def read_async(self, ids_n: Tensor) -> Callable[[], Tensor]:
        """Request rows; return a callable that waits for the rest of their time, to be called in request order."""
        requested_s, wait_rows = self._clock(), read_async(self._source, ids_n)
        remote = int(((ids_n < self._own.start) | (ids_n >= self._own.stop)).sum())

        def wait() -> Tensor:
            rows = wait_rows()
            if remote:
                size = remote * rows[0].numel() * rows.element_size()
                self._free_s = max(self._free_s, requested_s) + size / self._bytes_s
                self._sleep(max(0.0, self._free_s + self._latency_s - self._clock()))
            return rows

        return wait
