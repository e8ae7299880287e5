"""Training items: image, augmentation, objects and prompts depend on the position in the stream only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from quatrain.data.prepare import Fit, Prepared, augment, prepare
from quatrain.data.sample import ImageSet, Sample, read_or_none
from quatrain.errors import UsageError
from quatrain.seeding import derive, numpy_rng

Item = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainingItems(Dataset[Item]):
    """An endless stream of items over `indices` of an image set, reshuffled every epoch.

    Item `position` is the same in every process, run and order of access, so a resumed run needs only the position.
    """

    images: ImageSet
    indices: Sequence[int]
    image_px: int
    logits_px: int
    """Side of the decoder's mask logits."""
    prompts: int
    """Prompted objects per image, drawn with replacement if it has fewer."""
    seed: int
    fit: Fit = "pad"
    _cache: dict[int, Sample | None] = field(default_factory=dict, repr=False)

    def __getitem__(self, position: int) -> Item:
        """Return image (3, S, S) float32 0..255, valid (2,), points (P, 2) x y, truth (P, h, w) float32 0..1."""
        epoch, place = divmod(position, len(self.indices))
        rng = numpy_rng(self.seed, "item", position)
        order = _order(len(self.indices), derive(self.seed, "epoch", epoch))
        prepared = self._with_objects(order, place, rng)
        masks_NSS = prepared.masks_NSS
        chosen = rng.choice(len(masks_NSS), self.prompts, replace=len(masks_NSS) < self.prompts)
        truth = torch.from_numpy(masks_NSS[chosen]).float()
        return {
            "image": torch.from_numpy(prepared.image_CHW).float(),
            "valid": torch.tensor(prepared.valid_hw),
            "points": torch.stack([_point(mask, rng) for mask in masks_NSS[chosen]]),
            "truth": functional.adaptive_avg_pool2d(truth, self.logits_px),
        }

    def _with_objects(self, order: NDArray[np.int64], place: int, rng: np.random.Generator) -> Prepared:
        """Prepare the image at `place`, or the next one that can be read and has an object to prompt."""
        for step in range(len(order)):
            sample = self._read(self.indices[order[(place + step) % len(order)]])
            if sample is not None and len(sample.masks_NHW):
                prepared = prepare(augment(sample, rng), self.image_px, fit=self.fit)
                if len(prepared.masks_NSS):
                    return prepared
        raise UsageError(f"none of the {len(order)} training images can be read and has an object: check their truth")

    def _read(self, index: int) -> Sample | None:
        """Return an image or None if it cannot be read; cache failures, and the images of a small set."""
        if index in self._cache:
            return self._cache[index]
        sample = read_or_none(self.images, index)
        if sample is None or len(self.indices) <= CACHED_IMAGES:
            self._cache[index] = sample
        return sample


CACHED_IMAGES = 256
"""Training sets up to this size stay decoded in memory."""


def _point(mask_SS: NDArray[np.bool_], rng: np.random.Generator) -> Tensor:
    y, x = divmod(int(rng.choice(np.flatnonzero(mask_SS))), mask_SS.shape[1])
    return torch.tensor([x, y], dtype=torch.float32)


@lru_cache(maxsize=4)
def _order(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(count)
