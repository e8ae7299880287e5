"""Mean IoU of a network over the objects of an evaluation set, one frozen foreground point per object (SuperSAM).

An `EvalSet` holds prepared images with their prompts. An `Evaluator` scores sub-networks of one supernet on it;
`evaluate` scores one network of any kind.

Axes: N objects of an image, B images, S pixels of a side of the network's input, h w positions of the embedding.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quatrain.data import prompts
from quatrain.data.prepare import Fit, Prepared, prepare
from quatrain.data.sample import ImageSet, Sample, read_or_none
from quatrain.errors import UsageError
from quatrain.sam.batched_decoder import decode, normalise, upsample
from quatrain.sam.official import Sam
from quatrain.sam.registry import SamShape
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.mask_iou import TrueMasks
from quatrain.supernet.prefix_cache import Prefix, PrefixStore
from quatrain.supernet.space import Subnet

Encode = Callable[[Tensor], Tensor]
"""Normalised images (B, 3, S, S) to embeddings (B, C, h, w)."""


# The evaluation set


@dataclass(frozen=True, kw_only=True)
class EvalImage:
    """An image with its objects and one prompt per object."""

    prepared: Prepared
    points: NDArray[np.float32]
    """One point (x, y) per object, float32 (N, 2), in pixels of the network's input."""
    _truths: dict[tuple[int, torch.device], TrueMasks] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """A hash of the image's content, 32 hexadecimal digits."""
        content = hashlib.sha256(repr(self.prepared.valid_hw).encode())
        content.update(np.ascontiguousarray(self.prepared.image_CHW).data)
        return content.hexdigest()[:32]

    def truth(self, logits_px: int, device: torch.device) -> TrueMasks:
        """Return the true masks, counted for mask logits of `logits_px` a side; kept for the next network."""
        key = (logits_px, device)
        if key not in self._truths:
            masks = torch.from_numpy(self.prepared.masks_NSS).to(device)
            self._truths[key] = TrueMasks.of(masks, self.prepared.valid_hw, logits_px)
        return self._truths[key]


@dataclass(frozen=True, kw_only=True)
class EvalSet:
    """Images with frozen prompts, for any number of networks."""

    images: tuple[EvalImage, ...]

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
        points: int = 1,
    ) -> EvalSet:
        """Prepare the images at `indices`, each with at most `max_objects` objects and `points` prompts per object.

        With several points an object counts once per point. The first point does not depend on their number.
        Images that cannot be read or have no object are left out.

        Raise UsageError when no image is left.
        """
        samples = (sample for index in indices if (sample := read_or_none(images, index)) is not None)
        ready = (prepare(_first(sample, max_objects), image_px, fit=fit) for sample in samples)
        kept = [_repeated(prepared, points) for prepared in ready if len(prepared.masks_NSS)]
        if not kept:
            raise UsageError(f"none of the {len(indices)} images can be read and has an object: check their truth")
        drawn = (prompts.points(prepared.masks_NSS, image=prepared.name, seed=seed) for prepared in kept)
        return cls(images=tuple(EvalImage(prepared=p, points=q) for p, q in zip(kept, drawn, strict=True)))

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> EvalSet:
        """Return an evaluation set of the first `count` images."""
        return EvalSet(images=self.images[:count])


def _first(sample: Sample, count: int) -> Sample:
    return replace(sample, masks_NHW=sample.masks_NHW[:count])


def _repeated(prepared: Prepared, times: int) -> Prepared:
    return replace(prepared, masks_NSS=np.tile(prepared.masks_NSS, (times, 1, 1)))


# Scores


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageScore:
    """The score of one network on one image, as sums over its objects."""

    objects: int
    oracle: float
    """Sum of the best IoU among the three candidate masks."""
    chosen: float
    """Sum of the IoU of the candidate whose predicted IoU is highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanScores:
    """The mean scores of one network over the objects of some images."""

    miou_oracle: float
    """Mean over objects of the best IoU among the three candidate masks."""
    miou_chosen: float
    """Mean over objects of the IoU of the candidate whose predicted IoU is highest."""
    objects: int
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSet:
    """The scores of one network on some images of an evaluation set."""

    of: Mapping[int, ImageScore]
    """The score of each image, by its index in the evaluation set."""

    @property
    def mean(self) -> MeanScores:
        """The means over all objects; raise ValueError without any object.

        Sums are exact, so the means do not depend on the order of the images.
        """
        objects = sum(score.objects for score in self.of.values())
        if not objects:
            raise ValueError("no image has a score; there is no mean")
        return MeanScores(
            miou_oracle=math.fsum(score.oracle for score in self.of.values()) / objects,
            miou_chosen=math.fsum(score.chosen for score in self.of.values()) / objects,
            objects=objects,
            images=len(self.of),
        )


# One image


def candidate_masks(sam: Sam, embedding_Chw: Tensor, image: EvalImage) -> tuple[Tensor, Tensor]:
    """Return three candidate masks per prompt, bool (N, 3, H, W) without padding, and their predicted IoU (N, 3)."""
    logits, predicted = _candidates(sam, embedding_Chw, image)
    height, width = image.prepared.valid_hw
    large = upsample(logits[None], image.prepared.image_CHW.shape[-1])[0]
    return large[..., :height, :width] > 0, predicted


def candidate_ious(sam: Sam, embedding_Chw: Tensor, image: EvalImage) -> tuple[Tensor, Tensor]:
    """Return the true and the predicted IoU of the three candidate masks of every prompt, (N, 3) each."""
    logits, predicted = _candidates(sam, embedding_Chw, image)
    return image.truth(logits.shape[-1], logits.device).ious(logits), predicted


def _candidates(sam: Sam, embedding_Chw: Tensor, image: EvalImage) -> tuple[Tensor, Tensor]:
    """Return the logits (N, 3, 4h, 4w) and the predicted IoU (N, 3) of the three candidates of every prompt."""
    point = torch.from_numpy(image.points).to(sam.device)[None]
    logits, predicted = decode(sam, embedding_Chw[None].float(), point)
    return logits[0, :, 1:], predicted[0, :, 1:]


def _score(sam: Sam, embedding_Chw: Tensor, image: EvalImage) -> ImageScore:
    iou_N3, predicted_N3 = candidate_ious(sam, embedding_Chw, image)
    chosen_N = iou_N3.gather(1, predicted_N3.argmax(dim=1, keepdim=True))[:, 0]
    oracle = math.fsum(iou_N3.amax(dim=1).tolist())
    return ImageScore(objects=len(iou_N3), oracle=oracle, chosen=math.fsum(chosen_N.tolist()))


# Batches of images


def batch_size(shape: SamShape, device: torch.device) -> int:
    """Return how many images the encoder runs at once, 1 to 8: several only if they are small."""
    patches = 1024 if device.type == "cpu" else 16384
    return max(1, min(8, patches // shape.grid**2))


def network_input(sam: Sam, images: Sequence[EvalImage]) -> Tensor:
    """Return normalised images, float32 (B, 3, S, S), on the network's device."""
    pixels = torch.stack([torch.from_numpy(image.prepared.image_CHW) for image in images]).to(sam.device)
    valid = torch.tensor([image.prepared.valid_hw for image in images], device=sam.device)
    return normalise(sam, pixels, valid)


def image_batches(sam: Sam, eval_set: EvalSet, batch: int) -> Iterator[tuple[Tensor, tuple[EvalImage, ...]]]:
    """Yield the network's input, float32 (B, 3, S, S), with the images that it holds."""
    for start in range(0, len(eval_set), batch):
        some = eval_set.images[start : start + batch]
        yield network_input(sam, some), some


# Networks


@torch.inference_mode()
def evaluate(sam: Sam, encode: Encode, eval_set: EvalSet, batch: int = 8) -> MeanScores:
    """Return the mean scores of one network; masks are compared at the network's input size without padding."""
    scores: list[ImageScore] = []
    for pixels, images in image_batches(sam, eval_set, batch):
        scores += [_score(sam, embedding, image) for image, embedding in zip(images, encode(pixels), strict=True)]
    return ScoreSet(of=dict(enumerate(scores))).mean


class Evaluator:
    """Scores sub-networks of one supernet on images of an evaluation set; computes what they share once.

    The score of an image depends neither on the other images of a call nor on whether the prefix is cached: images
    always run in batches of one size. The last batch is filled by repeating an image.
    """

    def __init__(
        self, sam: Sam, eval_set: EvalSet, *, prefix: Prefix | None = None, store: PrefixStore | None = None
    ) -> None:
        """Take a Sam with an ElasticEncoder; networks that begin with `prefix` continue from what `store` holds."""
        self.eval_set = eval_set
        self._sam = sam
        self._encoder: ElasticEncoder = sam.image_encoder
        self._prefix = prefix
        self._store = store
        self._batch = batch_size(self._encoder.shape, sam.device)

    @torch.inference_mode()
    def score(self, subnet: Subnet, indices: Iterable[int] | None = None) -> ScoreSet:
        """Return the scores of one network on the images at `indices`, by default on all of them.

        Raise ValueError for an index outside of the evaluation set or one given twice.
        """
        wanted = list(range(len(self.eval_set)) if indices is None else indices)
        outside = [index for index in wanted if not 0 <= index < len(self.eval_set)]
        if outside or len(set(wanted)) < len(wanted):
            wrong = f"hold {outside[0]}" if outside else "hold an index twice"
            raise ValueError(f"indices {wrong}; give different ones from 0 to {len(self.eval_set) - 1}")
        scores: dict[int, ImageScore] = {}
        for start in range(0, len(wanted), self._batch):
            some = wanted[start : start + self._batch]
            full = [self.eval_set.images[index] for index in [*some, *some[-1:] * (self._batch - len(some))]]
            for index, embedding in zip(some, self._embed(subnet, full), strict=False):
                scores[index] = _score(self._sam, embedding, self.eval_set.images[index])
        return ScoreSet(of=scores)

    def _embed(self, subnet: Subnet, images: list[EvalImage]) -> Tensor:
        if self._prefix is None or not self._prefix.begins(subnet):
            whole: Tensor = self._encoder(network_input(self._sam, images), subnet)
            return whole
        return self._prefix.finish(self._encoder, self._shared(self._prefix, images), subnet)

    def _shared(self, prefix: Prefix, images: list[EvalImage]) -> Tensor:
        """Return the residual stream after the shared prefix, read from the store or computed and written to it."""
        if self._store is None:
            return prefix.run(self._encoder, network_input(self._sam, images))
        kept = [self._store.read(image.digest) for image in images]
        found = [torch.from_numpy(stream)[None] for stream in kept if stream is not None]
        if len(found) == len(images):
            return torch.cat(found).to(self._sam.device) if len(found) > 1 else found[0].to(self._sam.device)
        x_BHWC = prefix.run(self._encoder, network_input(self._sam, images))
        for image, stream, known in zip(images, x_BHWC, kept, strict=True):
            if known is None:
                self._store.write(image.digest, stream.cpu().numpy())
        return x_BHWC
