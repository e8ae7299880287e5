"""The masks of one image: SAM's records as RLE with their scores, their overlaps and their nesting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from quatrain.data.annotations import text_of
from quatrain.data.rle import Rle, compress, counts_of_text

# N masks, H W pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Mask:
    """One mask of an image; its pixels are COCO's compressed RLE."""

    index: int
    """Its number in the list that it was read from."""
    hw: tuple[int, int]
    """Height and width of the image."""
    counts: bytes
    """Text of COCO's compressed RLE."""
    area: int
    """Pixels inside."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom in pixels; right and bottom are exclusive."""
    predicted_iou: float = 1.0
    """IoU with the object as SAM predicts it; 1 if the source gives none."""
    stability: float = 1.0
    """SAM's stability score; 1 if the source gives none."""

    @property
    def score(self) -> float:
        """Predicted IoU times stability; of two duplicates the one with the higher score is kept."""
        return self.predicted_iou * self.stability

    @property
    def coco(self) -> dict[str, Any]:
        """The mask as pycocotools takes it."""
        return {"size": list(self.hw), "counts": self.counts}

    @property
    def rle(self) -> Rle:
        """The runs of the mask."""
        return Rle.from_counts(counts_of_text(self.counts), self.hw[0])

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        left, top, right, bottom = self.box
        return slice(top, bottom), slice(left, right)

    def pixels(self) -> NDArray[np.bool_]:
        """Return the mask, bool (H, W)."""
        return np.ascontiguousarray(self.rle.mask(*self.hw))

    def inside(self) -> NDArray[np.bool_]:
        """Return the mask in its window alone, bool (bottom - top, right - left)."""
        left, top, right, bottom = self.box
        return np.ascontiguousarray(self.rle.mask(bottom - top, right - left, left, top))

    def with_counts(self, counts: bytes) -> Mask:
        """Return the mask with other pixels."""
        return _mask(self.index, self.hw, counts, self.predicted_iou, self.stability)


def read_masks(records: Iterable[Any], hw: tuple[int, int]) -> list[Mask]:
    """Return the masks of an image of `hw` pixels.

    A record is what segment_anything's automatic mask generator gives (`segmentation` as a bool array (H, W) or as
    COCO's RLE, `predicted_iou`, `stability_score`), a COCO annotation (RLE or polygons, `score`), or a bare bool
    array (H, W). Raise ValueError, with the record's number, when one is damaged or of another size.
    """
    masks = []
    for index, record in enumerate(records):
        fields: Mapping[str, Any] = record if isinstance(record, Mapping) else {"segmentation": record}
        try:
            counts = _counts(fields, hw)
            quality = _score(fields, "predicted_iou", "score")
            masks.append(_mask(index, hw, counts, quality, _score(fields, "stability_score")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"mask {index} cannot be used: {error}") from error
    return masks


def _score(fields: Mapping[str, Any], *names: str) -> float:
    """Return the first score that a record has, 1 when it has none."""
    return next((float(fields[name]) for name in names if fields.get(name) is not None), 1.0)


def _mask(index: int, hw: tuple[int, int], counts: bytes, predicted_iou: float, stability: float) -> Mask:
    coco = {"size": list(hw), "counts": counts}
    left, top, width, height = (int(side) for side in coco_mask.toBbox(coco))
    return Mask(
        index=index,
        hw=hw,
        counts=counts,
        area=int(coco_mask.area(coco)),
        box=(left, top, left + width, top + height),
        predicted_iou=predicted_iou,
        stability=stability,
    )


def _counts(record: Mapping[str, Any], hw: tuple[int, int]) -> bytes:
    if "segmentation" not in record:
        raise ValueError("it has no 'segmentation'")
    segmentation = record["segmentation"]
    if isinstance(segmentation, Mapping | list):
        return text_of(record, *hw)
    mask_HW = np.asarray(segmentation)
    if mask_HW.shape != hw or mask_HW.dtype.kind not in "bui":
        raise ValueError(f"it is {mask_HW.dtype} {mask_HW.shape}; it must be bool {hw}, as the image is")
    return compress(mask_HW)


def inside_shares(masks: Sequence[Mask], of: Mask) -> NDArray[np.float64]:
    """Return the share of each mask that lies inside `of`, float64 (N,)."""
    if not masks:
        return np.zeros(0)
    shares: NDArray[np.float64] = coco_mask.iou([mask.coco for mask in masks], [of.coco], [1])
    return shares[:, 0]


def covered(masks: Sequence[Mask], of: Mask) -> float:
    """Return the share of `of` that the masks cover together."""
    union = coco_mask.merge([mask.coco for mask in masks])
    return float(coco_mask.area(coco_mask.merge([union, of.coco], intersect=True))) / max(1, of.area)


def union_area(masks: Sequence[Mask]) -> int:
    """Return the pixels that the masks cover together."""
    return int(coco_mask.area(coco_mask.merge([mask.coco for mask in masks])))


@dataclass(frozen=True, kw_only=True, slots=True)
class Nesting:
    """Pairs of masks whose larger one holds a good part of the smaller one; four arrays of one length."""

    larger: NDArray[np.int64]
    """Index in the list of masks."""
    smaller: NDArray[np.int64]
    """Index in the list of masks; of two equal areas the later one counts as smaller."""
    inside: NDArray[np.float64]
    """Share of the smaller mask inside the larger one."""
    iou: NDArray[np.float64]
    """Intersection over union of the two."""


def nesting(masks: Sequence[Mask], least: float) -> Nesting:
    """Return the pairs whose smaller mask lies inside the larger one with at least the share `least` of its pixels."""
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
