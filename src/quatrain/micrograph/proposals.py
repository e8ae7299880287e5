"""Sources of raw masks: SAM of any shape, superpixel regions without weights, or COCO files."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.data.annotations import annotations_of, check_size, json_hw, label_of, read_json, text_of
from quatrain.data.coco import key_of
from quatrain.data.decode import suffixes
from quatrain.data.image_paths import file_name, folded
from quatrain.errors import UsageError
from quatrain.micrograph.config import MasksConfig
from quatrain.sam.automatic.nms import mask_nms

if TYPE_CHECKING:
    from quatrain.sam.automatic.generator import MaskGenerator
    from quatrain.sam.official import Sam

log = logging.getLogger(__name__)

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
        return Proposal(records=from_json(config, name, path, image_HWC.shape[:2]))
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


def from_json(config: MasksConfig, name: str, path: str, hw: tuple[int, ...]) -> list[Record]:
    """Return the masks of an image of `hw` pixels from NAME.json: a list of records, or an object with `annotations`.

    A damaged mask is left out with a warning. Raise UsageError when the file is missing or broken, when its COCO
    images do not have the image among them, or when no mask can be used.
    """
    file = _json_file(config, name, path)
    try:
        content = read_json(file)
        records = _of_image(content, annotations_of(content), name, path, hw)
        usable, reasons = [], []
        for index, record in enumerate(records):
            try:
                rle = {"size": list(hw[:2]), "counts": text_of(record, hw[0], hw[1])}
                usable.append({**record, "segmentation": rle})
            except ValueError as error:
                reasons.append(f"{label_of(record, index)}: {error}")
        if reasons and not usable:
            raise ValueError(f"none of its {len(reasons)} masks can be used: {reasons[0]}")
    except ValueError as error:
        raise UsageError(f"{str(file)!r} gives no masks of {name!r}: {error}") from error
    if reasons:
        log.warning("%s: %d of %d masks are left out: %s", file, len(reasons), len(records), "; ".join(reasons[:3]))
    return usable


def _json_file(config: MasksConfig, name: str, path: str) -> Path:
    """Return the first file that exists of NAME.json, FILE.SUFFIX.json and FILE.json, else the first of them."""
    image = Path(path)
    folder = Path(config.folder).expanduser() if config.folder else image.parent
    last = file_name(name)
    names = [f"{name if config.folder else last}.json", f"{last}.json", f"{image.name}.json"]
    if last == image.stem:  # not a frame of a stack, and no other image has this name
        names.append(f"{image.stem}.json")
    files = [folder / one for one in dict.fromkeys(names)]
    return next((file for file in files if file.is_file()), files[0])


def _of_image(content: Any, annotations: list[Any], name: str, path: str, hw: tuple[int, ...]) -> list[Any]:
    """Return the annotations of one image; all of them when the JSON lists no images."""
    images = content.get("images") if isinstance(content, dict) else None
    listed = [one for one in images if isinstance(one, dict)] if isinstance(images, list) else []
    if not listed:
        return annotations
    image, last = folded(Path(path).name), folded(file_name(name))
    named = [folded(file_name(str(one.get("file_name")))) for one in listed]
    found = [one for one, other in zip(listed, named, strict=True) if other in (image, last)]
    if not found and last != image:
        found = [one for one, other in zip(listed, named, strict=True) if _without_suffix(other) == last]
    if len(found) != 1:
        holds = ", ".join(repr(str(one.get("file_name"))) for one in (found or listed)[:3])
        more = f" and {len(found or listed) - 3} more" if len(found or listed) > 3 else ""
        raise ValueError(f"it holds {'several such images' if found else 'masks of other images'}: {holds}{more}")
    check_size(json_hw(found[0]), hw[:2])
    key = key_of(found[0].get("id"))
    return [one for one in annotations if isinstance(one, dict) and key_of(one.get("image_id")) == key]


def _without_suffix(name: str) -> str:
    """Return a file's name without the suffix of an image; other dots belong to the name."""
    return next((name.removesuffix(suffix) for suffix in suffixes() if name.endswith(suffix)), name)
