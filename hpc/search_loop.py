"""Drives a search with workers: one thread proposes networks and records results, the workers measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from quatrain.hpc.worker import MachineError, TaskError
from quatrain.search.evaluations import Trial
from quatrain.search.search import Search
from quatrain.supernet.space import Subnet

HOPELESS = 5
"""Failures in a row after which the search ends."""


def drive(
    search: Search,
    measure: Callable[[Trial], Future[Any]],
    workers: int,
    on_result: Callable[[Trial], None],
    say: Callable[[str], None],
    *,
    baselines: Iterable[Subnet] = (),
    in_order: bool = False,
) -> None:
    """Measure the search's proposals, then `baselines`; `on_result` is called for each result.

    More networks are under way than there are workers, see `under_way`. A network that still fails after its retries
    is set aside, and `say` gets a line about it. After HOPELESS failures in a row the last error is raised.
    """
    others = filter(None, map(search.baseline, dict.fromkeys(baselines)))
    failures = 0

    def draw() -> Trial | None:
        return search.propose() or next(others, None)

    def finish(trial: Trial, metrics: dict[str, float]) -> None:
        nonlocal failures
        search.record(trial, metrics)
        failures = 0
        on_result(trial)

    def failed(trial: Trial, error: Exception) -> None:
        nonlocal failures
        failures += 1
        if failures == HOPELESS:
            raise error
        search.set_aside(trial, str(error))
        say(f"set aside, the search continues without it: {trial.subnet.key}: {error}")

    keep_busy(under_way(workers, in_order=in_order), draw, measure, finish, failed=failed, in_order=in_order)


def under_way(workers: int, *, in_order: bool = False) -> int:
    """Return how many networks are under way at once: one per worker, and one per two workers in the queue.

    With a queue, no worker waits for the engine when several end at once. `in_order` and one worker have no queue.
    """
    return workers if in_order or workers == 1 else workers + -(-workers // 2)


Work = TypeVar("Work")


def keep_busy(
    workers: int,
    draw: Callable[[], Work | None],
    start: Callable[[Work], Future[Any]],
    finish: Callable[[Work, Any], None],
    *,
    failed: Callable[[Work, Exception], None] | None = None,
    in_order: bool = False,
) -> None:
    """Start the work that `draw` returns, `workers` at a time, until it returns None; pass each result to `finish`.

    All functions are called from the caller's thread. `failed` gets each task that ends with TaskError or ValueError,
    or whose result `finish` refuses with ValueError. Without `failed`, and for any other exception, the error is raised
    here and the tasks under way are left to end. With `in_order`, results are passed in the order of their start: then
    `draw` does not depend on timing, but workers wait.
    """
    under_way: dict[Future[Any], Work] = {}
    while True:
        while len(under_way) < workers and (work := draw()) is not None:
            under_way[start(work)] = work
        if not under_way:
            return
        for future in _ended(under_way, in_order):
            _hand_on(future, under_way.pop(future), finish, failed)


def _ended(under_way: Iterable[Future[Any]], in_order: bool) -> list[Future[Any]]:
    """Wait for the oldest task, or for any; return those that ended, oldest first."""
    waited = [next(iter(under_way))] if in_order else list(under_way)
    done = wait(waited, return_when=FIRST_COMPLETED).done
    return [future for future in waited if future in done]


def _hand_on(
    future: Future[Any],
    work: Work,
    finish: Callable[[Work, Any], None],
    failed: Callable[[Work, Exception], None] | None,
) -> None:
    try:
        finish(work, future.result())
    except MachineError:
        raise
    except (TaskError, ValueError) as error:
        if failed is None:
            raise
        failed(work, error)
