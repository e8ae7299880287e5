"""Made micrographs as a source for boosting: several materials, a pixel size, exact truth."""

from __future__ import annotations

import numpy as np

from quatrain.data.made import MadeImages
from quatrain.data.textures import SEEN, TEXTURES, UNSEEN
from quatrain.errors import UsageError, unknown
from quatrain.micrograph.read import Scale
from quatrain.micrograph.settings import DataConfig
from quatrain.micrograph.source import Picture

MADE_NM = 0.5
"""Side of a made pixel, so that sizes in nm have something to show."""


def made_set(data: DataConfig) -> MadeImages:
    """Return the set that "made", "made:seen", "made:unseen" or "made:MATERIAL,MATERIAL" names."""
    words = data.data.partition(":")[2]
    named = tuple(dict.fromkeys(word.strip() for word in words.split(",")))
    materials = {"": SEEN, "seen": SEEN, "unseen": UNSEEN}.get(words, named)
    for material in materials:
        if material not in TEXTURES:
            raise unknown("material", material, (*TEXTURES, "seen", "unseen"))
    if len(materials) < 2:
        raise UsageError(f"{data.data!r} names one material: name two or more, or 'made:seen' or 'made:unseen'")
    return MadeImages(count=data.images, size_px=data.made_px, seed=data.made_seed, materials=materials)


def made_picture(data: DataConfig, index: int) -> Picture:
    """Return made image `index` with its truth."""
    grey_HW, labels_HW = made_set(data).micrograph(index)
    values, rank = np.unique(labels_HW, return_inverse=True)
    truth_HW = rank.reshape(labels_HW.shape).astype(np.int64) + 1 if len(values) else None
    return Picture(
        image_HWC=np.repeat(grey_HW[..., None], 3, axis=2), scale=Scale(size=MADE_NM, unit="nm"), truth_HW=truth_HW
    )
