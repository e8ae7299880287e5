"""Mask logits at the image's size, equal to SAM's, computed only where they can exceed a threshold.

SAM enlarges logits bilinearly to the network's input, cuts the padding off, and resizes to the image. Both steps are
linear and separable, so together they are one band matrix per axis. An interpolated logit never exceeds its
neighbours. If all neighbours are below a threshold, so is the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_BAND = 64
"""Rows of the result computed at a time."""
_SLACK = 1e-3
"""Upper bound of the rounding error of an interpolation, as a share of the threshold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A part of an image: left and top edge, and its sizes, in pixels."""

    x: int
    y: int
    width: int
    height: int


class Enlarger:
    """Resizes logits of `low` positions per side to an image.

    `side_px` is the network's input size, `valid_px` (rows, columns) the part of it without padding, and `image_px`
    (rows, columns) the image's size.
    """

    def __init__(self, low: int, side_px: int, valid_px: tuple[int, int], image_px: tuple[int, int]) -> None:
        self._rows, self._columns = (
            _Axis.of(low, side_px, valid, image) for valid, image in zip(valid_px, image_px, strict=True)
        )

    def window(self, logits_hw: Tensor, threshold: float) -> Window:
        """Return a part of the image outside of which no enlarged logit exceeds `threshold`."""
        above = (logits_hw > threshold - _SLACK * abs(threshold)).numpy()
        top, bottom = self._rows.reached(np.flatnonzero(above.any(axis=1)))
        left, right = self._columns.reached(np.flatnonzero(above.any(axis=0)))
        return Window(x=left, y=top, width=max(0, right - left), height=max(0, bottom - top))

    def enlarge(self, logits_hw: Tensor, window: Window) -> Tensor:
        """Return a part of the enlarged logits, transposed: (window.width, window.height)."""
        tall_Hw = self._rows.multiply(logits_hw, window.y, window.height)
        return self._columns.multiply(tall_Hw.T.contiguous(), window.x, window.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Axis:
    """The band matrix of one axis."""

    weight_OI: Tensor
    first_O: NDArray[np.int64]
    """First input of each output; ascending. `last_O` is the last one."""
    last_O: NDArray[np.int64]

    @classmethod
    def of(cls, low: int, side_px: int, valid_px: int, image_px: int) -> _Axis:
        unit = torch.eye(low, dtype=torch.float64)[None]
        network = functional.interpolate(unit, side_px, mode="linear", align_corners=False)[..., :valid_px]
        weight_OI = functional.interpolate(network, image_px, mode="linear", align_corners=False)[0].T
        used = (weight_OI != 0).numpy()
        first_O, last_O = used.argmax(axis=1), low - 1 - used[:, ::-1].argmax(axis=1)
        return cls(weight_OI=weight_OI.float().contiguous(), first_O=first_O, last_O=last_O)

    def reached(self, inputs: NDArray[np.int64]) -> tuple[int, int]:
        """Return the range of outputs that some inputs, in ascending order, reach."""
        if not len(inputs):
            return 0, 0
        start = int(np.searchsorted(self.last_O, inputs[0], side="left"))
        return start, int(np.searchsorted(self.first_O, inputs[-1], side="right"))

    def multiply(self, x_IK: Tensor, start: int, length: int) -> Tensor:
        """Return the outputs from `start` on, (length, K)."""
        out = x_IK.new_empty(length, x_IK.shape[1])
        for first in range(start, start + length, _BAND):
            last = min(first + _BAND, start + length)
            low, high = int(self.first_O[first]), int(self.last_O[last - 1]) + 1
            torch.mm(self.weight_OI[first:last, low:high], x_IK[low:high], out=out[first - start : last - start])
        return out
