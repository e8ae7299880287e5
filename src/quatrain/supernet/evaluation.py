"""How well a network segments: mean IoU over objects, one frozen foreground point each (SuperSAM, evaluation)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quatrain.data import prompts
from quatrain.data.prepare import Prepared, prepare
from quatrain.data.sample import ImageSet, Sample, read_or_none
from quatrain.errors import UsageError
from quatrain.sam.batched_decoder import decode, normalise, upsample
from quatrain.sam.official import Sam
from quatrain.sam.registry import SamShape
from quatrain.supernet.config import Fit
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.mask_iou import Truth
from quatrain.supernet.prefix_cache import Prefix, PrefixStore
from quatrain.supernet.space import Subnet

# N objects of an image, S side of the network's input

Encode = Callable[[Tensor], Tensor]
"""Normalised images (B, 3, S, S) to embeddings (B, C, h, w)."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """An image and what is asked about it."""

    prepared: Prepared
    points: NDArray[np.float32]
    """One point (x, y) an object, float32 (N, 2), in pixels of the network's input."""
    _truths: dict[tuple[int, torch.device], Truth] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """What stands for the image, 32 hexadecimal digits."""
        content = hashlib.sha256(repr(self.prepared.valid_hw).encode())
        content.update(np.ascontiguousarray(self.prepared.image_CHW).data)
        return content.hexdigest()[:32]

    def truth(self, logits_px: int, device: torch.device) -> Truth:
        """Return the true masks, counted for mask logits of `logits_px` a side; kept for the next network."""
        key = (logits_px, device)
        if key not in self._truths:
            masks = torch.from_numpy(self.prepared.masks_NSS).to(device)
            self._truths[key] = Truth.of(masks, self.prepared.valid_hw, logits_px)
        return self._truths[key]


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Images with their frozen prompts, ready for any number of networks."""

    questions: tuple[Question, ...]

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
    ) -> Exam:
        """Prepare the images at `indices` with at most `max_objects` each, each asked for with `points` prompts.

        With several points an object counts once a point; the first point is the same for any number of them.
        Those that cannot be read or have no object are left out.

        Raise UsageError when none is left.
        """
        samples = (sample for index in indices if (sample := read_or_none(images, index)) is not None)
        ready = (prepare(_first(sample, max_objects), image_px, fit=fit) for sample in samples)
        kept = [_repeated(prepared, points) for prepared in ready if len(prepared.masks_NSS)]
        if not kept:
            raise UsageError(f"none of the {len(indices)} images can be read and has an object: check their truth")
        asked = (prompts.points(prepared.masks_NSS, image=prepared.name, seed=seed) for prepared in kept)
        return cls(questions=tuple(Question(prepared=p, points=q) for p, q in zip(kept, asked, strict=True)))

    def __len__(self) -> int:
        return len(self.questions)

    def first(self, count: int) -> Exam:
        """Return the exam of the first `count` images."""
        return Exam(questions=self.questions[:count])


def _first(sample: Sample, count: int) -> Sample:
    return replace(sample, masks_NHW=sample.masks_NHW[:count])


def _repeated(prepared: Prepared, times: int) -> Prepared:
    return replace(prepared, masks_NSS=np.tile(prepared.masks_NSS, (times, 1, 1)))


@torch.inference_mode()
def evaluate(sam: Sam, encode: Encode, exam: Exam, batch: int = 8) -> Scores:
    """Score one network on an exam; masks are compared at the network's input size, padding left out."""
    marks: list[Mark] = []
    for images, some in image_batches(sam, exam, batch):
        marks += [_mark(sam, embedding, question) for question, embedding in zip(some, encode(images), strict=True)]
    return Marks(of=dict(enumerate(marks))).scores


class Examiner:
    """Marks sub-networks of one supernet on any images of an exam; what they share is computed once.

    An image's mark depends on neither the other images asked for nor on the prefix being kept: images always run in
    batches of the same size, the last one completed by repeating an image.
    """

    def __init__(self, sam: Sam, exam: Exam, *, prefix: Prefix | None = None, store: PrefixStore | None = None) -> None:
        """Take a Sam with an ElasticEncoder; networks that have the `prefix` go on from what `store` kept of it."""
        self.exam = exam
        self._sam = sam
        self._encoder: ElasticEncoder = sam.image_encoder
        self._prefix = prefix
        self._store = store
        self._batch = batch_size(self._encoder.shape, sam.device)

    @torch.inference_mode()
    def mark(self, subnet: Subnet, places: Iterable[int] | None = None) -> Marks:
        """Return the marks of one network on the images at `places` of the exam; on all of them without any given.

        Raise ValueError for a place that the exam does not have, or that comes twice.
        """
        asked = list(range(len(self.exam)) if places is None else places)
        outside = [place for place in asked if not 0 <= place < len(self.exam)]
        if outside or len(set(asked)) < len(asked):
            wrong = f"holds {outside[0]}" if outside else "holds a place twice"
            raise ValueError(f"places {wrong}; give different ones from 0 to {len(self.exam) - 1}")
        marks: dict[int, Mark] = {}
        for start in range(0, len(asked), self._batch):
            some = asked[start : start + self._batch]
            full = [self.exam.questions[place] for place in [*some, *some[-1:] * (self._batch - len(some))]]
            for place, embedding in zip(some, self._embed(subnet, full), strict=False):
                marks[place] = _mark(self._sam, embedding, self.exam.questions[place])
        return Marks(of=marks)

    def _embed(self, subnet: Subnet, questions: list[Question]) -> Tensor:
        if self._prefix is None or not self._prefix.begins(subnet):
            whole: Tensor = self._encoder(network_input(self._sam, questions), subnet)
            return whole
        return self._prefix.finish(self._encoder, self._shared(self._prefix, questions), subnet)

    def _shared(self, prefix: Prefix, questions: list[Question]) -> Tensor:
        """Return the stream after the shared part, as it was kept, or made and kept from now on."""
        if self._store is None:
            return prefix.run(self._encoder, network_input(self._sam, questions))
        kept = [self._store.read(question.digest) for question in questions]
        found = [torch.from_numpy(stream)[None] for stream in kept if stream is not None]
        if len(found) == len(questions):
            return torch.cat(found).to(self._sam.device) if len(found) > 1 else found[0].to(self._sam.device)
        x_BHWC = prefix.run(self._encoder, network_input(self._sam, questions))
        for question, stream, known in zip(questions, x_BHWC, kept, strict=True):
            if known is None:
                self._store.write(question.digest, stream.cpu().numpy())
        return x_BHWC


def batch_size(shape: SamShape, device: torch.device) -> int:
    """Return how many images run at once: small ones together, as far as that makes them faster."""
    patches = 1024 if device.type == "cpu" else 16384
    return max(1, min(8, patches // shape.grid**2))


def network_input(sam: Sam, questions: Sequence[Question]) -> Tensor:
    """Return normalised images, float32 (B, 3, S, S), on the network's device."""
    images = torch.stack([torch.from_numpy(question.prepared.image_CHW) for question in questions]).to(sam.device)
    valid = torch.tensor([question.prepared.valid_hw for question in questions], device=sam.device)
    return normalise(sam, images, valid)


def image_batches(sam: Sam, exam: Exam, batch: int) -> Iterator[tuple[Tensor, tuple[Question, ...]]]:
    """Yield normalised images (B, 3, S, S) with what is asked of each."""
    for start in range(0, len(exam), batch):
        some = exam.questions[start : start + batch]
        yield network_input(sam, some), some


def candidate_masks(sam: Sam, embedding_Chw: Tensor, question: Question) -> tuple[Tensor, Tensor]:
    """Return the three candidate masks of every prompt, bool (N, 3, H, W) without padding, and predicted IoU (N, 3)."""
    logits, predicted = _candidates(sam, embedding_Chw, question)
    height, width = question.prepared.valid_hw
    large = upsample(logits[None], question.prepared.image_CHW.shape[-1])[0]
    return large[..., :height, :width] > 0, predicted


def candidate_ious(sam: Sam, embedding_Chw: Tensor, question: Question) -> tuple[Tensor, Tensor]:
    """Return the true and the predicted IoU of the three candidate masks of every prompt, (N, 3) each."""
    logits, predicted = _candidates(sam, embedding_Chw, question)
    return question.truth(logits.shape[-1], logits.device).ious(logits), predicted


def _candidates(sam: Sam, embedding_Chw: Tensor, question: Question) -> tuple[Tensor, Tensor]:
    """Return the logits (N, 3, 4h, 4w) and the predicted IoU (N, 3) of the three candidates of every prompt."""
    point = torch.from_numpy(question.points).to(sam.device)[None]
    logits, predicted = decode(sam, embedding_Chw[None].float(), point)
    return logits[0, :, 1:], predicted[0, :, 1:]


def _mark(sam: Sam, embedding_Chw: Tensor, question: Question) -> Mark:
    iou_N3, predicted_N3 = candidate_ious(sam, embedding_Chw, question)
    chosen_N = iou_N3.gather(1, predicted_N3.argmax(dim=1, keepdim=True))[:, 0]
    return Mark(objects=len(iou_N3), oracle=math.fsum(iou_N3.amax(dim=1).tolist()), chosen=math.fsum(chosen_N.tolist()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What one network reached on a set of images."""

    miou_oracle: float
    """Mean over objects of the best IoU among the three candidate masks."""
    miou_chosen: float
    """Mean over objects of the IoU of the candidate whose predicted IoU is highest."""
    objects: int
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What one network reached on one image."""

    objects: int
    oracle: float
    """Sum over the image's objects of the best IoU among the three candidate masks."""
    chosen: float
    """Sum over the image's objects of the IoU of the candidate whose predicted IoU is highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """What one network reached on some images of an exam; parts without a common image add up to the whole.

    Sums are exact, so that the figures do not depend on how the images were dealt into parts.
    """

    of: Mapping[int, Mark]
    """The mark of every image, by its place in the exam."""

    def __add__(self, other: Marks) -> Marks:
        """Return the marks of both parts; raise ValueError when they have an image in common."""
        common = sorted(self.of.keys() & other.of.keys())
        if common:
            raise ValueError(f"image {common[0]} is marked on both sides; parts of an exam share no image")
        return Marks(of={**self.of, **other.of})

    def __len__(self) -> int:
        return len(self.of)

    def at(self, places: Iterable[int]) -> Marks:
        """Return the marks of the images at `places` alone; raise KeyError for one that has none."""
        return Marks(of={place: self.of[place] for place in places})

    @property
    def scores(self) -> Scores:
        """The figures of all marked images; raise ValueError where there is none."""
        objects = sum(mark.objects for mark in self.of.values())
        if not objects:
            raise ValueError("no image is marked; there is no mean")
        return Scores(
            miou_oracle=math.fsum(mark.oracle for mark in self.of.values()) / objects,
            miou_chosen=math.fsum(mark.chosen for mark in self.of.values()) / objects,
            objects=objects,
            images=len(self.of),
        )

    def plain(self) -> dict[str, dict[str, Any]]:
        """Return the marks as JSON holds them."""
        return {str(place): asdict(mark) for place, mark in sorted(self.of.items())}

    @classmethod
    def read(cls, record: Mapping[str, Mapping[str, Any]]) -> Marks:
        """Return what `plain` gave; raise ValueError when it is none of that."""
        try:
            return cls(of={int(place): Mark(**mark) for place, mark in record.items()})
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"these are no marks of an exam: {error}") from error
