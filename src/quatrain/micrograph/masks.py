"""Masks as COCO run lengths (RLE), a few kilobytes each, with their nesting and overlaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from quatrain.data.rle import Runs, run_lengths, runs_of

# N masks, H W pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Mask:
    """One mask of an image as COCO run lengths, column by column."""

    index: int
    """Its index in the list of raw masks."""
    hw: tuple[int, int]
    """Height and width of the image."""
    counts: bytes
    """COCO's compressed run lengths."""
    area: int
    """Pixels inside."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom in pixels; right and bottom are exclusive."""
    predicted_iou: float = 1.0
    """SAM's predicted IoU; 1 if the source has none."""
    stability: float = 1.0
    """SAM's stability score; 1 if the source has none."""

    @property
    def score(self) -> float:
        """Predicted IoU x stability: the better of two duplicates has the higher score."""
        return self.predicted_iou * self.stability

    @property
    def rle(self) -> dict[str, Any]:
        """The mask as pycocotools takes it."""
        return {"size": list(self.hw), "counts": self.counts}

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        left, top, right, bottom = self.box
        return slice(top, bottom), slice(left, right)

    def pixels(self) -> NDArray[np.bool_]:
        """Return the mask, bool (H, W)."""
        return self._columns(0, self.hw[1])

    def inside(self) -> NDArray[np.bool_]:
        """Return the mask in its window alone, bool (bottom - top, right - left)."""
        left, top, right, bottom = self.box
        return self._columns(left, right)[top:bottom]

    def _columns(self, left: int, right: int) -> NDArray[np.bool_]:
        height = self.hw[0]
        bounds = np.clip(np.cumsum(self.runs()), left * height, right * height)
        runs = np.diff(bounds, prepend=left * height)
        inside: NDArray[np.bool_] = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return np.ascontiguousarray(inside.reshape(right - left, height).T)

    def runs(self) -> Runs:
        """Return its run lengths, alternating outside and inside, column by column."""
        return run_lengths(self.counts)

    def with_counts(self, counts: bytes) -> Mask:
        """Return the mask with other pixels."""
        return _mask(self.index, self.hw, counts, self.predicted_iou, self.stability)


def read_masks(records: Iterable[Any], hw: tuple[int, int]) -> list[Mask]:
    """Return the masks of an image of `hw` pixels.

    A record is one of segment_anything's automatic mask generator (`segmentation` as a bool array (H, W) or as
    COCO run lengths, `predicted_iou`, `stability_score`), a COCO annotation (run lengths or polygons, `score`), or a
    bare bool array (H, W). Raise ValueError with the record's index if one is damaged or has another size.
    """
    masks = []
    for index, record in enumerate(records):
        fields: Mapping[str, Any] = record if isinstance(record, Mapping) else {"segmentation": record}
        try:
            counts = _counts(fields, hw)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"mask {index} cannot be used: {error}") from error
        quality = float(fields.get("predicted_iou", fields.get("score", 1.0)))
        masks.append(_mask(index, hw, counts, quality, float(fields.get("stability_score", 1.0))))
    return masks


def _mask(index: int, hw: tuple[int, int], counts: bytes, predicted_iou: float, stability: float) -> Mask:
    rle = {"size": list(hw), "counts": counts}
    left, top, width, height = (int(side) for side in coco_mask.toBbox(rle))
    return Mask(
        index=index,
        hw=hw,
        counts=counts,
        area=int(coco_mask.area(rle)),
        box=(left, top, left + width, top + height),
        predicted_iou=predicted_iou,
        stability=stability,
    )


def _counts(record: Mapping[str, Any], hw: tuple[int, int]) -> bytes:
    if "segmentation" not in record:
        raise ValueError("it has no 'segmentation'")
    segmentation = record["segmentation"]
    if isinstance(segmentation, Mapping | list):
        return compressed(runs_of({**record, "id": record.get("id"), "segmentation": segmentation}, *hw), hw)
    return encoded(np.asarray(segmentation), hw)


def encoded(mask_HW: NDArray[Any], hw: tuple[int, int]) -> bytes:
    """Return a mask's compressed run lengths; raise ValueError unless it is bool or integer with shape `hw`."""
    if mask_HW.shape != hw or mask_HW.dtype.kind not in "bui":
        raise ValueError(f"it is {mask_HW.dtype} {mask_HW.shape}; it must be bool {hw}, as the image is")
    counts: bytes = coco_mask.encode(np.asfortranarray(mask_HW != 0).view(np.uint8))["counts"]
    return counts


def compressed(runs: Runs, hw: tuple[int, int]) -> bytes:
    """Return plain run lengths in COCO's compressed form."""
    counts: bytes = coco_mask.frPyObjects({"size": list(hw), "counts": runs.tolist()}, *hw)["counts"]
    return counts


def inside_shares(masks: Sequence[Mask], of: Mask) -> NDArray[np.float64]:
    """Return the share of each mask that lies inside `of`, float (N,)."""
    if not masks:
        return np.zeros(0)
    shares: NDArray[np.float64] = coco_mask.iou([mask.rle for mask in masks], [of.rle], [1])
    return shares[:, 0]


def covered(masks: Sequence[Mask], of: Mask) -> float:
    """Return the share of `of` that the masks cover together."""
    union = coco_mask.merge([mask.rle for mask in masks])
    return float(coco_mask.area(coco_mask.merge([union, of.rle], intersect=True))) / max(1, of.area)


def union_area(masks: Sequence[Mask]) -> int:
    """Return the pixels that the masks cover together."""
    return int(coco_mask.area(coco_mask.merge([mask.rle for mask in masks])))


@dataclass(frozen=True, kw_only=True, slots=True)
class Nesting:
    """Pairs of masks of which the smaller one lies mostly inside the larger one; arrays of equal length."""

    larger: NDArray[np.int64]
    """Indices in the list of masks."""
    smaller: NDArray[np.int64]
    """Indices in the list of masks; of equal areas the later mask counts as smaller."""
    inside: NDArray[np.float64]
    """Share of the smaller mask inside the larger one."""
    iou: NDArray[np.float64]
    """Intersection over union of the two."""


def nesting(masks: Sequence[Mask], least: float) -> Nesting:
    """Return the pairs with at least the share `least` of the smaller mask inside the larger one."""
    areas = np.array([mask.area for mask in masks], np.int64)
    boxes = np.array([mask.box for mask in masks], np.int64).reshape(-1, 4)
    order = np.argsort(-areas, kind="stable")
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for rank, place in enumerate(order):
        others = order[rank + 1 :]
        others = others[_box_overlap(boxes[others], boxes[place]) >= least * areas[others]]
        inside = inside_shares([masks[other] for other in others], masks[place])
        enough = (inside >= least) & (areas[others] > 0)
        found.append((np.full(int(enough.sum()), place), others[enough], inside[enough]))
    larger, smaller, inside = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else _nothing()
    common = np.rint(inside * areas[smaller])
    iou = common / np.maximum(1, areas[larger] + areas[smaller] - common)
    return Nesting(larger=larger, smaller=smaller, inside=inside, iou=iou)


def _nothing() -> tuple[NDArray[Any], ...]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)


def _box_overlap(boxes_N4: NDArray[np.int64], box_4: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pixels that each box shares with another, an upper bound of the masks' intersection."""
    low, high = np.maximum(boxes_N4[:, :2], box_4[:2]), np.minimum(boxes_N4[:, 2:], box_4[2:])
    sides: NDArray[np.int64] = np.clip(high - low, 0, None)
    return sides[:, 0] * sides[:, 1]
