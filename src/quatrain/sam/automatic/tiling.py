"""Crops and tiles of an image, which are segmented one at a time, and stitching of the masks of neighbouring tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quatrain.data.rle import Box, Rle

_SAME = 0.6
"""Least IoU, within the pixels that two tiles share, at which two masks are one object."""
_EDGE_PX = 20
"""A box closer than this to an inner edge of a crop counts as cut off by it (segment_anything)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A crop or tile of an image: left and top edge and sizes in pixels, crop layer, and size of the whole image."""

    x: int
    y: int
    width: int
    height: int
    layer: int
    image: tuple[int, int]
    """Rows and columns of the whole image."""

    @property
    def area(self) -> int:
        """The number of pixels."""
        return self.width * self.height


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskCandidate:
    """A mask with its scores, its point prompt and its frame."""

    runs: Rle
    iou: float
    """IoU that the model predicts."""
    stability: float
    point: tuple[float, float]
    frame: Frame

    def shifted(self, frame: Frame) -> MaskCandidate:
        """Return the mask in the pixels of the whole image; `frame` is the frame in whose pixels it is now."""
        point = (self.point[0] + frame.x, self.point[1] + frame.y)
        return replace(self, runs=self.runs.shifted(frame.x, frame.y), point=point)


def crops(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[Frame]:
    """Return the whole image and, for each layer i from 1 on, 4**i overlapping crops (segment_anything's)."""
    rows, columns = size
    frames = [Frame(x=0, y=0, width=columns, height=rows, layer=0, image=size)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / count))
        height, width = (math.ceil((overlap * (count - 1) + length) / count) for length in size)
        frames += [
            Frame(x=x, y=y, width=min(width, columns - x), height=min(height, rows - y), layer=layer, image=size)
            for x in (i * (width - overlap) for i in range(count))
            for y in (i * (height - overlap) for i in range(count))
            if x < columns and y < rows
        ]
    return frames


def near_inner_edge(box: Box, frame: Frame) -> bool:
    """Return whether a box, in the pixels of its frame, is near an edge of the frame that is not an image edge."""
    left, top, right, bottom = box
    pairs = (
        (left + frame.x, frame.x, 0),
        (top + frame.y, frame.y, 0),
        (right + frame.x, frame.x + frame.width, frame.image[1]),
        (bottom + frame.y, frame.y + frame.height, frame.image[0]),
    )
    return any(abs(at - edge) <= _EDGE_PX < abs(at - border) for at, edge, border in pairs)


def tiles(size: tuple[int, int], tile_px: int, overlap_px: int) -> list[Frame]:
    """Return evenly spaced tiles that cover the image and share at least `overlap_px` with their neighbours."""
    rows, columns = (_starts(length, tile_px, overlap_px) for length in size)
    return [
        Frame(x=x, y=y, width=min(tile_px, size[1]), height=min(tile_px, size[0]), layer=0, image=size)
        for y in rows
        for x in columns
    ]


def _starts(length: int, tile_px: int, overlap_px: int) -> list[int]:
    if length <= tile_px:
        return [0]
    count = math.ceil((length - overlap_px) / (tile_px - overlap_px))
    return [round(i * (length - tile_px) / (count - 1)) for i in range(count)]


def stitch(candidates_by_frame: Sequence[Sequence[MaskCandidate]], frames: Sequence[Frame]) -> list[MaskCandidate]:
    """Unite the masks of neighbouring tiles that agree where the tiles overlap.

    Two masks are one object if each is the other's best match among the masks of its tile and their IoU within the
    shared pixels is at least 0.6. A united mask has the area-weighted means of the scores. Point and frame are those
    of its largest part.
    """
    flat = [one for some in candidates_by_frame for one in some]
    group = list(range(len(flat)))
    for a, b in _matches(candidates_by_frame, frames):
        old, new = group[b], group[a]
        group = [new if g == old else g for g in group]
    members: dict[int, list[MaskCandidate]] = {}
    for g, one in zip(group, flat, strict=True):
        members.setdefault(g, []).append(one)
    return [_united(parts) if len(parts) > 1 else parts[0] for parts in members.values()]


def _matches(
    candidates_by_frame: Sequence[Sequence[MaskCandidate]], frames: Sequence[Frame]
) -> Iterator[tuple[int, int]]:
    """Yield pairs of masks that are one object, as indices in the list of all masks."""
    first = np.concatenate([[0], np.cumsum([len(some) for some in candidates_by_frame])])
    for i, frame in enumerate(frames):
        for j in range(i + 1, len(frames)):
            iou_AB = _shared_iou(candidates_by_frame[i], candidates_by_frame[j], frame, frames[j])
            if not iou_AB.size:
                continue
            for a, b in enumerate(iou_AB.argmax(axis=1)):
                if iou_AB[a, b] >= _SAME and iou_AB[:, b].argmax() == a:
                    yield int(first[i] + a), int(first[j] + b)


def _shared_iou(
    one: Sequence[MaskCandidate], other: Sequence[MaskCandidate], frame: Frame, neighbour: Frame
) -> NDArray[np.float64]:
    """Return the IoU of masks of two tiles within the pixels that the tiles share."""
    left, top = max(frame.x, neighbour.x), max(frame.y, neighbour.y)
    width = min(frame.x + frame.width, neighbour.x + neighbour.width) - left
    height = min(frame.y + frame.height, neighbour.y + neighbour.height) - top
    if width <= 0 or height <= 0 or not one or not other:
        return np.zeros((0, 0))
    a, b = (
        np.stack([f.runs.mask(height, width, left, top).ravel() for f in some]).astype(np.float32)
        for some in (one, other)
    )
    shared = (a @ b.T).astype(np.float64)
    union = a.sum(axis=1, dtype=np.float64)[:, None] + b.sum(axis=1, dtype=np.float64) - shared
    return np.asarray(shared / np.maximum(union, 1))


def _united(parts: Sequence[MaskCandidate]) -> MaskCandidate:
    areas = np.array([part.runs.area for part in parts])
    main = parts[int(areas.argmax())]
    boxes = np.array([part.runs.box for part in parts])
    left, top = boxes[:, :2].min(axis=0).tolist()
    right, bottom = boxes[:, 2:].max(axis=0).tolist()
    view = (bottom - top + 1, right - left + 1, left, top)
    union = np.logical_or.reduce([part.runs.mask(*view) for part in parts])
    return replace(
        main,
        runs=Rle.from_mask(union.T, left, top),
        iou=float(np.average([part.iou for part in parts], weights=areas)),
        stability=float(np.average([part.stability for part in parts], weights=areas)),
    )
