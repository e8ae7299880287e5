"""Merging by texture (SAM-I-Am): find textures, vote by a merging rule, and paint one label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quatrain.micrograph.config import MergingConfig
from quatrain.micrograph.crops import Crops, correlation_side, cut
from quatrain.micrograph.embedders import Embedder
from quatrain.micrograph.masks import Mask
from quatrain.micrograph.merging_rules import MERGING_RULES, Clusters, MergingRule, Textures, pixel_features

# N masks, C crops, G grid cells, K clusters, H W pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Merging:
    """The materials of one image."""

    labels_HW: NDArray[np.uint16]
    """The material of every pixel, from 1, the largest first; 0 where no mask lies."""
    material_N: NDArray[np.int64]
    """The material of each mask, from 1."""
    confidence_N: NDArray[np.float64]
    """Share of a mask's crops that voted for its material."""
    low_support_N: NDArray[np.bool_]
    """Whether a mask is too narrow for a crop."""
    crops: Crops
    embedding_CF: NDArray[np.float64]
    vote_C: NDArray[np.int64]
    """The material that each crop voted for; 0 if it has no pixels in the label map."""
    rule: str
    """The merging rule that was applied."""

    @property
    def materials(self) -> int:
        """The number of materials."""
        return int(max(self.material_N.max(initial=0), self.labels_HW.max(initial=0)))


def merge(
    grey_HW: NDArray[np.uint8],
    masks: Sequence[Mask],
    embedder: Embedder,
    config: MergingConfig,
    *,
    k: int | None,
    seed: int,
    pixel_nm: float | None = None,
) -> Merging:
    """Merge the masks of a uint8 image (H, W) into `k` materials; None chooses k by silhouette."""
    name = suitable_rule(grey_HW, masks, k) if config.rule == "auto" else config.rule
    rule = MERGING_RULES[name]
    side_px = crop_side(grey_HW, config, pixel_nm)
    crops = cut(grey_HW, masks, config, seed, side_px)
    corner_G2, grid = _cells(masks, grey_HW.shape, config, side_px, rule)
    if not masks and not len(corner_G2) and rule.cells == "bare":
        return _nothing(grey_HW.shape, crops, name)
    textures = _textures(grey_HW, crops, corner_G2, grid, len(masks), embedder, config, k or 2)
    if rule.cells == "pixels":
        embedding_GF, grid = pixel_features(grey_HW)
        founds_G = np.ones(len(embedding_GF), bool)
        textures = replace(textures, embedding_GF=embedding_GF, grid=grid, founds_G=founds_G)
    clusters = rule.cluster(textures, k, config, seed)
    labels_HW = _painted(masks, clusters, textures, side_px, over_grid=rule.cells != "bare")
    return _numbered(labels_HW, clusters, textures, name)


def suitable_rule(grey_HW: NDArray[np.uint8], masks: Sequence[Mask], k: int | None) -> str:
    """Return the merging rule of `auto`: `kmeans` if at least k masks cover at least 3/4 of the image.

    Fewer masks miss materials, so these are found without masks: by `pixels` if the image's correlation length shows
    phases below 60 px, and by `ward` if the phases are larger.
    """
    covered = paint(masks, np.ones(len(masks), np.int64), (grey_HW.shape[0], grey_HW.shape[1])).mean()
    if len(masks) >= (k or 2) and covered >= _COVERED:
        return "kmeans"
    return "pixels" if correlation_side(grey_HW) < _SMALL_PX else "ward"


_COVERED, _SMALL_PX = 0.75, 60


# Find: crops of masks and cells of a grid, with their features


def crop_side(grey_HW: NDArray[np.uint8], config: MergingConfig, pixel_nm: float | None) -> int:
    """Return the side of a crop in pixels: from nm, from crop_px, or smaller for images of small phases."""
    if config.crop_nm and pixel_nm:
        return max(8, round(config.crop_nm / pixel_nm))
    return min(config.crop_px, correlation_side(grey_HW)) if config.crop_fit else config.crop_px


def _cells(
    masks: Sequence[Mask], hw: tuple[int, int], config: MergingConfig, side_px: int, rule: MergingRule
) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Return the corners of the grid's crops, and the grid's rows and columns if it covers the whole image.

    Bare cells are crops that overlap by half; only those are returned whose middle is mostly without masks.
    """
    side, whole = min(side_px, *hw), rule.cells == "grid"
    if whole:
        rows, columns = (_centred(size, config.grid_px, side) for size in hw)
    elif config.fill == "none" or rule.cells == "pixels":
        return np.zeros((0, 2), np.int64), (0, 0)
    else:
        step = max(1, side // 2)
        rows, columns = (np.unique(np.append(np.arange(0, size - side + 1, step), size - side)) for size in hw)
    corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    if whole:
        return corners, (len(rows), len(columns))
    bare_HW, quarter = paint(masks, np.ones(len(masks), np.int64), hw) == 0, side // 4
    middle = [bare_HW[r + quarter : r + side - quarter, c + quarter : c + side - quarter].mean() for r, c in corners]
    return corners[np.array(middle) > 0.5], (0, 0)


def _centred(size: int, step: int, side: int) -> NDArray[np.int64]:
    """Return the starts of crops of `side` pixels at the centres of equal cells of about `step` pixels."""
    cells = max(1, round(size / step))
    centres = (np.arange(cells) + 0.5) * size / cells
    return np.clip(np.rint(centres - side / 2), 0, size - side).astype(np.int64)


def _textures(
    grey_HW: NDArray[np.uint8],
    crops: Crops,
    corner_G2: NDArray[np.int64],
    grid: tuple[int, int],
    masks: int,
    embedder: Embedder,
    config: MergingConfig,
    k: int,
) -> Textures:
    """Return the features of crops and cells, standardised by those that take part in finding the materials."""
    windows = np.lib.stride_tricks.sliding_window_view(grey_HW, crops.pixels_CSS.shape[1:])
    pixels = np.concatenate([crops.pixels_CSS, windows[corner_G2[:, 0], corner_G2[:, 1]]])
    corners = np.concatenate([crops.corner_C2, corner_G2])
    features = embedder.embed(pixels, corners) if len(pixels) else np.zeros((0, 1))
    founds_G = np.full(len(corner_G2), config.fill == "cluster" or not masks or grid != (0, 0))
    founds_C = _trusted(crops, k) if grid == (0, 0) else np.zeros(len(crops.mask_C), bool)
    embedding = features
    if len(pixels):
        embedding = standardised(features, like=features[np.append(founds_C, founds_G)])
        embedding *= embedder.weights(embedding.shape[1])
    embedding_CF, embedding_GF = np.split(embedding, [len(crops.mask_C)])
    return Textures(
        crops=crops,
        masks=masks,
        corner_G2=corner_G2,
        grid=grid,
        hw=(grey_HW.shape[0], grey_HW.shape[1]),
        embedding_CF=embedding_CF,
        embedding_GF=embedding_GF,
        founds_C=founds_C,
        founds_G=founds_G,
    )


def _trusted(crops: Crops, k: int) -> NDArray[np.bool_]:
    """Return which crops find materials: those of wide enough masks, or all if there are at most `k` of these."""
    wide_enough = ~crops.low_support_C
    return wide_enough if wide_enough.sum() > k else np.ones(len(wide_enough), bool)


def standardised(values_CF: NDArray[np.float64], like: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every column minus its mean in `like`, over its deviation there; 0 if the column is constant."""
    deviation = like.std(axis=0)
    varies = deviation > 1e-9
    scaled: NDArray[np.float64] = (values_CF - like.mean(axis=0)) * varies / np.where(varies, deviation, 1)
    return scaled


# Paint: one label per pixel


def paint(masks: Sequence[Mask], label_N: NDArray[np.int64], hw: tuple[int, int]) -> NDArray[np.int64]:
    """Return a label map with the masks painted from large to small, int64 (H, W), 0 where no mask lies."""
    labels_HW = np.zeros(hw, np.int64)
    for place in sorted(range(len(masks)), key=lambda place: (-masks[place].area, place)):
        labels_HW[masks[place].window][masks[place].inside()] = label_N[place]
    return labels_HW


def _painted(
    masks: Sequence[Mask], clusters: Clusters, textures: Textures, side_px: int, *, over_grid: bool
) -> NDArray[np.int64]:
    """Return the label map, clusters from 1: the grid's map, or the masks with bare pixels filled from the cells."""
    if over_grid:
        sizes = zip(textures.hw, textures.grid, strict=True)
        rows, columns = (np.arange(size) * cells // size for size, cells in sizes)
        return clusters.cell_G.reshape(textures.grid)[rows[:, None], columns] + 1
    labels_HW = paint(masks, clusters.mask_N + 1, textures.hw)
    if len(textures.corner_G2):
        _fill(labels_HW, textures.corner_G2, side_px, clusters.cell_G + 1)
    return labels_HW


def _fill(labels_HW: NDArray[np.int64], corners: NDArray[np.int64], side: int, label: NDArray[np.int64]) -> None:
    """Assign to every bare pixel the label of the nearest labelled pixel or cell centre, in place."""
    from scipy import ndimage

    known = labels_HW.copy()
    centre = np.minimum(corners + side // 2, np.array(labels_HW.shape) - 1)
    free = known[centre[:, 0], centre[:, 1]] == 0
    known[centre[free, 0], centre[free, 1]] = label[free]
    at = ndimage.distance_transform_edt(known == 0, return_distances=False, return_indices=True)
    bare = labels_HW == 0
    labels_HW[bare] = known[tuple(at)][bare]


def _numbered(labels_HW: NDArray[np.int64], clusters: Clusters, textures: Textures, rule: str) -> Merging:
    """Return the result with materials numbered by area, the largest first."""
    areas = np.bincount(labels_HW.ravel(), minlength=clusters.count + 1)
    areas[0] = 0
    order = np.zeros(clusters.count + 1, np.int64)
    largest_first = np.argsort(-areas, kind="stable")
    used = largest_first[areas[largest_first] > 0]
    order[used] = np.arange(1, len(used) + 1)
    low_N = np.zeros(textures.masks, bool)
    low_N[textures.crops.mask_C[textures.crops.low_support_C]] = True
    return Merging(
        labels_HW=order[labels_HW].astype(np.uint16),
        material_N=order[clusters.mask_N + 1],
        confidence_N=clusters.confidence_N,
        low_support_N=low_N,
        crops=textures.crops,
        embedding_CF=textures.embedding_CF,
        vote_C=order[clusters.crop_C + 1],
        rule=rule,
    )


def _nothing(hw: tuple[int, ...], crops: Crops, rule: str) -> Merging:
    return Merging(
        labels_HW=np.zeros(hw, np.uint16),
        material_N=np.zeros(0, np.int64),
        confidence_N=np.zeros(0),
        low_support_N=np.zeros(0, bool),
        crops=crops,
        embedding_CF=np.zeros((0, 0)),
        vote_C=np.zeros(0, np.int64),
        rule=rule,
    )
