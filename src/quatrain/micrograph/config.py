"""Settings of semantic boosting, each with the origin of its default; imports no torch, so planning is fast."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Literal

from quatrain.data.units import parse_pixel_size
from quatrain.errors import unknown

RULES = ("islands", "duplicates", "whole-image", "compound-parents", "tiny-children", "island-masks")
"""The removal rules in their default order."""
MERGERS = ("kmeans", "ward", "pixels")
"""The merging rules: k-means of crops, Ward linkage of neighbouring grid cells, or k-means of pixels."""
_SAM_PX = 1024
"""Input side of the official models; a model with a smaller input is a miniature."""
EMBEDDERS = ("classical", "efficientnet-lite0", "sam", "resnet18")
"""The embedders of texture crops."""


def paper(value: Any) -> Any:
    """Return a field whose default is stated by SAM-I-Am (arXiv 2404.06638)."""
    return field(default=value, metadata={"origin": "paper"})


def ours(value: Any) -> Any:
    """Return a field whose default is our choice: the sources that we have of the paper do not state one."""
    return field(default=value, metadata={"origin": "ours"})


def _check_shares(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; a share must be between 0 and 1")


def _check_least(settings: Any, least: float, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value >= least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RemovalConfig:
    """Removal of masks by geometry (SAM-I-Am)."""

    order: tuple[str, ...] = ours(RULES)
    """The rules to apply, in this order; rules that are not listed are not applied."""
    duplicate_iou: float = ours(0.80)
    """Of two masks with at least this IoU, the one with the higher predicted IoU x stability is kept."""
    whole_image: float = ours(0.95)
    """A mask that covers more than this share of the image is removed."""
    parent_covered: float = paper(0.70)
    """A mask is removed if its children together cover more than this share of it."""
    tiny_child: float = paper(0.05)
    """A child smaller than this share of its smallest parent is removed."""
    child_inside: float = ours(0.90)
    """A smaller mask is a child of a larger one if at least this share of it lies inside."""
    island_px: int = ours(64)
    """Parts of a mask below this many pixels are dropped, and holes below it are filled."""
    island_share: float = ours(0.01)
    """The same limit as a share of the mask; the larger of the two limits counts."""
    island_image_share: float = ours(0.002)
    """A mask without parent is removed if it is smaller than this share of the image."""
    phase_share: float = ours(0.02)
    """Guard: `tiny-children` or `island-masks` is skipped if at least `phase_masks` masks that together cover more
    than this share of the image would be removed; 1 disables the guard."""
    phase_masks: int = ours(10)
    """Fewest masks that the guard takes for a phase."""

    def __post_init__(self) -> None:
        for rule in self.order:
            if rule not in RULES:
                raise unknown("removal rule", rule, RULES)
        _check_shares(
            self,
            *("duplicate_iou", "whole_image", "parent_covered", "tiny_child"),
            *("child_inside", "island_share", "island_image_share", "phase_share"),
        )
        _check_least(self, 0, "island_px", "phase_masks")
        for name in ("duplicate_iou", "child_inside"):
            if getattr(self, name) < 0.5:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0.5 and 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class MergingConfig:
    """Merging of masks with the same texture into materials (SAM-I-Am)."""

    rule: Literal["kmeans", "ward", "pixels", "auto"] = paper("kmeans")
    """`kmeans` clusters the crops of all masks; `ward` joins neighbouring cells of a grid; `pixels` clusters pixels;
    `auto` takes `kmeans` if the masks suffice, else `pixels` for phases below 60 px, else `ward`."""
    grid_px: int = ours(20)
    """Side of the grid cells of `ward`."""
    regions: int = ours(0)
    """`ward` joins cells to this many regions, which are then clustered into materials; 0 joins them to k regions."""

    crop_px: int = paper(60)
    """Side of the square texture crops."""
    crop_fit: bool = ours(True)
    """Use smaller crops if the image's correlation length shows phases smaller than crop_px."""
    crop_nm: float = ours(0.0)
    """Side of the crops in nm; replaces crop_px if the pixel size is known. Use at least 4 lattice periods."""
    crop_inside: float = ours(0.90)
    """Share of a crop that must lie inside the mask and outside every smaller mask."""
    crops_least: int = ours(4)
    """Fewest crops of a mask that is wide enough; larger masks get one crop per crop area."""
    crops_most: int = ours(32)
    """Most crops of a mask."""
    embedder: Literal["classical", "efficientnet-lite0", "sam", "resnet18", "fenet"] = ours("classical")
    """Feature extractor of crops. `resnet18` needs weights; `fenet` is its deprecated name."""
    resnet18_weights: str = ours("")
    """Path of a ResNet-18 state dict."""
    fenet_weights: str = ours("")
    """Deprecated name of resnet18_weights."""
    restarts: int = ours(10)
    """Restarts of k-means; the one with the least inertia is used."""
    k_most: int = ours(5)
    """Largest number of materials that `auto` considers."""
    fill: Literal["none", "texture", "cluster"] = ours("none")
    """Pixels without a mask: `none` leaves them 0, `texture` assigns the nearest material of the masks, `cluster` also
    uses their textures to find materials. Without any mask, `texture` works like `cluster`."""

    def __post_init__(self) -> None:
        if self.embedder == "fenet" or self.fenet_weights:
            warnings.warn("'fenet' is deprecated: the network is a plain ResNet-18, use 'resnet18'", FutureWarning, 3)
            if self.embedder == "fenet":
                object.__setattr__(self, "embedder", "resnet18")
            object.__setattr__(self, "resnet18_weights", self.resnet18_weights or self.fenet_weights)
            object.__setattr__(self, "fenet_weights", "")
        if self.rule not in (*MERGERS, "auto"):
            raise unknown("merging rule", self.rule, (*MERGERS, "auto"))
        if self.embedder not in EMBEDDERS:
            raise unknown("embedder", self.embedder, EMBEDDERS)
        if self.fill not in ("none", "texture", "cluster"):
            raise unknown("fill", self.fill, ("none", "texture", "cluster"))
        if self.embedder == "resnet18" and not self.resnet18_weights:
            raise ValueError("the embedder 'resnet18' needs resnet18_weights, the path of its state dict")
        _check_least(self, 8, "crop_px")
        _check_least(self, 0, "crop_nm", "regions")
        _check_least(self, 4, "grid_px")
        _check_least(self, 1, "crops_least", "restarts")
        _check_least(self, self.crops_least, "crops_most")
        _check_least(self, 2, "k_most")
        _check_shares(self, "crop_inside")


@dataclass(frozen=True, kw_only=True, slots=True)
class BoostConfig:
    """Settings of removal and merging."""

    removal: RemovalConfig = field(default_factory=RemovalConfig)
    """Removal by geometry."""
    merging: MergingConfig = field(default_factory=MergingConfig)
    """Merging by texture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """The images to boost."""

    data: str = "made"
    """An image, a folder of images, or synthetic images by `made`, `made:unseen`, `made:fibres,weave`. The truth of
    NAME.png is NAME_truth.png beside it."""
    pattern: str = "*"
    """Glob pattern of the files in a folder, such as *.dm4; **/* includes subfolders."""
    key: str = ""
    """The image to use in files that hold several: a dataset of HDF5, a detector of Velox, a page of a TIFF."""
    pixel_size: str = ""
    """Size of a pixel, such as `0.5nm`, or `0.5nm,0.6nm` for height and width; overrides what the files state."""
    data_bar: Literal["cut", "keep"] = "cut"
    """What to do with the data bar below an SEM image; it is found by the metadata or by its look."""
    images: int = 12
    """Number of synthetic images."""
    made_px: int = 256
    """Side of synthetic images, in pixels."""
    made_seed: int = 0
    """Seed of synthetic images."""

    def __post_init__(self) -> None:
        _check_least(self, 1, "images")
        _check_least(self, 64, "made_px")
        if self.pixel_size:
            parse_pixel_size(self.pixel_size)
        if self.data_bar not in ("cut", "keep"):
            raise unknown("data bar", self.data_bar, ("cut", "keep"))


@dataclass(frozen=True, kw_only=True, slots=True)
class MasksConfig:
    """The source of the raw masks."""

    source: Literal["sam", "regions", "json"] = "sam"
    """`sam`; `regions` (superpixels, no weights, not SAM); or `json` (COCO files NAME.json)."""
    model: str = "vit_mini"
    """vit_mini (shipped), or vit_b, vit_l, vit_h with --masks.checkpoint."""
    checkpoint: str = ""
    """Path of the official .pth of the model, or of a sub-network extracted by `quatrain nas`."""
    verify: bool = True
    """Check the SHA-256 of an official checkpoint against the published one."""
    folder: str = ""
    """Folder of the JSON files; by default they are beside the images."""
    points_per_side: int = paper(16)
    """Points of the grid along each side."""
    crop_n_layers: int = ours(0)
    """SAM's crop layers: layer i segments 4**i overlapping crops besides the whole image (segment_anything)."""
    points_per_batch: int = ours(32)
    """Points decoded together; affects memory, not results."""
    pred_iou_thresh: float | None = ours(None)
    """Least predicted IoU of a mask; by default segment_anything's 0.88, and 0.6 for models with an input below
    1,024 px (vit_mini), which predict lower values."""
    stability_score_thresh: float | None = ours(None)
    """Least stability score of a mask; by default segment_anything's 0.95, and 0.8 for models with an input below
    1,024 px."""
    box_nms_thresh: float = ours(0.7)
    """NMS: box IoU above which the worse mask is dropped (segment_anything's default)."""
    mask_nms_thresh: float = ours(0.0)
    """NMS by mask IoU above this value instead of box IoU, which keeps a matrix whose box is the whole image's; 0
    uses box IoU."""
    contrast: Literal["plain", "equalised", "both"] = ours("plain")
    """Input of SAM: the image, the image with equalised contrast (CLAHE), or both, which takes twice the time. Texture
    features always use the image."""
    tile_px: int = ours(0)
    """Side of overlapping tiles that are segmented one by one; 0 segments the whole image at once."""
    tile_overlap_px: int = ours(128)
    """Least overlap of neighbouring tiles, in pixels."""
    bf16: bool = ours(False)
    """Run the image encoder in bfloat16: faster on hardware with bfloat16 instructions."""

    def __post_init__(self) -> None:
        if self.source not in ("sam", "regions", "json"):
            raise unknown("source of masks", self.source, ("sam", "regions", "json"))
        if self.contrast not in ("plain", "equalised", "both"):
            raise unknown("contrast", self.contrast, ("plain", "equalised", "both"))
        _check_least(self, 1, "points_per_side", "points_per_batch")
        scores = [name for name in ("pred_iou_thresh", "stability_score_thresh") if getattr(self, name) is not None]
        _check_shares(self, *scores, "box_nms_thresh", "mask_nms_thresh")
        _check_least(self, 0, "crop_n_layers")
        if self.tile_px and self.crop_n_layers:
            raise ValueError(f"crop_n_layers is {self.crop_n_layers}; it must be 0 with tile_px {self.tile_px}")
        if self.tile_px and self.tile_px < 64:
            raise ValueError(f"tile_px is {self.tile_px}; it must be 0 or at least 64")
        if self.tile_px and not 0 <= self.tile_overlap_px < self.tile_px:
            raise ValueError(f"tile_overlap_px is {self.tile_overlap_px}; it must be below tile_px, {self.tile_px}")

    def thresholds(self, image_px: int) -> tuple[float, float]:
        """Return the least predicted IoU and stability of a mask, for a model with an input side of `image_px`."""
        usual = (0.88, 0.95) if image_px >= _SAM_PX else (0.6, 0.8)
        given = (self.pred_iou_thresh, self.stability_score_thresh)
        return usual[0] if given[0] is None else given[0], usual[1] if given[1] is None else given[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig(DataConfig):
    """Settings of a run of the boost workflow."""

    k: int | Literal["auto", "truth"] = "auto"
    """Number of materials (as in the paper), `auto` (by silhouette), or `truth` (that of the truth, else auto)."""
    masks: MasksConfig = field(default_factory=MasksConfig)
    """Source of the raw masks."""
    removal: RemovalConfig = field(default_factory=RemovalConfig)
    """Removal by geometry."""
    merging: MergingConfig = field(default_factory=MergingConfig)
    """Merging by texture."""
    chunk: int = 4
    """Images per task; a worker keeps its model between tasks."""
    open: bool = False
    """Open the overlay of a single image when it is finished."""

    def __post_init__(self) -> None:
        DataConfig.__post_init__(self)
        _check_least(self, 1, "chunk")
        if isinstance(self.k, int):
            _check_least(self, 1, "k")
        elif self.k not in ("auto", "truth"):
            raise ValueError(f"k is {self.k!r}; it must be a number of at least 1, 'auto' or 'truth'")

    @property
    def boosting(self) -> BoostConfig:
        """The settings that one image needs."""
        return BoostConfig(removal=self.removal, merging=self.merging)


def mini() -> BatchConfig:
    """Return the shipped preset: vit_mini, synthetic images, k from the truth.

    Removal order and fill are those that scored best on the tuning half of the synthetic images of
    benchmarks/boost.py with vit_mini's masks: compound parents are kept. The merging rule is `auto`, because vit_mini
    finds too few masks in many real images.
    """
    return BatchConfig(
        removal=RemovalConfig(order=tuple(rule for rule in RULES if rule != "compound-parents")),
        merging=MergingConfig(rule="auto", fill="texture"),
        k="truth",
    )


def full() -> BatchConfig:
    """Return the paper's preset: ViT-L, 16 x 16 points, segment_anything's thresholds and NMS, every removal rule."""
    return BatchConfig(masks=MasksConfig(model="vit_l"))


PRESETS = {"mini": mini, "paper": full}
"""Presets by name; the first is the default."""
