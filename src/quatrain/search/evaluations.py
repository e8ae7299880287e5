"""What a worker is asked about a sub-network, and what came out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from quatrain.supernet.space import Subnet

_COUNTS = ("images", "objects")
"""Figures that add up over stretches of images; all others are means over objects."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A sub-network, and the stretch of images on which it is to be measured."""

    subnet: Subnet
    first: int = 0
    last: int | None = None
    """The image after the last one; None is all images."""

    def __post_init__(self) -> None:
        if self.first < 0 or (self.last is not None and self.last <= self.first):
            raise ValueError(f"images {self.first} to {self.last} are none; the last must be above the first")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A sub-network and what was measured of it."""

    subnet: Subnet
    params: int
    """Parameters of its image encoder."""
    macs: int
    """Multiply-accumulates of its image encoder for one image."""
    metrics: dict[str, float]
    """Measured figures by name, over every image so far."""
    score: float
    """The metric that the search raises."""
    proposed: bool
    """Whether the search proposed it; a baseline is recorded without that."""


def joined(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return the figures over both of two stretches of images: counts add up, means are weighted by objects.

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
    """Return the items that no other beats, by ascending size; `place` tells the size and the score of one.

    One item beats another that is no smaller and no better, and not equal to it in both.
    """
    front: list[Item] = []
    for item in sorted(items, key=lambda item: (place(item)[0], -place(item)[1])):
        if not front or place(item)[1] > place(front[-1])[1] or place(item) == place(front[-1]):
            front.append(item)
    return tuple(front)
