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
    say: Callable[[str], None],
    *,
    baselines: Iterable[Subnet] = (),
    in_order: bool = False,
) -> None:
    """Measure what the search proposes, then `baselines`, until there is nothing left; `told` is called a result.

    More networks are under way than there are workers, see `under_way`.
    A network that cannot be measured, after its retries, is set aside, and `say` gets a line of it. Raises what the
    last of HOPELESS failures in a row raised.
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
        say(f"set aside, the search goes on without it: {trial.subnet.key}: {error}")

    keep_busy(under_way(workers, in_order=in_order), draw, measure, finish, failed=failed, in_order=in_order)


def under_way(workers: int, *, in_order: bool = False) -> int:
    """Return how many networks are handed out at once: one for each two workers waits in the queue.

    Then no worker waits for the engine where several end at once. None waits with `in_order`, or for one worker.
    """
    return workers if in_order or workers == 1 else workers + -(-workers // 2)
