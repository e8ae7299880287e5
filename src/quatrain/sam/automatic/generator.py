"""Automatic masks of an image: the records of segment_anything's SamAutomaticMaskGenerator, several times as fast.

`encoder`, `shared_keys`, `point_decoder` and `upsample` describe what is computed differently. Additions to the stock
generator are bfloat16, NMS by masks, and tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quatrain.data.rle import Rle
from quatrain.sam.automatic.encoder import Precision, encode
from quatrain.sam.automatic.nms import CocoRle, box_nms, mask_nms
from quatrain.sam.automatic.point_decoder import PointDecoder
from quatrain.sam.automatic.tiling import Frame, MaskCandidate, crops, near_inner_edge, stitch, tiles
from quatrain.sam.automatic.upsample import Enlarger
from quatrain.sam.official import Sam, SamPredictor

_DRAWN = 4
"""Points whose logits are computed at a time, which limits memory."""

Record = dict[str, Any]
Image = NDArray[np.uint8]
OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskSettings:
    """Settings of mask generation; names and defaults are segment_anything's, except for 16 points per side."""

    points_per_side: int = 16
    points_per_batch: int = 32
    """Points decoded together; affects memory, not results."""
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    mask_nms_thresh: float | None = None
    """Suppress duplicates by mask IoU above this threshold instead of box IoU."""
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0
    """Fill holes and drop islands of fewer pixels."""
    output_mode: OutputMode = "binary_mask"
    precision: Precision = "fp32"
    tile_px: int | None = None
    """Side of the tiles of larger images, each with its own grid of points; None disables tiles."""
    overlap_px: int = 128
    """Least overlap of neighbouring tiles, in pixels."""

    def __post_init__(self) -> None:
        for name, low in (
            ("points_per_side", 1),
            ("points_per_batch", 1),
            ("crop_n_layers", 0),
            ("crop_n_points_downscale_factor", 1),
            ("min_mask_region_area", 0),
            ("stability_score_offset", 0),
        ):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {low}")
        for name in ("box_nms_thresh", "mask_nms_thresh", "crop_nms_thresh", "crop_overlap_ratio"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1")
        for name, known in (
            ("output_mode", ("binary_mask", "uncompressed_rle", "coco_rle")),
            ("precision", ("fp32", "bf16")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(known)}")
        if self.points_per_side // self.crop_n_points_downscale_factor**self.crop_n_layers < 1:
            raise ValueError(f"points_per_side is {self.points_per_side}; crop layer {self.crop_n_layers} has no point")
        if self.tile_px is not None and not 0 <= self.overlap_px < self.tile_px:
            raise ValueError(f"overlap_px is {self.overlap_px}; it must lie between 0 and tile_px, {self.tile_px}")
        if self.tile_px is not None and self.crop_n_layers:
            raise ValueError(f"crop_n_layers is {self.crop_n_layers}; it must be 0 with tile_px {self.tile_px}")


class MaskGenerator:
    """Generates the masks of whole images with any Sam of segment_anything's classes; the model is not changed.

    `settings` may be given whole, by keywords, or both: `MaskGenerator(model, points_per_side=32)`.
    """

    def __init__(self, model: Sam, settings: MaskSettings | None = None, **changes: Any) -> None:
        self.model = model
        self.settings = replace(settings or MaskSettings(), **changes)

    def generate(self, image_HWC: Image, progress: Callable[[int, int], None] | None = None) -> list[Record]:
        """Return one record per mask, best first, for an RGB image, uint8 (H, W, 3).

        A record holds `segmentation` (bool (H, W), or COCO's run-length encoding by `output_mode`), `area`, `bbox`
        (x, y, width, height), `predicted_iou`, `stability_score`, `point_coords` ([[x, y]]) and `crop_box` (x, y,
        width, height): lengths in pixels of the image.

        `progress(done, total)` is called after every batch of points.

        Raises
        ------
        ValueError
            If the image is empty or has another shape or dtype.
        """
        if image_HWC.ndim != 3 or image_HWC.shape[2] != 3 or image_HWC.dtype != np.uint8 or not image_HWC.size:
            raise ValueError(f"image is {image_HWC.dtype} {image_HWC.shape}; give uint8 (rows, columns, 3)")
        size = (image_HWC.shape[0], image_HWC.shape[1])
        with torch.no_grad():
            found = self._found(image_HWC, size, progress or _silent)
        if self.settings.min_mask_region_area:
            found = self._without_small(found, size)
        return [self._record(one, size) for one in found]

    def _found(
        self, image_HWC: Image, size: tuple[int, int], progress: Callable[[int, int], None]
    ) -> list[MaskCandidate]:
        settings = self.settings
        if settings.tile_px is not None:
            frames = tiles(size, settings.tile_px, settings.overlap_px)
        else:
            frames = crops(size, settings.crop_n_layers, settings.crop_overlap_ratio)
        grids = [self._points(frame) for frame in frames]
        total, done = sum(map(len, grids)), 0
        every = []
        for frame, points_N2 in zip(frames, grids, strict=True):
            batches = []
            for batch, count in self._frame(image_HWC, frame, points_N2):
                batches += batch
                done += count
                progress(done, total)
            every.append([one.shifted(frame) for one in self._distinct(batches, [one.iou for one in batches])])
        if settings.tile_px is not None:
            joined = stitch(every, frames)
            return self._distinct(joined, [one.iou for one in joined]) if len(frames) > 1 else joined
        flat = [one for some in every for one in some]
        if len(frames) == 1:
            return flat
        return self._distinct(flat, [1 / one.frame.area for one in flat], between_crops=True)

    def _points(self, frame: Frame) -> NDArray[np.float64]:
        """Return the grid of points (x, y) of a frame, in its pixels."""
        settings = self.settings
        side = int(settings.points_per_side / settings.crop_n_points_downscale_factor**frame.layer)
        line = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
        grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        return np.asarray(grid * np.array([frame.width, frame.height]))

    def _frame(
        self, image_HWC: Image, frame: Frame, points_N2: NDArray[np.float64]
    ) -> Iterator[tuple[list[MaskCandidate], int]]:
        """Yield the masks of each batch of points, in the frame's pixels, and the number of points."""
        part_HWC = image_HWC[frame.y : frame.y + frame.height, frame.x : frame.x + frame.width]
        predictor = SamPredictor(self.model)
        shown = predictor.transform.apply_image(part_HWC)
        pixels = torch.as_tensor(shown, device=self.model.device).permute(2, 0, 1)[None]
        embedding = encode(self.model.image_encoder, self.model.preprocess(pixels), self.settings.precision)
        decoder = PointDecoder(self.model, embedding)
        side = self.model.image_encoder.img_size
        enlarger = Enlarger(4 * embedding.shape[-1], side, shown.shape[:2], part_HWC.shape[:2])
        for start in range(0, len(points_N2), self.settings.points_per_batch):
            some_N2 = points_N2[start : start + self.settings.points_per_batch]
            inputs = predictor.transform.apply_coords(some_N2, part_HWC.shape[:2])
            point_Q2 = torch.as_tensor(inputs, device=self.model.device)
            yield list(self._batch(decoder, enlarger, frame, some_N2, point_Q2)), len(some_N2)

    def _batch(
        self, decoder: PointDecoder, enlarger: Enlarger, frame: Frame, points_N2: NDArray[np.float64], point_Q2: Tensor
    ) -> Iterator[MaskCandidate]:
        """Yield the masks of some points that pass the thresholds."""
        answer = decoder.read(point_Q2)
        iou_QM = answer.iou_QM
        least = self.settings.pred_iou_thresh
        passed_QM = (iou_QM > least) if least > 0 else torch.ones_like(iou_QM, dtype=torch.bool)
        points = passed_QM.any(dim=1).nonzero()[:, 0]
        for some in points.split(_DRAWN):
            logits_QMhw = decoder.draw(answer, some).cpu()
            for point, logits_Mhw in zip(some.tolist(), logits_QMhw, strict=True):
                for candidate in passed_QM[point].nonzero()[:, 0].tolist():
                    found = self._measure(enlarger, logits_Mhw[candidate], frame)
                    if found is not None:
                        iou = float(iou_QM[point, candidate])
                        yield replace(found, iou=iou, point=(float(points_N2[point, 0]), float(points_N2[point, 1])))

    def _measure(self, enlarger: Enlarger, logits_hw: Tensor, frame: Frame) -> MaskCandidate | None:
        """Return a mask if it is stable and not cut off by an inner edge of its frame, else None."""
        settings, threshold = self.settings, self.model.mask_threshold
        window = enlarger.window(logits_hw, threshold - settings.stability_score_offset)
        logits_WH = enlarger.enlarge(logits_hw, window).numpy()
        certain = np.count_nonzero(logits_WH > threshold + settings.stability_score_offset)
        possible = np.count_nonzero(logits_WH > threshold - settings.stability_score_offset)
        stability = float(np.float32(certain) / np.float32(possible)) if possible else float("nan")
        if settings.stability_score_thresh > 0 and not stability >= settings.stability_score_thresh:
            return None
        runs = Rle.from_mask(logits_WH > threshold, window.x, window.y)
        if settings.tile_px is None and near_inner_edge(runs.box, frame):
            return None
        return MaskCandidate(runs=runs, iou=0.0, stability=stability, point=(0.0, 0.0), frame=frame)

    def _distinct(
        self, found: Sequence[MaskCandidate], scores: Sequence[float], *, between_crops: bool = False
    ) -> list[MaskCandidate]:
        """Return one of each set of duplicates, best score first."""
        scores_N = np.array(scores, np.float64)
        if self.settings.mask_nms_thresh is not None:
            masks = [_coco_rle(one.runs, one.frame.image) for one in found]
            kept = mask_nms(masks, scores_N, self.settings.mask_nms_thresh)
        else:
            threshold = self.settings.crop_nms_thresh if between_crops else self.settings.box_nms_thresh
            kept = box_nms(np.array([one.runs.box for one in found]), scores_N, threshold)
        return [found[index] for index in kept]

    def _without_small(self, found: Sequence[MaskCandidate], size: tuple[int, int]) -> list[MaskCandidate]:
        """Return the cleaned masks without duplicates; masks that needed no cleaning have priority."""
        cleaned, scores = [], []
        for one in found:
            smallest_px = self.settings.min_mask_region_area
            filled = one.runs.without_holes(*size, smallest_px, at_border=True)
            runs = filled.without_islands(smallest_px, diagonal=True)
            cleaned.append(replace(one, runs=runs))
            scores.append(float(runs is one.runs))
        return self._distinct(cleaned, scores)

    def _record(self, found: MaskCandidate, size: tuple[int, int]) -> Record:
        left, top, right, bottom = found.runs.box
        return {
            "segmentation": self._segmentation(found.runs, size),
            "area": found.runs.area,
            "bbox": [left, top, right - left, bottom - top],
            "predicted_iou": found.iou,
            "point_coords": [list(found.point)],
            "stability_score": found.stability,
            "crop_box": [found.frame.x, found.frame.y, found.frame.width, found.frame.height],
        }

    def _segmentation(self, runs: Rle, size: tuple[int, int]) -> Any:
        if self.settings.output_mode == "binary_mask":
            return runs.mask(*size)
        if self.settings.output_mode == "uncompressed_rle":
            return runs.encoding(*size)
        coco = _coco_rle(runs, size)
        return {**coco, "counts": coco["counts"].decode()}


def _coco_rle(runs: Rle, size: tuple[int, int]) -> CocoRle:
    """Return a mask in COCO's compressed form, for an image of `size` (rows, columns)."""
    return {"size": list(size), "counts": runs.compressed(*size)}


def _silent(_done: int, _total: int) -> None:
    """Report no progress."""
