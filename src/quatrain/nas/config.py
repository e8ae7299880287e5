"""The settings of the nas workflow and its presets. Nothing here needs torch, so planning is quick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from quatrain.sam.registry import SamShape, shape
from quatrain.search.constraints import Bounds
from quatrain.search.engines.registry import check_engine
from quatrain.supernet.config import LossConfig, TrainConfig
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.space import Space, ratio_choices

RENAMED = {"exam_images": "eval_images", "exam_points": "eval_points"}
"""Settings by the names that they had in the last release, which flags and study.json may still use."""
PAPER_WIDTHS = (768, 1020, 1536, 2304)
"""Hidden channels that the authors' ViT-B space offers for blocks 1 to 11."""
PAPER_REMOVABLE = (1, 2, 5, 6, 9)
"""Blocks that the authors' ViT-B space may drop, each with probability one half."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceConfig:
    """Which sub-networks the supernet offers."""

    widths: tuple[int, ...] = ()
    """Hidden channels that an elastic MLP may take; empty: 1/4, 1/3, 1/2, 3/4 and all of them."""
    fixed_blocks: tuple[int, ...] = ()
    """Blocks whose MLP always keeps its full width."""
    removable: tuple[int, ...] | None = None
    """Blocks that may be dropped; by default the least important ones, found by leaving out each in turn."""
    removable_share: float = 0.42
    """Share of the blocks that become removable by importance (5 of 12, 10 of 24, 13 of 32)."""
    greedy: bool = False
    """Score the remaining blocks again after each one that becomes removable (as many times longer)."""
    drop_probability: float = 0.5
    """Probability that a random net drops a removable block."""
    drop_by_rank: bool = False
    """Use drop probabilities by rank of importance instead, 0.8 for the least important block down to 0.2."""
    order: Literal["importance", "none", "random"] = "importance"
    """Order of the hidden channels before training; "none" and "random" are for comparison."""
    standardise: bool = False
    """Bring row and column scores to the same scale before they are averaged."""

    def __post_init__(self) -> None:
        if self.removable is not None:
            object.__setattr__(self, "removable", tuple(sorted(set(self.removable))))
        if not 0 <= self.removable_share < 1:
            raise ValueError(f"removable_share is {self.removable_share}; it must lie in [0, 1)")
        if not 0 <= self.drop_probability <= 1:
            raise ValueError(f"drop_probability is {self.drop_probability}; it must lie in [0, 1]")

    def choices(self, sam: SamShape) -> tuple[tuple[int, ...], ...]:
        """Return the widths that each block of `sam` may take; raise ValueError for widths that it cannot have."""
        widths = tuple(sorted(set(self.widths))) or ratio_choices(sam.hidden, multiple=min(64, sam.hidden // 6))
        if widths[0] < 1 or widths[-1] > sam.hidden:
            raise ValueError(f"widths are {list(widths)}; {sam.name}'s MLPs take 1 to {sam.hidden} hidden channels")
        for block in self.fixed_blocks:
            sam_block(sam, block)
        return tuple((sam.hidden,) if block in self.fixed_blocks else widths for block in range(sam.depth))

    def space(self, sam: SamShape, removable: tuple[int, ...], probability: tuple[float, ...]) -> Space:
        """Return the space with these removable blocks; raise ValueError when it does not fit `sam`."""
        for block in removable:
            sam_block(sam, block)
        return Space(
            full=full_subnet(sam).widths, choices=self.choices(sam), removable=removable, drop_probability=probability
        )

    def smallest_conceivable(self, sam: SamShape) -> Space:
        """Return the space with its removable blocks, or with the costliest ones until they are known."""
        removable = self.removable
        if removable is None:
            costly = sorted(range(1, sam.depth - 1), key=lambda block: (-sam.span(block), block))
            removable = tuple(sorted(costly[: round(self.removable_share * sam.depth)]))
        return self.space(sam, removable, (0.5,) * len(removable))


def sam_block(sam: SamShape, block: int) -> int:
    """Return `block`; raise ValueError if `sam` has no such block."""
    if not 0 <= block < sam.depth:
        raise ValueError(f"there is no block {block}; {sam.name} has blocks 0 to {sam.depth - 1}")
    return block


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """How sub-networks are searched."""

    evaluations: int = 300
    """Sub-networks to evaluate."""
    engine: str = "opentuner"
    """Their engine: opentuner (the paper's), additive, optuna-tpe, optuna-nsga2, evolution or random."""
    max_params: str = "70%"
    """Most parameters of the encoder, such as 40M or 60% of the full one."""
    max_macs: str | None = None
    """Most multiply-accumulates per image, such as 200G or 60%."""
    random_in_bucket: int = 8
    """Random nets of the best one's size that are measured beside it, as the random baseline."""

    def __post_init__(self) -> None:
        check_engine(self.engine)
        if self.evaluations < 1:
            raise ValueError(f"evaluations is {self.evaluations}; it must be at least 1")
        if self.random_in_bucket < 0:
            raise ValueError(f"random_in_bucket is {self.random_in_bucket}; it must be at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class NasConfig:
    """SuperSAM from a pretrained SAM to the best sub-network."""

    deprecated_flags: ClassVar[Mapping[str, str]] = {
        f"--{old.replace('_', '-')}": f"--{new.replace('_', '-')}" for old, new in RENAMED.items()
    }

    data: str = "made:unseen"
    """Images with truth: a path (folder of NAME.png + NAME_truth.png, COCO JSON, SA-1B folder, TIFF stacks) or
    made:unseen, made:seen, made:MATERIAL,MATERIAL."""
    images: int = 256
    """Synthetic images to generate, or most images to take from a path."""
    parts: tuple[float, float, float] = (0.5, 0.2, 0.3)
    """Shares of the images for training, validation and test."""
    fit: Literal["pad", "squash"] = "pad"
    """How images fit the network's square input: padded as SAM does, or squashed as SuperSAM's code does."""
    model: str = "vit_mini"
    """vit_mini (shipped), or vit_b, vit_l, vit_h with a checkpoint."""
    checkpoint: Path | None = None
    """The official weights' .pth file."""
    verify: bool = True
    """Require the SHA-256 of the published checkpoint."""
    few_shot_images: int = 100
    """Training images on which blocks and channels are scored."""
    eval_images: int = 200
    """Most validation images, and most test images. Every worker holds them in memory (19 MB per image with 16 objects
    at 1024 px)."""
    max_objects: int = 16
    """Objects per image that are measured, the largest first."""
    eval_points: int = 1
    """Points per object in evaluations, one prompt each. SuperSAM's code takes one. With few images, more points make
    the choice of the best network less noisy."""
    space: SpaceConfig = field(default_factory=SpaceConfig)
    """The space of sub-networks."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Training of the supernet and of the full net."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """Search for the best sub-network."""
    ablations: bool = False
    """Also train supernets with unsorted and with randomly sorted channels (three times the training). Otherwise the
    table compares the orders before training."""

    def __post_init__(self) -> None:
        # workers may run in another folder than the driver, so paths become absolute here
        if self.data.partition(":")[0] != "made":
            object.__setattr__(self, "data", str(Path(self.data).expanduser().absolute()))
        if self.checkpoint is not None:
            object.__setattr__(self, "checkpoint", self.checkpoint.expanduser().absolute())
        sam = shape(self.model)
        self.space.choices(sam)
        Bounds.parse(sam, max_params=self.search.max_params, max_macs=self.search.max_macs).check(
            self.space.smallest_conceivable(sam)
        )
        if self.images < 3:
            raise ValueError(f"images is {self.images}; training, validation and test need one each")
        if min(self.parts) <= 0:
            raise ValueError(f"parts are {self.parts}; each share must be positive")
        for name in ("few_shot_images", "eval_images", "max_objects", "eval_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def roles(self) -> tuple[str, ...]:
        """The trainings: supernet, full net for comparison, and with `ablations` other channel orders."""
        return ("supernet", "finetune", *(("supernet-none", "supernet-random") if self.ablations else ()))


def mini() -> NasConfig:
    """Minutes on a laptop: the shipped miniature on synthetic micrographs of materials outside its training data."""
    return NasConfig(
        images=192,
        few_shot_images=32,
        train=TrainConfig(steps=160, prompts=8, lr=1e-3, loss=LossConfig(focal=0.0, entropy=1.0, iou=4.0, others=0.2)),
        search=SearchConfig(evaluations=60),
    )


def default() -> NasConfig:
    """The canonical method for real images and the official models."""
    return NasConfig(images=10_000, train=TrainConfig(steps=10_000, batch=16, lr=5e-5, warmup=500, amp=True, loaders=8))


def paper() -> NasConfig:
    """The settings of SuperSAM's public code for ViT-B."""
    return replace(
        default(),
        images=20_000,
        model="vit_b",
        fit="squash",
        space=SpaceConfig(widths=PAPER_WIDTHS, fixed_blocks=(0,), removable=PAPER_REMOVABLE, drop_probability=0.5),
        train=TrainConfig(
            steps=1250,
            batch=16,
            lr=1e-5,
            warmup=0,
            schedule="constant",
            rule="paper",
            random_nets=1,
            distill=0.0,
            loss=LossConfig(dice=1.0, focal=0.0, iou=0.0, single_mask_only=True),
        ),
        search=SearchConfig(evaluations=300, max_params="100%"),
    )


PRESETS = {"mini": mini, "default": default, "paper": paper}
"""The presets by name; the first is the default."""
