"""Semantic boosting of one image: one label map from SAM's masks (SAM-I-Am, arXiv 2404.06638)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quatrain.data.sample import to_rgb8
from quatrain.micrograph.config import BoostConfig
from quatrain.micrograph.embedders import Embedder, embedder
from quatrain.micrograph.masks import Mask, read_masks
from quatrain.micrograph.merging import Merging, merge
from quatrain.micrograph.removal import Removal, Removed, remove

# N masks, H W pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class BoostResult:
    """The label map of an image, with the masks and decisions behind it."""

    raw: tuple[Mask, ...]
    """The raw masks."""
    removal: Removal
    merging: Merging
    embedder: str
    """Name of the embedder of texture crops."""

    @property
    def labels(self) -> NDArray[np.uint16]:
        """The material of every pixel, uint16 (H, W), from 1, the largest first; 0 where no mask lies."""
        return self.merging.labels_HW

    @property
    def kept(self) -> tuple[Mask, ...]:
        """The masks after removal, without islands and holes."""
        return self.removal.kept

    @property
    def removed(self) -> tuple[Removed, ...]:
        """Why each of the other masks was removed."""
        return self.removal.removed

    @property
    def materials(self) -> int:
        """The number of materials found."""
        return self.merging.materials

    @property
    def crop_px(self) -> int:
        """The side of the texture crops, in pixels."""
        return int(self.merging.crops.pixels_CSS.shape[1])

    @property
    def error(self) -> str | None:
        """Why the label map is empty, with the remedy; None if it is not."""
        if self.labels.any():
            return None
        cause = "removal left no mask" if self.raw else "there is no raw mask"
        return f"the label map is empty: {cause}; use --merging.fill texture or lower --masks.pred-iou-thresh"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about the result, one line each."""
        lines = [] if self.raw else ["there is no raw mask: the share of false positives is undefined"]
        lines += [
            f"rule {one.rule} was skipped: its {one.masks} masks cover {100 * one.share:.1f} % of the image, a phase"
            for one in self.removal.spared
        ]
        return tuple(lines)


def boost(
    image: NDArray[Any],
    masks: Iterable[Any],
    k: int | Literal["auto"] = "auto",
    *,
    config: BoostConfig | None = None,
    describe: Embedder | None = None,
    pixel_nm: float | None = None,
    seed: int = 0,
) -> BoostResult:
    """Return one label map in place of SAM's overlapping masks; needs no torch with the classical embedder.

    Parameters
    ----------
    image
        Grey or colour, (H, W) or (H, W, 1 to 4). More than 8 bits are scaled from the 1st to the 99th percentile.
    masks
        Records of segment_anything's automatic mask generator, bool arrays (H, W), or COCO annotations.
    k
        The number of materials, or "auto" to choose it by silhouette.
    config
        All settings; the defaults are the paper's and ours.
    describe
        An embedder that replaces the one of `config`.
    pixel_nm
        Size of a pixel in nm, for crop sizes in nm.
    seed
        Seed of all random choices.

    Raises
    ------
    ValueError
        If the image or a mask has the wrong shape or type, or k is below 1.
    """
    config = config or BoostConfig()
    if k != "auto" and k < 1:
        raise ValueError(f"k is {k}; it must be at least 1, or 'auto'")
    grey_HW = grey(to_rgb8(np.asarray(image)))
    raw = tuple(read_masks(masks, grey_HW.shape))
    removal = remove(raw, config.removal)
    chosen = describe or embedder(config.merging)
    merging = merge(
        grey_HW,
        removal.kept,
        chosen,
        config.merging,
        k=None if k == "auto" else k,
        seed=seed,
        pixel_nm=pixel_nm,
    )
    return BoostResult(raw=raw, removal=removal, merging=merging, embedder=chosen.name)


def grey(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean of the colour channels, uint8 (H, W)."""
    if (image_HWC[..., 0] == image_HWC[..., 1]).all() and (image_HWC[..., 0] == image_HWC[..., 2]).all():
        return np.ascontiguousarray(image_HWC[..., 0])
    mean_HW: NDArray[np.uint8] = np.rint(image_HWC.mean(axis=2)).astype(np.uint8)
    return mean_HW
