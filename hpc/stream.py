"""Workers kept busy without barriers: the next piece of work starts when any one ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from quatrain.hpc.remote import TaskError

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
    """Start what `draw` gives, `workers` at a time, until it gives None; hand each result to `finish` as it comes.

    All of them are called from the caller's thread. A task that ends with TaskError or ValueError, or whose result
    `finish` refuses with ValueError, goes to `failed`; without that, and for any other exception, it raises here and
    those under way are left to end. With `in_order` results are handed on in the
    order of their start: what `draw` gives then depends on no clock, at the price of workers that wait.
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
    except (TaskError, ValueError) as error:
        if failed is None:
            raise
        failed(work, error)
