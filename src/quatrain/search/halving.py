"""Successive halving on images: few for every network, more for the best ones (ASHA; Li et al. 2020, algorithm 2).

The rule: a network is promoted to the next rung as soon as it is among the best 1 / eta, rounded down, of all networks
measured on its rung so far. Higher rungs are served first. After the last proposal the share is rounded up, so the best
network of each rung is always measured on all images. Networks are compared on the same images only. There are no
generations, so no network waits for others.
"""

from __future__ import annotations

from collections.abc import Sequence


def rungs(images: int, *, eta: int, least: int) -> tuple[int, ...]:
    """Return the number of images of each rung, ascending; the last is `images`, the others are at least `least`.

    With `eta` 1 every network is measured on all images at once.
    """
    counts = [images]
    while eta > 1 and counts[0] // eta >= least:
        counts.insert(0, counts[0] // eta)
    return tuple(counts)


class Halving:
    """The scores of networks on each rung, and which of them were promoted."""

    def __init__(self, rungs: Sequence[int], eta: int) -> None:
        if eta < 1:
            raise ValueError(f"eta is {eta}; it must be at least 1")
        if list(rungs) != sorted(set(rungs)) or (rungs and rungs[0] < 1):
            raise ValueError(f"rungs are {tuple(rungs)}; give ascending numbers of images")
        self.rungs, self._eta = tuple(rungs), eta
        self._scores: dict[int, dict[str, float]] = {images: {} for images in self.rungs}
        self._promoted: dict[int, set[str]] = {images: set() for images in self.rungs}

    def add(self, key: str, images: int, score: float) -> None:
        """Record the score of a network on the first `images` images, one of the rungs."""
        self._scores[images][key] = score

    def score(self, key: str, images: int) -> float | None:
        """Return the score of a network on a rung, or None if it was not measured."""
        return self._scores[images].get(key)

    def promotion(self, *, last_call: bool) -> tuple[str, int, int] | None:
        """Return a network to promote with its present and its next number of images; None if none is left."""
        steps = list(zip(self.rungs[:-1], self.rungs[1:], strict=True))
        for images, more in reversed(steps):
            scores = self._scores[images]
            count = -(-len(scores) // self._eta) if last_call else len(scores) // self._eta
            best = sorted(scores, key=lambda key: (-scores[key], key))[:count]
            for key in best:
                if key not in self._promoted[images]:
                    return key, images, more
        return None

    def promote(self, key: str, images: int) -> None:
        """Record that a network needs no further promotion from a rung."""
        self._promoted[images].add(key)
