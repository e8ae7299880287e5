"""Mini-batches made ready ahead of their use, on the one thread that alone talks to DGL.

The thread iterates over what samples batches and reads their features while the consumer trains on an earlier one. It
crosses epochs when that does: chain the epochs to keep it going.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Ready = TypeVar("Ready")


class _Failure:
    """What ended the thread; an instance of its own class, so that no batch can be taken for it."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class LookAhead(Generic[Ready]):
    """Iterates over batches, at most `depth` of them ahead of the consumer.

    What their making raises arrives at the consumer in the place of the batch. Leave it through `close` or
    a `with` block: the thread stops after the batch that it is at.
    """

    def __init__(self, batches: Iterable[Ready], *, depth: int = 1) -> None:
        """Start at once; ValueError unless `depth` is at least 1."""
        if depth < 1:
            raise ValueError(f"depth is {depth}; look-ahead needs at least 1 batch")
        self._room = threading.Semaphore(depth)
        self._ready: queue.SimpleQueue[Ready | _Failure] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, args=(batches,), name="look-ahead", daemon=True)
        self._thread.start()

    def _run(self, batches: Iterable[Ready]) -> None:
        try:
            self._fill(iter(batches))
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            self._ready.put(_Failure(error))
        else:
            self._ready.put(_Failure(None))

    def _fill(self, batches: Iterator[Ready]) -> None:
        self._room.acquire()
        while not self._stop.is_set():
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._ready.put(batch)
            del batch  # else it would live as long as the wait
            self._room.acquire()

    def __iter__(self) -> Iterator[Ready]:
        return self

    def __next__(self) -> Ready:
        if self._over:
            raise StopIteration
        item = self._ready.get()
        if isinstance(item, _Failure):
            self._over = True
            if item.error is not None:
                raise item.error
            raise StopIteration
        self._room.release()
        return item

    def close(self, timeout_s: float = 30.0) -> None:
        """Stop the thread and wait for it; TimeoutError when it hangs in a batch for longer than `timeout_s`.

        The thread is a daemon: even a hanging one does not keep the process alive.
        """
        self._over = True
        self._stop.set()
        self._room.release()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"the look-ahead thread has not ended {timeout_s:g} s after it was told to")

    def __enter__(self) -> LookAhead[Ready]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
