"""Workers kept busy without barriers: the next piece of work starts when any one ends."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

Work = TypeVar("Work")


def keep_busy(
    workers: int,
    draw: Callable[[], Work | None],
    start: Callable[[Work], Future[Any]],
    finish: Callable[[Work, Any], None],
) -> None:
    """Start what `draw` gives, `workers` at a time, until it gives None; hand each result to `finish` as it comes.

    All three are called from the caller's thread. A task that failed raises here; those under way are left to end.
    """
    under_way: dict[Future[Any], Work] = {}
    while True:
        while len(under_way) < workers and (work := draw()) is not None:
            under_way[start(work)] = work
        if not under_way:
            return
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            finish(under_way.pop(future), future.result())
