"""A SuperSAM study in a run folder, and the caches by which a worker's tasks share it.

All functions work on any run folder. They share data only by its files:

    study.json          configuration, seed, split and space
    importance.json     importance of each block
    checkpoints/        start*.pt (sorted channels), supernet.pt, finetune.pt (training states), best.pth (the result)
    training-ROLE.jsonl one line per step
    unreadable.jsonl    images that became unreadable after they were listed
    prefix/             cache of the shared prefix per image; may be removed at any time
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import cattrs
import torch

from quatrain import checkpoint
from quatrain.data.open import open_images
from quatrain.data.sample import ImageSet, LoggedImages
from quatrain.data.split import Split, split
from quatrain.errors import UsageError
from quatrain.files import read_json, write_json
from quatrain.nas.config import RENAMED, NasConfig
from quatrain.nas.inputs import UNREADABLE
from quatrain.sam.build import build, pretrained
from quatrain.sam.official import Sam
from quatrain.sam.registry import SamShape, shape
from quatrain.seeding import derive, numpy_rng
from quatrain.supernet.dataset import TrainingItems
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.evaluation import EvalSet, Evaluator
from quatrain.supernet.prefix_cache import Prefix, PrefixStore
from quatrain.supernet.space import Space

Part = Literal["train", "validation", "test"]
Weights = Literal[
    "start", "start-none", "start-random", "supernet", "supernet-none", "supernet-random", "finetune", "tuned"
]
"""Checkpoints of a study: before training (channels sorted by importance, not, or at random), and after; `tuned` is the
found sub-network trained by itself."""


@dataclass(frozen=True, kw_only=True)
class NasStudy:
    """The study of a run folder; images are opened at first use and kept."""

    folder: Path
    config: NasConfig
    seed: int
    split: Split
    space: Space | None = None

    @classmethod
    def create(cls, folder: Path, config: NasConfig, seed: int) -> NasStudy:
        """Open the images, split them into parts, and write study.json.

        Raises
        ------
        UsageError
            If there are no images, or too few for three parts.
        """
        images = _images(config, seed)
        names = tuple(images.names)
        if len(names) > config.images:
            chosen = numpy_rng(seed, "images").choice(len(names), config.images, replace=False)
            names = tuple(names[i] for i in sorted(chosen))
        train, validation, test = config.parts
        try:
            dealt = split(names, train=train, validation=validation, test=test, seed=seed)
        except ValueError as error:
            raise UsageError(f"{config.data!r} cannot be split into three parts: {error}") from error
        dealt = replace(dealt, validation=dealt.validation[: config.eval_images], test=dealt.test[: config.eval_images])
        study = cls(folder=folder, config=config, seed=seed, split=dealt)
        study.write()
        return study

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> NasStudy:
        """Read study.json of a run folder; raise UsageError if it is missing or of another version."""
        path = Path(folder) / "study.json"
        if not path.exists():
            raise UsageError(f"{os.fspath(folder)!r} holds no study.json: give the folder of a nas run")
        try:
            record = read_json(path)
            seed = int(record["seed"])
            settings = {RENAMED.get(name, name): value for name, value in record["config"].items()}
            config = _CONVERTER.structure(settings, NasConfig)
            dealt = _CONVERTER.structure(record["split"], Split)
            space = record["space"] and _CONVERTER.structure(record["space"], Space)
        except (cattrs.BaseValidationError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} is not of this version of quatrain: {error}") from error
        return cls(folder=Path(folder), config=config, seed=seed, split=dealt, space=space)

    def write(self) -> None:
        """Write study.json, atomically."""
        record = {"config": self.config, "seed": self.seed, "split": self.split, "space": self.space}
        write_json(self.folder / "study.json", record)

    @property
    def sam(self) -> SamShape:
        """The shape of the studied network."""
        return shape(self.config.model)

    @property
    def checkpoints(self) -> Path:
        """The folder of weights."""
        return self.folder / "checkpoints"

    @cached_property
    def images(self) -> ImageSet:
        """All images of the source; those that cannot be read are noted in the run folder."""
        return LoggedImages(images=_images(self.config, self.seed), path=self.folder / UNREADABLE)

    def indices(self, part: Part) -> list[int]:
        """Return the indices of a part in `images`; raise UsageError if an image no longer exists."""
        place = {name: index for index, name in enumerate(self.images.names)}
        gone = [name for name in getattr(self.split, part) if name not in place]
        if gone:
            raise UsageError(f"{self.config.data!r} no longer holds {gone[0]!r}: restore it, or start another run")
        return [place[name] for name in getattr(self.split, part)]

    def eval_set(self, part: Part, at_most: int | None = None) -> EvalSet:
        """Return the evaluation set of the first `at_most` images of a part."""
        return EvalSet.of(
            self.images,
            self.indices(part)[:at_most],
            image_px=self.sam.image_px,
            seed=derive(self.seed, "prompts"),
            fit=self.config.fit,
            max_objects=self.config.max_objects,
            points=self.config.eval_points,
        )

    def items(self) -> TrainingItems:
        """Return the stream of training items, the same for every role of a study."""
        return TrainingItems(
            images=self.images,
            indices=self.indices("train"),
            image_px=self.sam.image_px,
            logits_px=4 * self.sam.grid,
            prompts=self.config.train.prompts,
            seed=self.seed,
            fit=self.config.fit,
        )

    def pretrained(self) -> Sam:
        """Return the network that the study starts from, its encoder elastic."""
        return _elastic(pretrained(self.config.model, self.config.checkpoint, verify=self.config.verify), self.sam)

    def network(self, weights: Weights) -> Sam:
        """Return a network with the weights of one of the study's checkpoints, its encoder elastic."""
        state = checkpoint.load(self.checkpoints / f"{weights}.pt")
        model = _elastic(build(self.sam, seed=0), self.sam)
        model.load_state_dict(state["model"])
        return model

    def known_space(self) -> Space:
        """Return the space; raise UsageError before `prepare`."""
        if self.space is None:
            raise UsageError(f"{self.folder} has no space yet: prepare the study first")
        return self.space


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def _images(config: NasConfig, seed: int) -> ImageSet:
    return open_images(
        config.data, size_px=shape(config.model).image_px, seed=derive(seed, "made images") % 10**6, count=config.images
    )


def _elastic(model: Sam, sam: SamShape) -> Sam:
    model.image_encoder = ElasticEncoder(model.image_encoder, sam)
    return model.eval()


# A worker caches what its tasks share, for at most two run folders. The keys include the state of the source files, so
# a study that was prepared or trained again is read again.


def opened(folder: str) -> NasStudy:
    """Return the study of a folder, kept between the tasks of a worker."""
    return _opened(folder, _state(Path(folder) / "study.json"))


def network(folder: str, weights: Weights) -> Sam:
    """Return a network of a study on this worker's device, kept between tasks."""
    return _network(folder, weights, _states(folder, weights))


def eval_set(folder: str, part: Part) -> EvalSet:
    """Return the evaluation set of a part, kept between tasks."""
    return _eval_set(folder, part, _state(Path(folder) / "study.json"))


def evaluator(folder: str, weights: Weights, part: Part) -> Evaluator:
    """Return an evaluator with a study's weights on a part of its images, kept between tasks.

    The shared prefix of the study's space is cached in the folder `prefix` of the run folder.
    """
    return _evaluator(folder, weights, part, _states(folder, weights))


_State = tuple[int, int, int] | None


def _state(path: Path) -> _State:
    """Return modification time, size and inode of a file, or None if it does not exist."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _states(folder: str, weights: Weights) -> tuple[_State, _State]:
    path = Path(folder)
    return _state(path / "study.json"), _state(path / "checkpoints" / f"{weights}.pt")


@lru_cache(maxsize=2)
def _opened(folder: str, _at: _State) -> NasStudy:
    return NasStudy.read(folder)


@lru_cache(maxsize=2)
def _network(folder: str, weights: Weights, _at: tuple[_State, _State]) -> Sam:
    model = opened(folder).network(weights)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=2)
def _eval_set(folder: str, part: Part, _at: _State) -> EvalSet:
    return opened(folder).eval_set(part)


@lru_cache(maxsize=2)
def _evaluator(folder: str, weights: Weights, part: Part, _at: tuple[_State, _State]) -> Evaluator:
    study, sam = opened(folder), network(folder, weights)
    if study.space is None:
        return Evaluator(sam, eval_set(folder, part))
    prefix = Prefix.of(study.space)
    store = PrefixStore(folder=study.folder / "prefix", prefix=prefix.fingerprint(sam.image_encoder))
    return Evaluator(sam, eval_set(folder, part), prefix=prefix, store=store)
