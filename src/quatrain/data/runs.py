"""A mask as its vertical runs: compact, cheap to shift, and what COCO's run-length encoding is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom pixel of a mask, all inside it; zeros for an empty mask, as in segment_anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Vertical runs of a mask, column by column: the column, the first row, and the row after the last."""

    x: Ints
    top: Ints
    end: Ints

    @classmethod
    def of(cls, mask_WH: Bools, x: int = 0, y: int = 0) -> Runs:
        """Return the runs of a transposed mask whose first pixel lies at `x`, `y`."""
        width, height = mask_WH.shape
        framed = np.zeros(1 + width * (height + 1), np.bool_)  # a gap after each column: no run goes over
        framed[1:].reshape(width, height + 1)[:, :height] = mask_WH
        column, row = np.divmod(np.flatnonzero(framed[1:] != framed[:-1]).astype(np.int32), np.int32(height + 1))
        return cls(x=column[::2] + np.int32(x), top=row[::2] + np.int32(y), end=row[1::2] + np.int32(y))

    @property
    def area(self) -> int:
        """The number of pixels."""
        return int((self.end - self.top).sum())

    @property
    def box(self) -> Box:
        """The smallest box around the mask."""
        if not len(self.x):
            return 0, 0, 0, 0
        return int(self.x[0]), int(self.top.min()), int(self.x[-1]), int(self.end.max()) - 1

    def shifted(self, x: int, y: int) -> Runs:
        """Return the mask moved by `x` columns and `y` rows."""
        if not (x or y):
            return self
        return Runs(x=self.x + np.int32(x), top=self.top + np.int32(y), end=self.end + np.int32(y))

    def mask(self, rows: int, columns: int, x: int = 0, y: int = 0) -> Bools:
        """Return the part of the mask from `x`, `y` on, bool (rows, columns), laid out by columns."""
        x_, top, end = self.x - x, np.clip(self.top - y, 0, rows), np.clip(self.end - y, 0, rows)
        kept = (x_ >= 0) & (x_ < columns) & (end > top)
        ends = np.stack([x_[kept] * rows + top[kept], x_[kept] * rows + end[kept]], axis=1).ravel()
        lengths = np.diff(ends, prepend=0, append=rows * columns)
        flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        return np.asarray(flat.reshape(columns, rows).T)

    def counts(self, rows: int) -> list[int]:
        """Return the lengths of COCO's uncompressed encoding without the last gap: gap, run, gap, run ..."""
        ends = np.stack([self.x * np.int64(rows) + self.top, self.x * np.int64(rows) + self.end], axis=1).ravel()
        lengths = np.diff(ends, prepend=0)
        seam = np.flatnonzero(lengths[2::2] == 0) * 2 + 2  # a run down to the last row goes on in the next column
        ends = np.delete(ends, np.concatenate([seam - 1, seam]))
        return [int(length) for length in np.diff(ends, prepend=0)]

    def encoding(self, rows: int, columns: int) -> dict[str, Any]:
        """Return COCO's uncompressed encoding, as segment_anything writes it."""
        counts = self.counts(rows)
        rest = rows * columns - sum(counts)
        return {"size": [rows, columns], "counts": [*counts, rest] if rest or not counts else counts}


def without_small(mask_HW: Bools, smallest_px: int) -> tuple[Bools, bool]:
    """Fill holes and drop islands of fewer than `smallest_px` pixels; tell whether that changed the mask.

    Pixels that touch at a corner belong together. The largest island always stays. The border of the image does not
    matter: a small region of background in a corner is a hole (segment_anything's remove_small_regions).
    """
    filled, holes = _small(~mask_HW, smallest_px)
    mask = mask_HW | filled
    islands, few = _small(mask, smallest_px, but_largest=True)
    return mask & ~islands, holes or few


def _small(region_HW: Bools, smallest_px: int, *, but_largest: bool = False) -> tuple[Bools, bool]:
    """Return the pixels of small connected parts, and whether there are any."""
    parts, count = ndimage.label(region_HW, np.ones((3, 3), int))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    small = sizes < smallest_px
    small[0] = False
    found = bool(small.any())
    if but_largest and found and small[1:].all():
        small[1 + sizes[1:].argmax()] = False
    return small[parts], found
