"""Scores against truth. The definitions are ours and are printed with the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from quatrain.micrograph.boost import BoostResult
from quatrain.micrograph.masks import Mask
from quatrain.micrograph.merging import paint
from quatrain.seeding import numpy_rng

# N masks, T truth materials, K materials found, H W pixels
Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]

DEFINITIONS = (
    "Mean IoU: predicted masks are matched one to one with the materials of the truth so that the sum of IoUs is "
    "maximal; the mean is over the materials of the truth, and an unmatched material counts 0. Painted IoU: the "
    "same for the masks painted from large to small as one label map, one label per mask, so that two near-equal "
    "masks cannot match two materials. Best IoU: the best mask of each material, without one-to-one matching. "
    "False positives: predicted masks that are unmatched or matched below an IoU of 0.5, as a share of the "
    "predicted masks; undefined without masks. Precision and recall: predicted regions are matched one to one "
    "with the connected regions of the truth at an IoU of at least 0.5. Predicted regions are the masks "
    "themselves, and after merging the connected regions of the label map; regions below 64 px are left out of "
    "both. ARI: adjusted Rand index of the label maps. Boundary F1: share of boundary pixels within 2 px of the "
    "other map's boundary, both ways. Pixels without truth (0) are not scored. Intervals: 95 %, 2,000 bootstrap "
    "samples of the images. The paper's own definitions are not known to us."
)
DIFFICULTY = (
    "Difficulty is measured; it is not the paper's split. The contrast-to-noise ratio of two touching materials is "
    "the difference of their mean greys over their root mean square deviation. The pair with the lowest ratio counts. "
    "Easy: at least 2; hard: below 0.75; medium: between."
)
_EASY, _HARD = 2.0, 0.75
_MATCHED = 0.5


def score(result: BoostResult, grey_HW: NDArray[np.uint8], truth_HW: Labels) -> dict[str, Any]:
    """Return all figures of one image: ablation, ARI, boundary F1, difficulty.

    Shares are between 0 and 1. `ablation` is a list of steps: the raw masks, each removal rule, and merging. A step has
    `step`, `masks`, `mean_iou`, `painted_iou`, `best_iou`, `fp`, `fp_share`, `precision` and `recall`. `fp_share` and
    `precision` are None without masks.
    """
    materials = int(truth_HW.max(initial=0))
    truths = regions(truth_HW)
    known: dict[bytes, tuple[Floats, dict[int, float]]] = {}
    ablation = []
    for name, masks in [("raw", result.raw), *result.removal.after]:
        _measure(masks, truth_HW, truths, materials, known)
        step = _step(name, np.array([known[mask.counts][0] for mask in masks]).reshape(len(masks), materials))
        painted_HW = paint(masks, np.arange(1, len(masks) + 1), truth_HW.shape)
        step["painted_iou"] = match(label_ious(painted_HW, truth_HW, materials))[0]
        ablation.append(step | precision_recall([known[mask.counts][1] for mask in masks], truths.count))
    last = _step("merging", label_ious(result.labels, truth_HW, materials))
    found = regions(np.where(truth_HW > 0, result.labels, 0))
    ablation.append(last | {"painted_iou": last["mean_iou"]} | precision_recall(_overlaps(found, truths), truths.count))
    scored = truth_HW > 0
    return {
        "ablation": ablation,
        "ari": adjusted_rand(result.labels[scored], truth_HW[scored]),
        "boundary_f1": boundary_f1(result.labels, truth_HW),
        "truth_materials": materials,
        **difficulty(grey_HW, truth_HW, len(result.raw)),
    }


def _step(name: str, iou_NT: Floats) -> dict[str, Any]:
    matched, wrong = match(iou_NT)
    return {
        "step": name,
        "masks": len(iou_NT),
        "mean_iou": matched,
        "best_iou": float(iou_NT.max(axis=0, initial=0).mean()) if iou_NT.shape[1] else 0.0,
        "fp": wrong,
        "fp_share": wrong / len(iou_NT) if len(iou_NT) else None,
    }


def _measure(
    masks: Sequence[Mask],
    truth_HW: Labels,
    truths: Regions,
    materials: int,
    known: dict[bytes, tuple[Floats, dict[int, float]]],
) -> None:
    """Add to `known` each mask's IoU with every material and with the truth's regions that it overlaps."""
    areas = np.bincount(truth_HW.ravel(), minlength=materials + 1)[1:]
    for mask in masks:
        if mask.counts in known:
            continue
        inside = mask.inside()
        under = truth_HW[mask.window][inside]
        common = np.bincount(under, minlength=materials + 1)[1:]
        by_material = common / np.maximum(1, areas + common.sum() - common)
        shared = np.bincount(truths.region_HW[mask.window][inside], minlength=truths.count + 1)
        own = int((under > 0).sum())
        ious = {int(r): shared[r] / (truths.area[r] + own - shared[r]) for r in np.flatnonzero(shared) if r}
        known[mask.counts] = by_material, ious


@dataclass(frozen=True, kw_only=True, slots=True)
class Regions:
    """Connected regions of a label map."""

    region_HW: NDArray[np.int64]
    """The region of every pixel, from 1; 0 is background or a region below 64 px."""
    area: NDArray[np.int64]
    """Pixels of each region; entry 0 is not a region."""

    @property
    def count(self) -> int:
        """The number of regions."""
        return len(self.area) - 1


def regions(labels_HW: Labels, least_px: int = 64) -> Regions:
    """Return the 4-connected regions of equal label of at least `least_px` pixels; label 0 is background."""
    region_HW, count = np.zeros(labels_HW.shape, np.int64), 0
    for label in range(1, int(labels_HW.max(initial=0)) + 1):
        parts, found = ndimage.label(labels_HW == label)
        region_HW += np.where(parts > 0, parts + count, 0)
        count += found
    area = np.bincount(region_HW.ravel(), minlength=count + 1)
    kept = area >= least_px
    kept[0] = False
    number = np.where(kept, np.cumsum(kept), 0)
    return Regions(region_HW=number[region_HW], area=np.concatenate([[0], area[kept]]))


def _overlaps(found: Regions, truths: Regions) -> list[dict[int, float]]:
    """Return for each found region its IoU with the truth's regions that it overlaps."""
    codes = found.region_HW * (truths.count + 1) + truths.region_HW
    pairs, shared = np.unique(codes, return_counts=True)
    ious: list[dict[int, float]] = [{} for _ in range(found.count)]
    for pair, pixels in zip(pairs.tolist(), shared.tolist(), strict=True):
        one, other = divmod(pair, truths.count + 1)
        if one and other:
            ious[one - 1][other] = pixels / (found.area[one] + truths.area[other] - pixels)
    return ious


def precision_recall(ious: Sequence[dict[int, float]], truths: int) -> dict[str, float | None]:
    """Return the shares of predicted and of true regions that match one to one with an IoU of at least 0.5.

    `ious` has one entry per predicted region: its IoU by truth region (1 to `truths`). A share of nothing is None.
    """
    pairs = [(row, other - 1, iou) for row, one in enumerate(ious) for other, iou in one.items() if iou >= _MATCHED]
    matched = 0
    if pairs:
        rows, columns, values = (np.array(part) for part in zip(*pairs, strict=True))
        graph = csr_array((values, (rows, columns)), shape=(len(ious), truths))
        matched = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    return {"precision": matched / len(ious) if ious else None, "recall": matched / truths if truths else None}


def match(iou_NT: Floats) -> tuple[float, int]:
    """Return the mean IoU of the best one-to-one matching over the truth's materials, and the false positives."""
    rows, columns = linear_sum_assignment(iou_NT, maximize=True)
    values = iou_NT[rows, columns]
    mean = float(values.sum() / iou_NT.shape[1]) if iou_NT.shape[1] else 0.0
    return mean, len(iou_NT) - int((values >= _MATCHED).sum())


def label_ious(labels_HW: Labels, truth_HW: Labels, materials: int) -> Floats:
    """Return the IoU of every label from 1 with every truth material, (K, T), over the pixels with truth."""
    table = contingency(labels_HW[truth_HW > 0], truth_HW[truth_HW > 0], int(labels_HW.max(initial=0)), materials)
    common = table[1:, 1:]
    union = table[1:].sum(axis=1)[:, None] + table[:, 1:].sum(axis=0) - common
    ious: Floats = common / np.maximum(1, union)
    return ious


def contingency(one: Labels, other: Labels, ones: int, others: int) -> Floats:
    """Return the counts of all pairs of labels, (ones + 1, others + 1)."""
    codes = one.astype(np.int64) * (others + 1) + other
    return np.bincount(codes.ravel(), minlength=(ones + 1) * (others + 1)).reshape(ones + 1, others + 1).astype(float)


def adjusted_rand(one: Labels, other: Labels) -> float:
    """Return scikit-learn's adjusted Rand index of two labellings: 1 if equal, about 0 by chance."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(one, other))


def boundary_f1(labels_HW: Labels, truth_HW: Labels, within_px: float = 2) -> float:
    """Return the F1 of boundary pixels within `within_px` of the other map's boundary; 1 if neither has a boundary."""
    edges, true_edges = _edges(np.where(truth_HW > 0, labels_HW, 0)), _edges(truth_HW)
    if not edges.any() or not true_edges.any():
        return float(edges.any() == true_edges.any())
    precision = float((ndimage.distance_transform_edt(~true_edges)[edges] <= within_px).mean())
    recall = float((ndimage.distance_transform_edt(~edges)[true_edges] <= within_px).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _edges(labels_HW: Labels) -> NDArray[np.bool_]:
    edges = np.zeros(labels_HW.shape, bool)
    edges[:-1] |= labels_HW[:-1] != labels_HW[1:]
    edges[:, :-1] |= labels_HW[:, :-1] != labels_HW[:, 1:]
    return edges


def difficulty(grey_HW: NDArray[np.uint8], truth_HW: Labels, raw_masks: int) -> dict[str, Any]:
    """Return the least contrast-to-noise of touching materials, raw masks per truth region, and the class."""
    contrasts = [_contrast(grey_HW[truth_HW == one], grey_HW[truth_HW == other]) for one, other in _touching(truth_HW)]
    least = min(contrasts, default=float("inf"))
    regions = sum(int(ndimage.label(truth_HW == label)[1]) for label in range(1, int(truth_HW.max(initial=0)) + 1))
    kind = "easy" if least >= _EASY else "hard" if least < _HARD else "medium"
    return {
        "contrast_to_noise": least if contrasts else None,
        "masks_per_region": raw_masks / max(1, regions),
        "difficulty": kind,
    }


def _touching(truth_HW: Labels) -> list[tuple[int, int]]:
    base = int(truth_HW.max(initial=0)) + 1
    sides = [(truth_HW[:-1], truth_HW[1:]), (truth_HW[:, :-1], truth_HW[:, 1:])]
    codes = np.unique(np.concatenate([(np.minimum(a, b) * base + np.maximum(a, b)).ravel() for a, b in sides]))
    return [(int(c // base), int(c % base)) for c in codes if 0 < c // base < c % base]


def _contrast(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    noise = np.sqrt((one.var() + other.var()) / 2)
    return float(abs(one.mean() - other.mean()) / max(1e-6, noise))


def interval(values: Sequence[float], seed: int, samples: int = 2000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean over images."""
    array = np.asarray(values, float)
    drawn = numpy_rng(seed, "bootstrap").integers(0, len(array), (samples, len(array)))
    low, high = np.percentile(array[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
