"""The front of what is best for its size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def pareto(items: Iterable[Item], place: Callable[[Item], tuple[float, float]]) -> tuple[Item, ...]:
    """Return the items that no other beats, by ascending size; `place` tells the size and the score of one.

    One item beats another that is no smaller and no better, and not equal to it in both.
    """
    front: list[Item] = []
    for item in sorted(items, key=lambda item: (place(item)[0], -place(item)[1])):
        if not front or place(item)[1] > place(front[-1])[1] or place(item) == place(front[-1]):
            front.append(item)
    return tuple(front)
