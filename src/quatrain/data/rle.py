"""Masks as run lengths (RLE): the runs of a mask, COCO's encodings of them, and the removal of small parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom pixel of a mask, all inside it; zeros for an empty mask, as in segment_anything."""

_LONGEST_NUMBER = 12
"""Characters that one number of COCO's text may have: 60 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rle:
    """Vertical runs of a mask, sorted by column and row; no run continues in the next column.

    The runs do not depend on the size of the image, so a mask of a tile moves to its place by two additions.
    """

    x: Int32s
    """Column of each run, int32 (R,)."""
    top: Int32s
    """First row of each run, int32 (R,)."""
    end: Int32s
    """Row after the last one of each run, int32 (R,)."""

    @classmethod
    def from_mask(cls, mask_WH: Bools, x: int = 0, y: int = 0) -> Rle:
        """Return the runs of a transposed mask, bool (W, H), whose first pixel is at column `x` and row `y`."""
        width, height = mask_WH.shape
        framed = np.zeros(1 + width * (height + 1), np.bool_)  # one pixel between columns, so that runs end there
        framed[1:].reshape(width, height + 1)[:, :height] = mask_WH
        column, row = np.divmod(np.flatnonzero(framed[1:] != framed[:-1]).astype(np.int32), np.int32(height + 1))
        return cls(x=column[::2] + np.int32(x), top=row[::2] + np.int32(y), end=row[1::2] + np.int32(y))

    @classmethod
    def from_counts(cls, counts: Int64s, rows: int) -> Rle:
        """Return the runs of COCO's uncompressed counts: outside, inside, outside ... down the columns."""
        bounds = np.concatenate([[0], np.cumsum(counts)])
        starts, ends = bounds[1:-1:2], bounds[2::2]
        starts, ends = starts[ends > starts], ends[ends > starts]
        columns = (ends - 1) // rows - starts // rows + 1
        run = np.repeat(np.arange(len(starts)), columns)
        x = starts[run] // rows + np.arange(len(run)) - np.repeat(np.cumsum(columns) - columns, columns)
        top = np.maximum(starts[run] - x * rows, 0)
        end = np.minimum(ends[run] - x * rows, rows)
        return cls(x=x.astype(np.int32), top=top.astype(np.int32), end=end.astype(np.int32))

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

    def shifted(self, x: int, y: int) -> Rle:
        """Return the mask moved by `x` columns and `y` rows."""
        if not (x or y):
            return self
        return Rle(x=self.x + np.int32(x), top=self.top + np.int32(y), end=self.end + np.int32(y))

    def mask(self, rows: int, columns: int, x: int = 0, y: int = 0) -> Bools:
        """Return the part of the mask from column `x` and row `y` on, bool (rows, columns), in Fortran order."""
        x_, top, end = self.x - x, np.clip(self.top - y, 0, rows), np.clip(self.end - y, 0, rows)
        kept = (x_ >= 0) & (x_ < columns) & (end > top)
        ends = np.stack([x_[kept] * rows + top[kept], x_[kept] * rows + end[kept]], axis=1).ravel()
        lengths = np.diff(ends, prepend=0, append=rows * columns)
        flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        return np.asarray(flat.reshape(columns, rows).T)

    def counts(self, rows: int, columns: int) -> Int64s:
        """Return COCO's uncompressed counts in an image of `rows` x `columns` pixels, int64; the last is not zero."""
        ends = np.stack([self.x * np.int64(rows) + self.top, self.x * np.int64(rows) + self.end], axis=1).ravel()
        seam = np.flatnonzero(ends[2::2] == ends[1:-1:2]) * 2 + 2  # a run to the last row continues in the next column
        counts = np.diff(np.delete(ends, np.concatenate([seam - 1, seam])), prepend=0, append=rows * columns)
        return counts if counts[-1] or len(counts) == 1 else counts[:-1]

    def encoding(self, rows: int, columns: int) -> dict[str, Any]:
        """Return COCO's uncompressed encoding, as segment_anything writes it."""
        return {"size": [rows, columns], "counts": self.counts(rows, columns).tolist()}

    def compressed(self, rows: int, columns: int) -> bytes:
        """Return the text of COCO's compressed encoding."""
        text: bytes = coco_mask.frPyObjects(self.encoding(rows, columns), rows, columns)["counts"]
        return text

    def without_islands(self, smallest_px: float, *, diagonal: bool) -> Rle:
        """Return the mask without connected parts of fewer than `smallest_px` pixels; the largest part is always kept.

        `diagonal` connects pixels that share a corner only. Return this object when no part is that small.
        """
        if not len(self.x):
            return self
        part = self._parts(reach=int(diagonal))
        sizes = np.bincount(part, self.end - self.top)
        large = sizes >= smallest_px
        if large.all():
            return self
        large[sizes.argmax()] = True
        return self._select(large[part])

    def without_holes(self, rows: int, columns: int, smallest_px: float, *, at_border: bool) -> Rle:
        """Return the mask with holes of fewer than `smallest_px` pixels filled; pixels of a hole connect by corners.

        `at_border` also fills background that touches the border of the image of `rows` x `columns` pixels, as
        segment_anything's remove_small_regions does. Return this object when no hole is that small.
        """
        outside = self._inverted(rows, columns)
        if not len(outside.x):
            return self
        part = outside._parts(reach=1)
        kept = np.bincount(part, outside.end - outside.top) >= smallest_px
        if not at_border:
            x, top, end = outside.x, outside.top, outside.end
            kept[part[(x == 0) | (x == columns - 1) | (top == 0) | (end == rows)]] = True
        return self if kept.all() else outside._select(kept[part])._inverted(rows, columns)

    def _select(self, chosen: Bools) -> Rle:
        return Rle(x=self.x[chosen], top=self.top[chosen], end=self.end[chosen])

    def _inverted(self, rows: int, columns: int) -> Rle:
        """Return the runs of the pixels outside the mask."""
        counts = self.counts(rows, columns)
        return Rle.from_counts(np.concatenate([[0], counts]), rows)

    def _parts(self, reach: int) -> Int32s:
        """Return the connected part of each run; runs of neighbouring columns touch if they overlap within `reach`."""
        pitch = np.int64(self.end.max()) + 2  # rows between columns that no reach can cross
        starts, ends = self.x * pitch + self.top, self.x * pitch + self.end
        first = np.searchsorted(ends, starts + pitch - reach, side="right")
        last = np.searchsorted(starts, ends + pitch + reach, side="left")
        touching = np.maximum(0, last - first)
        run = np.repeat(np.arange(len(starts)), touching)
        other = np.arange(len(run)) - np.repeat(np.cumsum(touching) - touching - first, touching)
        graph = coo_array((np.ones(len(run), bool), (run, other)), shape=(len(starts), len(starts)))
        parts: Int32s = connected_components(graph, directed=False)[1]
        return parts


def compress(mask_HW: NDArray[Any]) -> bytes:
    """Return the text of COCO's compressed encoding of a mask (H, W), bool or numbers; what is not 0 is inside."""
    text: bytes = coco_mask.encode(np.asfortranarray(mask_HW != 0).view(np.uint8))["counts"]
    return text


def counts_of_text(text: bytes) -> Int64s:
    """Return the counts in the text of COCO's compressed encoding, int64; raise ValueError when it is damaged.

    pycocotools offers no function for this, and its decoder reads past the end of a damaged text. A character has
    five bits of a number, the lowest first; the sixth bit says that the number continues. From the fourth number on,
    the text has the difference from the last but one.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(ends) or codes.min() < 0 or codes.max() > 63 or ends[-1] != len(codes) - 1:
        raise ValueError("its text is not a run-length code")
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _LONGEST_NUMBER:
        raise ValueError("its text holds a number that is too long")
    starts = ends - lengths + 1
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 31) << shifts, starts)
    numbers -= (codes[ends] & 16) >> 4 << 5 * lengths  # bit five of the last character is the sign
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
