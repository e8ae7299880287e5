"""Split images into parts for training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quatrain.seeding import derive


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Names of images in three parts that share none."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    """Images that the search evaluates on."""
    test: tuple[str, ...]
    """Images of the reported figures."""


def split(names: Sequence[str], *, train: float, validation: float, test: float, seed: int) -> Split:
    """Split images into three parts in the ratio train : validation : test, each with at least one image.

    Counts serve as ratios: parts that add up to the number of images get exactly those counts. An image's part
    depends on its name, the other names and `seed`, not on the order of `names`. Raise ValueError for a ratio that
    is not positive, a duplicate name, or fewer than three images.
    """
    ratios = {"train": train, "validation": validation, "test": test}
    for part, ratio in ratios.items():
        if not 0 < ratio < float("inf"):
            raise ValueError(f"{part} is {ratio}; it must be a positive number")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"names holds {twice!r} twice; an image may stand in one part only")
    if len(names) < len(ratios):
        raise ValueError(f"names holds {len(names)} images; train, validation and test need one each")
    shuffled = sorted(names, key=lambda name: (derive(seed, "split", name), name))
    first, second, _ = _counts(len(names), (train, validation, test))
    return Split(
        train=tuple(shuffled[:first]),
        validation=tuple(shuffled[first : first + second]),
        test=tuple(shuffled[first + second :]),
    )


def _counts(total: int, ratios: tuple[float, ...]) -> list[int]:
    """Return whole counts, at least 1 each, that add up to `total` and are nearest to the ratios."""
    exact = [ratio / sum(ratios) * total for ratio in ratios]
    counts = [1] * len(ratios)
    for _ in range(total - len(ratios)):
        neediest = max(range(len(ratios)), key=lambda part: exact[part] - counts[part])
        counts[neediest] += 1
    return counts
