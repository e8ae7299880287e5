"""Mini-batches made ready ahead of their use, on the one thread that alone talks to DGL.

The thread iterates over what samples batches and reads their features while the consumer trains on an earlier one. It
crosses epochs when that does: chain the epochs to keep it going.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from torch import Tensor

from quatrain.graph.epoch_stats import Step
from quatrain.graph.feature_path import Features
from quatrain.graph.features.metrics import ReadMetrics
from quatrain.graph.features.source import FeatureSource, ask
from quatrain.graph.loader import Batch, Batches

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


Item = TypeVar("Item")


class Preparation:
    """Turns a trainer's batches into steps; for one thread, which alone talks to DGL while it does."""

    def __init__(self, batches: Batches, features: Features, labels: FeatureSource, *, overlaps: bool) -> None:
        """Take what samples, for its clock, and where features, float32 (n, F), and labels, int64 (B,), come from.

        `overlaps` lets a batch begin before the one before has ended.
        """
        self._batches, self._features, self._labels, self._overlaps = batches, features, labels, overlaps
        self._own_s = 0.0

    def steps(self, batches: Iterable[Batch]) -> Iterator[Step]:
        """Yield the step of each batch."""
        begun = map(self._begin, batches)
        since = time.perf_counter()
        for end in pipelined(begun) if self._overlaps else begun:
            step = end()
            step.prepare_s, step.own_s, self._own_s = time.perf_counter() - since, self._own_s, 0.0
            yield step
            since = time.perf_counter()

    def _begin(self, batch: Batch) -> Callable[[], Step]:
        """Ask for all that a batch needs; return what waits for it."""
        counters, sampled_s = ReadMetrics(), self._batches.seconds
        labels_B = ask(self._labels, batch.outputs)
        rows = self._features.begin(batch.inputs, counters)
        counters.policy_s -= self._batches.seconds - sampled_s  # a policy that foresees samples while it decides
        begun_s = counters.own_s
        self._own_s += begun_s

        def end() -> Step:
            features: Tensor = rows()
            self._own_s += counters.own_s - begun_s
            began = time.perf_counter()
            labels = labels_B()
            counters.pull_s += time.perf_counter() - began
            return Step(batch.blocks, features, labels, batch.seconds, counters)

        return end


def pipelined(items: Iterable[Item]) -> Iterator[Item]:
    """Yield each item once the one after it has been made."""
    waiting: Any = None
    for item in items:
        if waiting is not None:
            yield waiting
        waiting = item
    if waiting is not None:
        yield waiting
