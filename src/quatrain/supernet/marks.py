"""What a network reached on each image of an exam: sums that add up over its parts. Nothing here needs torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What one network reached on a set of images."""

    miou_oracle: float
    """Mean over objects of the best IoU among the three candidate masks."""
    miou_chosen: float
    """Mean over objects of the IoU of the candidate whose predicted IoU is highest."""
    objects: int
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What one network reached on one image."""

    objects: int
    oracle: float
    """Sum over the image's objects of the best IoU among the three candidate masks."""
    chosen: float
    """Sum over the image's objects of the IoU of the candidate whose predicted IoU is highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """What one network reached on some images of an exam; parts without a common image add up to the whole.

    Sums are exact, so that the figures do not depend on how the images were dealt into parts.
    """

    of: Mapping[int, Mark]
    """The mark of every image, by its place in the exam."""

    def __add__(self, other: Marks) -> Marks:
        """Return the marks of both parts; raise ValueError when they have an image in common."""
        common = sorted(self.of.keys() & other.of.keys())
        if common:
            raise ValueError(f"image {common[0]} is marked on both sides; parts of an exam share no image")
        return Marks(of={**self.of, **other.of})

    def __len__(self) -> int:
        return len(self.of)

    def at(self, places: Iterable[int]) -> Marks:
        """Return the marks of the images at `places` alone; raise KeyError for one that has none."""
        return Marks(of={place: self.of[place] for place in places})

    @property
    def scores(self) -> Scores:
        """The figures of all marked images; raise ValueError where there is none."""
        objects = sum(mark.objects for mark in self.of.values())
        if not objects:
            raise ValueError("no image is marked; there is no mean")
        return Scores(
            miou_oracle=math.fsum(mark.oracle for mark in self.of.values()) / objects,
            miou_chosen=math.fsum(mark.chosen for mark in self.of.values()) / objects,
            objects=objects,
            images=len(self.of),
        )

    def plain(self) -> dict[str, dict[str, Any]]:
        """Return the marks as JSON holds them."""
        return {str(place): asdict(mark) for place, mark in sorted(self.of.items())}

    @classmethod
    def read(cls, record: Mapping[str, Mapping[str, Any]]) -> Marks:
        """Return what `plain` gave; raise ValueError when it is none of that."""
        try:
            return cls(of={int(place): Mark(**mark) for place, mark in record.items()})
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"these are no marks of an exam: {error}") from error
