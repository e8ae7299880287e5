"""Every setting of semantic boosting, each with its origin. Nothing here needs torch, so that planning is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from quatrain.data.units import parse_pixel_size
from quatrain.errors import unknown

RULES = ("islands", "duplicates", "whole-image", "compound-parents", "tiny-children", "island-masks")
"""The removal rules in their usual order."""
_SAM_PX = 1024
"""Side of what the official models take; smaller ones are miniatures."""
EMBEDDERS = ("classical", "efficientnet-lite0", "sam", "fenet")
"""What turns a texture crop into numbers."""


def paper(value: Any) -> Any:
    """Return a field whose default is told by SAM-I-Am (arXiv 2404.06638)."""
    return field(default=value, metadata={"origin": "paper"})


def ours(value: Any) -> Any:
    """Return a field whose default is our choice, because the paper's text is not known to us or is silent."""
    return field(default=value, metadata={"origin": "ours"})


def _check_shares(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; a share must lie between 0 and 1")


def _check_least(settings: Any, least: float, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value >= least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RemovalConfig:
    """Which masks go, by their geometry alone (SAM-I-Am's removal)."""

    order: tuple[str, ...] = ours(RULES)
    """The rules to apply, one after another; a rule that is not named is not applied."""
    duplicate_iou: float = ours(0.80)
    """Of two masks with at least this IoU the better one stays, by predicted IoU x stability."""
    whole_image: float = ours(0.95)
    """A mask of more than this share of the image goes."""
    parent_covered: float = paper(0.70)
    """A mask goes when its children together cover more than this share of it."""
    tiny_child: float = paper(0.05)
    """A child goes when it is smaller than this share of its smallest parent."""
    child_inside: float = ours(0.90)
    """A smaller mask is a child when at least this share of it lies inside."""
    island_px: int = ours(64)
    """Parts and holes of a mask smaller than this many pixels are dropped and filled ..."""
    island_share: float = ours(0.01)
    """... or smaller than this share of the mask."""
    island_image_share: float = ours(0.002)
    """A mask without parent goes when it is smaller than this share of the image."""

    def __post_init__(self) -> None:
        for rule in self.order:
            if rule not in RULES:
                raise unknown("removal rule", rule, RULES)
        _check_shares(
            self,
            *("duplicate_iou", "whole_image", "parent_covered", "tiny_child"),
            *("child_inside", "island_share", "island_image_share"),
        )
        _check_least(self, 0, "island_px")
        for name in ("duplicate_iou", "child_inside"):
            if getattr(self, name) < 0.5:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0.5 and 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class MergingConfig:
    """How masks of one texture become one material (SAM-I-Am's merging)."""

    crop_px: int = paper(60)
    """Side of the square texture crops."""
    crop_nm: float = ours(0.0)
    """Side of the crops in nm, in place of crop_px where the pixel size is known; take at least 4 lattice periods."""
    crop_inside: float = ours(0.90)
    """Share of a crop that must lie inside the mask, outside every smaller one."""
    crops_least: int = ours(4)
    """Fewest crops of a mask with room for them; one crop a crop's area otherwise."""
    crops_most: int = ours(32)
    """Most crops of a mask."""
    embedder: Literal["classical", "efficientnet-lite0", "sam", "fenet"] = ours("classical")
    """What turns a crop into numbers; the paper's FENet needs weights of your own."""
    fenet_weights: str = ours("")
    """Path of FENet's weights (a ResNet-18 state dict)."""
    restarts: int = ours(10)
    """Starts of k-means, of which the tightest counts."""
    k_most: int = ours(5)
    """Most materials that `auto` considers."""
    fill: Literal["none", "texture", "cluster"] = ours("none")
    """Pixels that no mask covers: `none` leaves them 0, `texture` gives them the nearest material of the masks, with
    `cluster` their own textures found materials too."""

    def __post_init__(self) -> None:
        if self.embedder not in EMBEDDERS:
            raise unknown("embedder", self.embedder, EMBEDDERS)
        if self.fill not in ("none", "texture", "cluster"):
            raise unknown("fill", self.fill, ("none", "texture", "cluster"))
        if self.embedder == "fenet" and not self.fenet_weights:
            raise ValueError("the embedder 'fenet' needs fenet_weights, the path of its state dict")
        _check_least(self, 8, "crop_px")
        _check_least(self, 0, "crop_nm")
        _check_least(self, 1, "crops_least", "restarts")
        _check_least(self, self.crops_least, "crops_most")
        _check_least(self, 2, "k_most")
        _check_shares(self, "crop_inside")


@dataclass(frozen=True, kw_only=True, slots=True)
class BoostConfig:
    """Removal and merging of one image's masks."""

    removal: RemovalConfig = field(default_factory=RemovalConfig)
    """Removal by geometry."""
    merging: MergingConfig = field(default_factory=MergingConfig)
    """Merging by texture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """The images to boost."""

    data: str = "made"
    """An image, a folder of images, or `made`, `made:unseen`, `made:fibres,weave`; NAME_truth.png is its truth."""
    pattern: str = "*"
    """Which files of a folder, such as *.dm4; **/* looks into its folders too."""
    key: str = ""
    """The image to use in files that hold several: a dataset of HDF5, a detector of Velox, a page of a TIFF."""
    pixel_size: str = ""
    """Size of a pixel, such as `0.5nm`, or `0.5nm,0.6nm` for height and width; overrides what the files state."""
    data_bar: Literal["cut", "keep"] = "cut"
    """What to do with the data bar below an SEM image; it is found by the metadata or by its look."""
    images: int = 12
    """How many made images."""
    made_px: int = 256
    """Side of made images."""
    made_seed: int = 0
    """Which made images."""

    def __post_init__(self) -> None:
        _check_least(self, 1, "images")
        _check_least(self, 64, "made_px")
        if self.pixel_size:
            parse_pixel_size(self.pixel_size)
        if self.data_bar not in ("cut", "keep"):
            raise unknown("data bar", self.data_bar, ("cut", "keep"))


@dataclass(frozen=True, kw_only=True, slots=True)
class MasksConfig:
    """Where the masks come from."""

    source: Literal["sam", "regions", "json"] = "sam"
    """`sam`; `regions`, segmentation without weights, which is not SAM; or `json`, COCO files NAME.json."""
    model: str = "vit_mini"
    """vit_mini (shipped), or vit_b, vit_l, vit_h with --masks.checkpoint."""
    checkpoint: str = ""
    """The official .pth of the model, or a sub-network that `quatrain nas` extracted."""
    verify: bool = True
    """Hold an official checkpoint against its published SHA-256."""
    folder: str = ""
    """Where the JSON files lie; beside the images when left out."""
    points_per_side: int = paper(16)
    """Points of the grid along each side."""
    points_per_batch: int = ours(32)
    """Points that the decoder takes at once: memory, not results."""
    pred_iou_thresh: float | None = ours(None)
    """Lowest IoU that SAM predicts for a mask: segment_anything's 0.88 when left out, 0.6 for models of vit_mini's
    size, whose scores are lower."""
    stability_score_thresh: float | None = ours(None)
    """Lowest stability of a mask against its threshold: segment_anything's 0.95 when left out, 0.8 for models of
    vit_mini's size."""
    box_nms_thresh: float = ours(0.7)
    """Box IoU above which the lesser mask goes (segment_anything's default)."""
    mask_nms_thresh: float = ours(0.0)
    """Compare masks, not boxes, above this IoU: a matrix survives whose box is the whole image's; 0 compares boxes."""
    contrast: Literal["plain", "equalised", "both"] = ours("plain")
    """What SAM sees: the image as it is, with its contrast equalised (CLAHE), or one after the other, for twice the
    time; textures are always those of the image."""
    tile_px: int = ours(0)
    """Side of overlapping tiles that are segmented one by one; 0 gives the model the whole image."""
    tile_overlap_px: int = ours(128)
    """Pixels that neighbouring tiles share at least."""
    bf16: bool = ours(False)
    """Run the model in bfloat16: faster where the hardware has it."""

    def __post_init__(self) -> None:
        if self.source not in ("sam", "regions", "json"):
            raise unknown("source of masks", self.source, ("sam", "regions", "json"))
        if self.contrast not in ("plain", "equalised", "both"):
            raise unknown("contrast", self.contrast, ("plain", "equalised", "both"))
        _check_least(self, 1, "points_per_side", "points_per_batch")
        scores = [name for name in ("pred_iou_thresh", "stability_score_thresh") if getattr(self, name) is not None]
        _check_shares(self, *scores, "box_nms_thresh", "mask_nms_thresh")
        if self.tile_px and self.tile_px < 64:
            raise ValueError(f"tile_px is {self.tile_px}; it must be 0 or at least 64")
        if self.tile_px and not 0 <= self.tile_overlap_px < self.tile_px:
            raise ValueError(f"tile_overlap_px is {self.tile_overlap_px}; it must be below tile_px, {self.tile_px}")

    def thresholds(self, image_px: int) -> tuple[float, float]:
        """Return the lowest predicted IoU and stability of a mask, for a model whose input has `image_px` a side."""
        usual = (0.88, 0.95) if image_px >= _SAM_PX else (0.6, 0.8)
        given = (self.pred_iou_thresh, self.stability_score_thresh)
        return usual[0] if given[0] is None else given[0], usual[1] if given[1] is None else given[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig(DataConfig):
    """A whole run of the boost workflow."""

    k: int | Literal["auto", "truth"] = "auto"
    """Number of materials (the paper's way), `auto` by silhouette, or `truth`: as many as the truth has, else auto."""
    masks: MasksConfig = field(default_factory=MasksConfig)
    """Where the masks come from."""
    removal: RemovalConfig = field(default_factory=RemovalConfig)
    """Removal by geometry."""
    merging: MergingConfig = field(default_factory=MergingConfig)
    """Merging by texture."""
    chunk: int = 4
    """Images a task; a worker keeps its model between tasks."""
    open: bool = False
    """Open the overlay of a single image when it is done."""

    def __post_init__(self) -> None:
        DataConfig.__post_init__(self)
        _check_least(self, 1, "chunk")
        if isinstance(self.k, int):
            _check_least(self, 1, "k")
        elif self.k not in ("auto", "truth"):
            raise ValueError(f"k is {self.k!r}; it must be a number of at least 1, 'auto' or 'truth'")

    @property
    def boosting(self) -> BoostConfig:
        """What one image is boosted by."""
        return BoostConfig(removal=self.removal, merging=self.merging)


def mini() -> BatchConfig:
    """What the package ships: vit_mini on made micrographs, k from the truth.

    Masks are removed and bare pixels filled as was best on half of the made images of benchmarks/boost.py, with
    vit_mini's masks: a parent that its children cover stays.
    """
    return BatchConfig(
        removal=RemovalConfig(order=tuple(rule for rule in RULES if rule != "compound-parents")),
        merging=MergingConfig(fill="texture"),
        k="truth",
    )


def full() -> BatchConfig:
    """The paper's masks and rules: ViT-L, a grid of 16 x 16 points, segment_anything's thresholds, every removal."""
    return BatchConfig(masks=MasksConfig(model="vit_l", mask_nms_thresh=0.8))


PRESETS = {"mini": mini, "paper": full}
"""Configurations by name; the first is the default."""
