"""Successive halving on images: few for every network, more for those that do well (ASHA; Li et al. 2020, algorithm 2).

The rule: a network that was measured on the images of one rung goes on to the next as soon as it is among the best
1 / eta, rounded down, of all networks measured on that rung so far. Higher rungs are looked at first. Once nothing
new will be proposed, the share is rounded up, so that the best network of each rung is always measured to the end.
Networks are compared on the same images only, and none waits for others: there is no generation.
"""

from __future__ import annotations

from collections.abc import Sequence


def rungs(images: int, *, eta: int, least: int) -> tuple[int, ...]:
    """Return how many images each rung has, ascending; the last is all of `images`, none below has under `least`.

    With `eta` 1 every network is measured on all images at once.
    """
    counts = [images]
    while eta > 1 and counts[0] // eta >= least:
        counts.insert(0, counts[0] // eta)
    return tuple(counts)


class Halving:
    """Who was measured on which rung, and who goes on; the last of `rungs` is the end."""

    def __init__(self, rungs: Sequence[int], eta: int) -> None:
        if eta < 1:
            raise ValueError(f"eta is {eta}; it must be at least 1")
        if list(rungs) != sorted(set(rungs)) or (rungs and rungs[0] < 1):
            raise ValueError(f"rungs are {tuple(rungs)}; give ascending numbers of images")
        self.rungs, self._eta = tuple(rungs), eta
        self._scores: dict[int, dict[str, float]] = {images: {} for images in self.rungs}
        self._gone_on: dict[int, set[str]] = {images: set() for images in self.rungs}

    def add(self, key: str, images: int, score: float) -> None:
        """Remember what a network reached on the first `images` images, one of the rungs."""
        self._scores[images][key] = score

    def score(self, key: str, images: int) -> float | None:
        """Return what a network reached on a rung, or None where it was not measured."""
        return self._scores[images].get(key)

    def promotion(self, *, last_call: bool) -> tuple[str, int, int] | None:
        """Return a network that should go on, the images it has and those it should get; None when nobody should."""
        steps = list(zip(self.rungs[:-1], self.rungs[1:], strict=True))
        for images, more in reversed(steps):
            scores = self._scores[images]
            count = -(-len(scores) // self._eta) if last_call else len(scores) // self._eta
            best = sorted(scores, key=lambda key: (-scores[key], key))[:count]
            for key in best:
                if key not in self._gone_on[images]:
                    return key, images, more
        return None

    def promote(self, key: str, images: int) -> None:
        """Remember that a network goes on from a rung, or never will."""
        self._gone_on[images].add(key)
