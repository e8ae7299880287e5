"""Sources of raw masks: SAM of any shape, superpixel regions without weights, or COCO files."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.data.rle import read_annotations
from quatrain.errors import UsageError
from quatrain.micrograph.config import MasksConfig
from quatrain.sam.automatic.nms import mask_nms

if TYPE_CHECKING:
    from quatrain.sam.automatic.generator import MaskGenerator
    from quatrain.sam.official import Sam

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """An image's raw masks."""

    records: list[Record]
    """Records of segment_anything's automatic mask generator."""
    features: Any = None
    """With SAM: quatrain.micrograph.embedders_torch.ImageFeatures of the image."""


def propose(image_HWC: NDArray[np.uint8], config: MasksConfig, *, name: str, path: str) -> Proposal:
    """Return the raw masks of a uint8 image (H, W, 3) with this name and path."""
    if config.source == "json":
        return Proposal(records=from_json(config, name, path))
    if config.source == "regions":
        from quatrain.micrograph.superpixels import regions

        return Proposal(records=regions(image_HWC))
    return sam_masks(image_HWC, config)


def sam_masks(image_HWC: NDArray[np.uint8], config: MasksConfig) -> Proposal:
    """Return SAM's automatic masks, by tiles if `config.tile_px` is set."""
    from quatrain.micrograph.embedders_torch import ImageFeatures

    views = [equalised(image_HWC)] if config.contrast == "equalised" else [np.ascontiguousarray(image_HWC)]
    if config.contrast == "both":
        views.append(equalised(image_HWC))
    found = [record for view in views for record in _generator(config).generate(view)]
    if len(views) > 1:
        kept = mask_nms([one["segmentation"] for one in found], [one["predicted_iou"] for one in found], _SAME)
        found = [found[index] for index in kept]
    return Proposal(records=found, features=ImageFeatures(load_model(config), image_HWC))


def equalised(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the grey image after adaptive histogram equalisation (scikit-image's CLAHE), uint8 (H, W, 3)."""
    from skimage.exposure import equalize_adapthist

    grey_HW = equalize_adapthist(image_HWC.mean(axis=2) / 255, clip_limit=_CLIP)
    return np.repeat(np.rint(255 * grey_HW).astype(np.uint8)[..., None], 3, axis=2)


_CLIP = 0.02
"""Clip limit of equalize_adapthist."""
_SAME = 0.8
"""NMS between two views of an image: masks with a higher IoU are duplicates."""


@functools.lru_cache(maxsize=1)
def load_model(config: MasksConfig) -> Sam:
    """Return the Sam of a configuration, cached in this process, on the GPU if there is one."""
    import torch

    from quatrain import load_sam
    from quatrain.sam.build import pretrained
    from quatrain.sam.registry import SHAPES, shape

    if config.model not in SHAPES:
        shape(config.model)  # raises with the nearest known name
    official = shape(config.model).checkpoint_url is not None
    if config.checkpoint and not official:
        sam = load_sam(config.checkpoint)
    else:
        sam = pretrained(config.model, config.checkpoint or None, verify=config.verify)
    return sam.to("cuda" if torch.cuda.is_available() else "cpu").eval()


@functools.lru_cache(maxsize=1)
def _generator(config: MasksConfig) -> MaskGenerator:
    """Return the mask generator of a configuration, cached like its model."""
    from quatrain.sam.automatic.generator import MaskGenerator

    model = load_model(config)
    predicted_iou, stability = config.thresholds(int(model.image_encoder.img_size))
    return MaskGenerator(
        model,
        points_per_side=config.points_per_side,
        points_per_batch=config.points_per_batch,
        pred_iou_thresh=predicted_iou,
        stability_score_thresh=stability,
        box_nms_thresh=config.box_nms_thresh,
        mask_nms_thresh=config.mask_nms_thresh or None,
        crop_n_layers=config.crop_n_layers,
        tile_px=config.tile_px or None,
        overlap_px=config.tile_overlap_px,
        precision="bf16" if config.bf16 else "fp32",
        output_mode="coco_rle",
    )


def from_json(config: MasksConfig, name: str, path: str) -> list[Record]:
    """Return the masks of an image from NAME.json, a COCO object with `annotations`.

    Raise UsageError if the file is missing or broken. Of a COCO file of several images, those of this one are taken.
    """
    image = Path(path)
    file = (Path(config.folder).expanduser() / name if config.folder else image).with_suffix(".json")
    if config.folder and not file.is_file():
        file = Path(config.folder).expanduser() / f"{name}.json"
    try:
        content = read_annotations(file)
    except ValueError as error:
        raise UsageError(f"{str(file)!r} has no masks of {name!r}: {error}") from error
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        raise UsageError(f"{str(file)!r} has no masks of {name!r}: it has no list of annotations")
    images = [one for one in content.get("images", []) if isinstance(one, dict)]
    if len(images) > 1:
        known = {one.get("id") for one in images if Path(str(one.get("file_name"))).stem == image.stem}
        annotations = [one for one in annotations if isinstance(one, dict) and one.get("image_id") in known]
    return annotations
