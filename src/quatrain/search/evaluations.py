"""A measurement of a sub-network to do (Trial), its result (Evaluation), and the Pareto front of results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from quatrain.supernet.space import Subnet

_COUNTS = ("images", "objects")
"""Figures that add up over ranges of images; all others are means over objects."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A sub-network and the range of images to measure it on."""

    subnet: Subnet
    first: int = 0
    last: int | None = None
    """Index after the last image; None means all images."""

    def __post_init__(self) -> None:
        if self.first < 0 or (self.last is not None and self.last <= self.first):
            raise ValueError(f"images {self.first} to {self.last} are not a range; last must be above first")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A sub-network with its size and measured figures."""

    subnet: Subnet
    params: int
    """Parameters of its image encoder."""
    macs: int
    """Multiply-accumulates of its image encoder per image."""
    metrics: dict[str, float]
    """Measured figures by name, over all images so far."""
    score: float
    """The metric that the search maximises."""
    proposed: bool
    """Whether the search proposed it; False for a baseline."""


def joined(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return the figures over two ranges of images: counts add up, means are weighted by objects.

    >>> joined({"miou": 0.5, "objects": 1}, {"miou": 0.8, "objects": 2})
    {'miou': 0.7, 'objects': 3.0}
    """
    weights = one.get("objects", 1.0), other.get("objects", 1.0)
    total = sum(weights)
    return {
        name: one[name] + other[name]
        if name in _COUNTS
        else (weights[0] * one[name] + weights[1] * other[name]) / total
        for name in one
        if name in other
    }


Item = TypeVar("Item")


def pareto(items: Iterable[Item], place: Callable[[Item], tuple[float, float]]) -> tuple[Item, ...]:
    """Return the Pareto front by ascending size; `place` returns the size and the score of an item.

    An item dominates another that is no smaller and no better, unless both are equal.
    """
    front: list[Item] = []
    for item in sorted(items, key=lambda item: (place(item)[0], -place(item)[1])):
        if not front or place(item)[1] > place(front[-1])[1] or place(item) == place(front[-1]):
            front.append(item)
    return tuple(front)
