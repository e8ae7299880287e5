"""Mask proposers: SAM in any of its shapes, weights-free regions, or masks from COCO files."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.data.segmentation import read_annotations
from quatrain.errors import UsageError
from quatrain.micrograph.settings import MasksConfig

if TYPE_CHECKING:
    from quatrain.sam import Sam

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """An image's raw masks."""

    records: list[Record]
    """As segment_anything's automatic mask generator gives them."""
    features: Any = None
    """The encoder's features of the image (quatrain.micrograph.networks.ImageFeatures), where SAM proposed."""


def propose(image_HWC: NDArray[np.uint8], config: MasksConfig, *, name: str, path: str) -> Proposal:
    """Return the raw masks of a uint8 image (H, W, 3) that is called `name` and lies at `path`."""
    if config.source == "json":
        return Proposal(records=from_json(config, name, path))
    if config.source == "regions":
        from quatrain.micrograph.regions import regions

        return Proposal(records=regions(image_HWC))
    return sam_masks(image_HWC, config)


def sam_masks(image_HWC: NDArray[np.uint8], config: MasksConfig) -> Proposal:
    """Return the masks that SAM's automatic generator finds, tile by tile where tiles are asked for."""
    from quatrain.micrograph.networks import ImageFeatures

    generator = _generator(config)
    hw = image_HWC.shape[:2]
    windows = tiles(hw, config.tile_px, config.tile_overlap) if config.tile_px else [(slice(0, hw[0]), slice(0, hw[1]))]
    records: list[Record] = []
    for window in windows:
        found = generator.generate(np.ascontiguousarray(image_HWC[window]))
        records += found if len(windows) == 1 else [_placed(record, window, hw) for record in found]
    return Proposal(records=records, features=ImageFeatures(load_model(config), image_HWC))


def tiles(hw: tuple[int, int], side: int, overlap: float) -> list[tuple[slice, slice]]:
    """Return windows of `side` pixels that cover an image, each sharing at least `overlap` with its neighbours."""
    rows, columns = (_starts(size, side, overlap) for size in hw)
    return [(slice(r, min(r + side, hw[0])), slice(c, min(c + side, hw[1]))) for r in rows for c in columns]


def _starts(size: int, side: int, overlap: float) -> list[int]:
    if size <= side:
        return [0]
    count = int(np.ceil((size - side) / (side * (1 - overlap)))) + 1
    return [round(start) for start in np.linspace(0, size - side, count)]


def _placed(record: Record, window: tuple[slice, slice], hw: tuple[int, int]) -> Record:
    """Return a tile's record as run lengths of the whole image."""
    from quatrain.micrograph.masks import encoded

    whole = np.zeros(hw, bool)
    whole[window] = record["segmentation"]
    return {**record, "segmentation": {"size": list(hw), "counts": encoded(whole, hw).decode()}}


@functools.lru_cache(maxsize=1)
def load_model(config: MasksConfig) -> Sam:
    """Return the Sam that a configuration names, kept between calls of this process, on the GPU where there is one."""
    import torch

    from quatrain import load_sam
    from quatrain.supernet.models import pretrained
    from quatrain.supernet.shapes import SHAPES, shape

    if config.model not in SHAPES:
        shape(config.model)  # raises with the nearest name
    official = shape(config.model).checkpoint_url is not None
    if config.checkpoint and not official:
        sam = load_sam(config.checkpoint)
    else:
        sam = pretrained(config.model, config.checkpoint or None, verify=config.verify)
    return sam.to("cuda" if torch.cuda.is_available() else "cpu").eval()


@functools.lru_cache(maxsize=1)
def _generator(config: MasksConfig) -> Any:
    """Return what generates masks with a model, kept as long as the model is."""
    from quatrain.sam import SamAutomaticMaskGenerator

    return SamAutomaticMaskGenerator(
        load_model(config),
        points_per_side=config.points_per_side,
        points_per_batch=config.points_per_batch,
        pred_iou_thresh=config.pred_iou_thresh,
        stability_score_thresh=config.stability_score_thresh,
        box_nms_thresh=config.box_nms_thresh,
    )


def from_json(config: MasksConfig, name: str, path: str) -> list[Record]:
    """Return the masks of an image from NAME.json: a list of records, or a COCO object with `annotations`.

    Raise UsageError when the file is missing, broken, or its COCO images do not have the image in them.
    """
    image = Path(path)
    file = (Path(config.folder).expanduser() / name if config.folder else image).with_suffix(".json")
    if config.folder and not file.is_file():
        file = Path(config.folder).expanduser() / f"{name}.json"
    try:
        content = read_annotations(file)
    except ValueError as error:
        raise UsageError(f"{str(file)!r} gives no masks of {name!r}: {error}") from error
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        raise UsageError(f"{str(file)!r} gives no masks of {name!r}: it has no list of annotations")
    images = [one for one in content.get("images", []) if isinstance(one, dict)]
    if len(images) > 1:
        known = {one.get("id") for one in images if Path(str(one.get("file_name"))).stem == image.stem}
        annotations = [one for one in annotations if isinstance(one, dict) and one.get("image_id") in known]
    return annotations
