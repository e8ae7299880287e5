"""A search driven by workers: one thread asks and tells it, as many networks are measured as there are workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from quatrain.hpc.stream import keep_busy
from quatrain.search.search import Search
from quatrain.search.trial import Trial
from quatrain.supernet.subnet import Subnet

HOPELESS = 5
"""Networks that fail one after another before the search itself is given up."""


def drive(
    search: Search,
    measure: Callable[[Trial], Future[Any]],
    workers: int,
    told: Callable[[Trial], None],
    *,
    baselines: Iterable[Subnet] = (),
    in_order: bool = False,
) -> None:
    """Measure what the search proposes, then `baselines`, until there is nothing left; `told` is called a result.

    One network for each eight workers waits in the queue, so that no worker waits for the engine; none with
    `in_order`, or for a single worker.
    A network that cannot be measured, after its retries, is set aside. Raises what the last of HOPELESS failures in a
    row raised.
    """
    others = filter(None, map(search.baseline, dict.fromkeys(baselines)))
    failures = 0

    def draw() -> Trial | None:
        return search.propose() or next(others, None)

    def finish(trial: Trial, metrics: dict[str, float]) -> None:
        nonlocal failures
        search.record(trial, metrics)
        failures = 0
        told(trial)

    def failed(trial: Trial, error: Exception) -> None:
        nonlocal failures
        failures += 1
        if failures == HOPELESS:
            raise error
        search.set_aside(trial, str(error))

    ahead = 0 if in_order or workers == 1 else -(-workers // 8)
    keep_busy(workers + ahead, draw, measure, finish, failed=failed, in_order=in_order)
