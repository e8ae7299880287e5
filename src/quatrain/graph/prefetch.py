"""Prefetch of mini-batches: a thread samples them and reads their features while an earlier batch trains.

That thread alone uses DGL while it runs. It prepares batches across epochs if the stream of batches does.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from torch import Tensor

from quatrain.graph.feature_path import FeatureReader
from quatrain.graph.features.metrics import ReadMetrics
from quatrain.graph.features.source import FeatureSource, read_async
from quatrain.graph.loader import Batch, Batches

Ready = TypeVar("Ready")
Item = TypeVar("Item")


@dataclass(slots=True)
class PreparedBatch:
    """A batch with features and labels."""

    blocks: list[Any]
    features: Tensor
    """float32 (n, F)."""
    labels: Tensor
    """int64 (B,)."""
    sample_s: float
    """Seconds of sampling."""
    metrics: ReadMetrics
    """Counts and times of the feature read."""
    prepare_s: float = 0.0
    """Seconds of the preparing thread since the previous batch was ready."""
    cache_s: float = 0.0
    """Part of prepare_s for lookup, policy and copy."""


class Preparation:
    """Turns sampled batches into prepared ones; used by one thread, which alone uses DGL meanwhile."""

    def __init__(self, batches: Batches, reader: FeatureReader, labels: FeatureSource, *, overlaps: bool) -> None:
        """Take the sampler (for its clock) and the sources of features, float32 (n, F), and labels, int64 (B,).

        With `overlaps`, a batch is started before the previous one is finished.
        """
        self._batches, self._reader, self._labels, self._overlaps = batches, reader, labels, overlaps
        self._cache_s = 0.0

    def prepare(self, batches: Iterable[Batch]) -> Iterator[PreparedBatch]:
        """Yield each batch with features and labels."""
        started = map(self._start, batches)
        since = time.perf_counter()
        for finish in pipelined(started) if self._overlaps else started:
            batch = finish()
            batch.prepare_s, batch.cache_s, self._cache_s = time.perf_counter() - since, self._cache_s, 0.0
            yield batch
            since = time.perf_counter()

    def _start(self, batch: Batch) -> Callable[[], PreparedBatch]:
        """Request all that a batch needs; return the callable that waits for it."""
        metrics, sampled_s = ReadMetrics(), self._batches.seconds
        wait_labels = read_async(self._labels, batch.outputs)
        finish_read = self._reader.start_read(batch.inputs, metrics)
        metrics.policy_s -= self._batches.seconds - sampled_s  # a policy that looks ahead samples while it plans
        started_s = metrics.cache_s
        self._cache_s += started_s

        def finish() -> PreparedBatch:
            features: Tensor = finish_read()
            self._cache_s += metrics.cache_s - started_s
            began = time.perf_counter()
            labels = wait_labels()
            metrics.pull_s += time.perf_counter() - began
            return PreparedBatch(batch.blocks, features, labels, batch.seconds, metrics)

        return finish


def pipelined(items: Iterable[Item]) -> Iterator[Item]:
    """Yield each item after the next one has been created."""
    waiting: Any = None
    for item in items:
        if waiting is not None:
            yield waiting
        waiting = item
    if waiting is not None:
        yield waiting


class _Failure:
    """End of the thread, with the error if there was one; a class of its own, so that no batch is taken for it."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class LookAhead(Generic[Ready]):
    """Iterator over batches that a thread prepares, at most `depth` of them ahead of the consumer.

    An error of the preparation is raised in the consumer, in place of the batch. End it by `close` or a `with` block:
    the thread stops after its present batch.
    """

    def __init__(self, batches: Iterable[Ready], *, depth: int = 1) -> None:
        """Start at once; ValueError unless `depth` is at least 1."""
        if depth < 1:
            raise ValueError(f"depth is {depth}; look-ahead needs at least 1 batch")
        self._free = threading.Semaphore(depth)
        self._ready: queue.SimpleQueue[Ready | _Failure] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, args=(batches,), name="look-ahead", daemon=True)
        self._thread.start()

    def _run(self, batches: Iterable[Ready]) -> None:
        try:
            self._fill(iter(batches))
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            self._ready.put(_Failure(error))
        else:
            self._ready.put(_Failure(None))

    def _fill(self, batches: Iterator[Ready]) -> None:
        self._free.acquire()
        while not self._stop.is_set():
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._ready.put(batch)
            del batch  # else the thread would keep it in memory while it waits
            self._free.acquire()

    def __iter__(self) -> Iterator[Ready]:
        return self

    def __next__(self) -> Ready:
        if self._ended:
            raise StopIteration
        item = self._ready.get()
        if isinstance(item, _Failure):
            self._ended = True
            if item.error is not None:
                raise item.error
            raise StopIteration
        self._free.release()
        return item

    def close(self, timeout_s: float = 30.0) -> None:
        """Stop the thread and wait for it; TimeoutError when a batch takes longer than `timeout_s`.

        The thread is a daemon, so it does not keep the process alive.
        """
        self._ended = True
        self._stop.set()
        self._free.release()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"the look-ahead thread did not end within {timeout_s:g} s")

    def __enter__(self) -> LookAhead[Ready]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
