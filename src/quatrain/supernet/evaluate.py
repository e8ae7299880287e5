"""How well a network segments: mean IoU over objects, one frozen foreground point each (SuperSAM, evaluation)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quatrain.data import prompts
from quatrain.data.fit import Fit
from quatrain.data.prepare import Prepared, prepare
from quatrain.data.sample import ImageSet, Sample
from quatrain.errors import UsageError
from quatrain.sam import Sam
from quatrain.supernet.decode import decode, normalise, upsample

# N objects of an image, S side of the network's input

Encode = Callable[[Tensor], Tensor]
"""Normalised images (B, 3, S, S) to embeddings (B, C, h, w)."""
Question = tuple[Prepared, NDArray[np.float32]]
"""An image and its prompts, x and y in pixels of the network's input, float32 (N, 2)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What one network reached on a set of images."""

    miou_oracle: float
    """Mean over objects of the best IoU among the three candidate masks."""
    miou_chosen: float
    """Mean over objects of the IoU of the candidate whose predicted IoU is highest."""
    objects: int
    images: int


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Images with their frozen prompts, ready for any number of networks."""

    prepared: tuple[Prepared, ...]
    points: tuple[NDArray[np.float32], ...]
    """For every image one point (x, y) an object, float32 (N, 2), in pixels of the network's input."""

    @classmethod
    def of(
        cls,
        images: ImageSet,
        indices: Sequence[int],
        *,
        image_px: int,
        seed: int,
        fit: Fit = "pad",
        max_objects: int = 32,
    ) -> Exam:
        """Prepare the images at `indices` with at most `max_objects` each; those without an object are left out.

        Raise UsageError when none has an object.
        """
        ready = (prepare(_first(images.read(index), max_objects), image_px, fit=fit) for index in indices)
        kept = tuple(prepared for prepared in ready if len(prepared.masks_NSS))
        if not kept:
            raise UsageError(f"none of the {len(indices)} images has an object: check their truth")
        return cls(prepared=kept, points=tuple(prompts.points(p.masks_NSS, image=p.name, seed=seed) for p in kept))

    def __len__(self) -> int:
        return len(self.prepared)

    def __getitem__(self, stretch: slice) -> Exam:
        """Return the questions of some images."""
        return Exam(prepared=self.prepared[stretch], points=self.points[stretch])


@torch.inference_mode()
def evaluate(sam: Sam, encode: Encode, exam: Exam, batch: int = 8) -> Scores:
    """Score one network on an exam; masks are compared at the network's input size, padding left out."""
    oracle: list[float] = []
    chosen: list[float] = []
    for images, some in image_batches(sam, exam, batch):
        for (prepared, points), embedding in zip(some, encode(images), strict=True):
            iou_N3, predicted_N3 = candidate_ious(sam, embedding, prepared, points)
            oracle += iou_N3.amax(dim=1).tolist()
            chosen += iou_N3.gather(1, predicted_N3.argmax(dim=1, keepdim=True))[:, 0].tolist()
    return Scores(
        miou_oracle=float(np.mean(oracle)), miou_chosen=float(np.mean(chosen)), objects=len(oracle), images=len(exam)
    )


def _first(sample: Sample, count: int) -> Sample:
    return replace(sample, masks_NHW=sample.masks_NHW[:count])


def image_batches(sam: Sam, exam: Exam, batch: int) -> Iterator[tuple[Tensor, list[Question]]]:
    """Yield normalised images (B, 3, S, S) with what is asked of each."""
    questions = list(zip(exam.prepared, exam.points, strict=True))
    for start in range(0, len(exam), batch):
        some = questions[start : start + batch]
        images = torch.stack([torch.from_numpy(prepared.image_CHW) for prepared, _ in some]).to(sam.device)
        valid = torch.tensor([prepared.valid_hw for prepared, _ in some], device=sam.device)
        yield normalise(sam, images, valid), some


def candidate_masks(
    sam: Sam, embedding_Chw: Tensor, prepared: Prepared, point_N2: NDArray[np.float32]
) -> tuple[Tensor, Tensor]:
    """Return the three candidate masks of every prompt, bool (N, 3, H, W) without padding, and predicted IoU (N, 3)."""
    point = torch.from_numpy(point_N2).to(sam.device)[None]
    logits, predicted = decode(sam, embedding_Chw[None].float(), point)
    height, width = prepared.valid_hw
    large = upsample(logits[:, :, 1:], prepared.image_CHW.shape[-1])[0]
    return large[..., :height, :width] > 0, predicted[0, :, 1:]


def candidate_ious(
    sam: Sam, embedding_Chw: Tensor, prepared: Prepared, point_N2: NDArray[np.float32]
) -> tuple[Tensor, Tensor]:
    """Return the true and the predicted IoU of the three candidate masks of every prompt, (N, 3) each."""
    masks, predicted = candidate_masks(sam, embedding_Chw, prepared, point_N2)
    height, width = prepared.valid_hw
    truth = torch.from_numpy(prepared.masks_NSS[:, None, :height, :width]).to(masks.device)
    shared = (masks & truth).sum(dim=(-2, -1))
    return shared / (masks | truth).sum(dim=(-2, -1)).clamp(min=1), predicted
