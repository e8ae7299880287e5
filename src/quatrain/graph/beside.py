"""A thread that copies rows while the one that talks to DGL waits for the network. It never talks to DGL itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class Beside:
    """Does one piece of work at a time on a thread of its own, and keeps the time."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start the thread with the first work; it ends with the object."""
        self._pool, self._clock = ThreadPoolExecutor(1, "beside"), clock
        self._seconds = 0.0

    def start(self, work: Callable[[], Result]) -> Future[Result]:
        """Begin `work` and return its future; what it raises, the future raises."""
        return self._pool.submit(self._timed, work)

    def take(self) -> float:
        """Return the seconds worked since the last time; not while there is work."""
        taken, self._seconds = self._seconds, 0.0
        return taken

    def _timed(self, work: Callable[[], Result]) -> Result:
        began = self._clock()
        try:
            return work()
        finally:
            self._seconds += self._clock() - began
