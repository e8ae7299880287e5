"""What makes a trainer's batches ready: their neighbours, their features by way of the buffer, and their labels.

While the rows of one batch travel, the next one is sampled and asked for, unless trainers share a buffer: then each
batch's rows are asked for and waited for in one go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from torch import Tensor

from quatrain.graph.batches import Batch, Batches
from quatrain.graph.counted import Counters
from quatrain.graph.features import Features
from quatrain.graph.ledger import Step
from quatrain.graph.source import FeatureSource, ask

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
        for end in one_behind(begun) if self._overlaps else begun:
            step = end()
            step.prepare_s, step.own_s, self._own_s = time.perf_counter() - since, self._own_s, 0.0
            yield step
            since = time.perf_counter()

    def _begin(self, batch: Batch) -> Callable[[], Step]:
        """Ask for all that a batch needs; return what waits for it."""
        counters, sampled_s = Counters(), self._batches.seconds
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


def one_behind(items: Iterable[Item]) -> Iterator[Item]:
    """Yield each item once the one after it has been made."""
    waiting: Any = None
    for item in items:
        if waiting is not None:
            yield waiting
        waiting = item
    if waiting is not None:
        yield waiting
