"""Semantic boosting of one image: SAM's masks in, one label map out (SAM-I-Am, arXiv 2404.06638)."""

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
class Result:
    """What boosting made of an image's masks."""

    raw: tuple[Mask, ...]
    """The masks as they came."""
    removal: Removal
    merging: Merging
    embedder: str
    """Name of what described the textures."""

    @property
    def labels(self) -> NDArray[np.uint16]:
        """The material of every pixel, uint16 (H, W), from 1, the largest first; 0 where no mask lies."""
        return self.merging.labels_HW

    @property
    def kept(self) -> tuple[Mask, ...]:
        """The masks that removal left, without islands and holes."""
        return self.removal.kept

    @property
    def removed(self) -> tuple[Removed, ...]:
        """Why each of the other masks went."""
        return self.removal.removed

    @property
    def materials(self) -> int:
        """The number of materials found."""
        return self.merging.materials


def boost(
    image: NDArray[Any],
    masks: Iterable[Any],
    k: int | Literal["auto"] = "auto",
    *,
    config: BoostConfig | None = None,
    describe: Embedder | None = None,
    pixel_nm: float | None = None,
    seed: int = 0,
) -> Result:
    """Return one clean label map in place of SAM's overlapping masks; needs no torch with the classical embedder.

    Parameters
    ----------
    image
        Grey or colour, (H, W) or (H, W, 1 to 4); more than 8 bits are stretched from the 1st to the 99th percentile.
    masks
        What segment_anything's automatic mask generator returns, bool arrays (H, W), or COCO annotations.
    k
        The number of materials, or "auto" to choose it by silhouette.
    config
        Every threshold; those of the paper and ours by default.
    describe
        What turns texture crops into numbers, in place of the one that `config` names.
    pixel_nm
        Size of a pixel, for crops that are given in nm.
    seed
        Every random choice follows from it.

    Raises
    ------
    ValueError
        When the image or a mask has the wrong shape or type, or k is below 1.
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
    return Result(raw=raw, removal=removal, merging=merging, embedder=chosen.name)


def grey(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean of the colours, uint8 (H, W)."""
    if (image_HWC[..., 0] == image_HWC[..., 1]).all() and (image_HWC[..., 0] == image_HWC[..., 2]).all():
        return np.ascontiguousarray(image_HWC[..., 0])
    mean_HW: NDArray[np.uint8] = np.rint(image_HWC.mean(axis=2)).astype(np.uint8)
    return mean_HW
