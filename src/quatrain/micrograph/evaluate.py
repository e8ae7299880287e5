"""Figures against truth. The definitions are ours and are printed beside the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from quatrain.micrograph.boost import Result
from quatrain.micrograph.masks import Mask
from quatrain.seeding import numpy_rng

# N masks, T truth materials, K materials found, H W pixels
Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]

DEFINITIONS = (
    "Mean IoU: predicted masks are matched one to one with the truth's materials so that the sum of their IoUs is "
    "greatest; the mean is over the truth's materials, an unmatched one counts 0. Raw masks are matched as they are; "
    "best IoU takes for each material its best mask without one-to-one, in the raw masks' favour. False positives: "
    "predicted masks that are unmatched or matched below an IoU of 0.5, as a share of the predicted masks. After "
    "merging, every material is one mask. ARI: adjusted Rand index of the label maps. Boundary F1: share of boundary "
    "pixels within 2 px of the other map's boundary, both ways. Pixels without truth (0) are not scored. Intervals: "
    "95 %, 2,000 bootstrap samples of the images. The paper's own definitions are not known to us."
)
DIFFICULTY = (
    "Difficulty is measured, and is not the paper's split: the contrast-to-noise ratio of two touching materials is "
    "the difference of their mean greys over their root mean square deviation; an image takes its least distinct "
    "pair. Easy: at least 2; hard: below 0.75; medium: between."
)
_EASY, _HARD = 2.0, 0.75
_MATCHED = 0.5


def score(result: Result, grey_HW: NDArray[np.uint8], truth_HW: Labels) -> dict[str, Any]:
    """Return every figure of one image: ablation, ARI, boundary F1, difficulty.

    Shares lie between 0 and 1. `ablation` is a list of steps, each with `step`, `masks`, `mean_iou`, `best_iou`,
    `fp` and `fp_share`: the raw masks, after each removal rule, and after merging.
    """
    materials = int(truth_HW.max(initial=0))
    known: dict[bytes, Floats] = {}
    steps = [("raw", result.raw), *result.removal.after]
    ablation = [_step(name, _ious(masks, truth_HW, materials, known)) for name, masks in steps]
    ablation.append(_step("merging", label_ious(result.labels, truth_HW, materials)))
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
        "fp_share": wrong / len(iou_NT) if len(iou_NT) else 0.0,
    }


def match(iou_NT: Floats) -> tuple[float, int]:
    """Return the mean IoU of the best one-to-one matching over truth materials, and how many masks are wrong."""
    rows, columns = linear_sum_assignment(iou_NT, maximize=True)
    values = iou_NT[rows, columns]
    mean = float(values.sum() / iou_NT.shape[1]) if iou_NT.shape[1] else 0.0
    return mean, len(iou_NT) - int((values >= _MATCHED).sum())


def _ious(masks: Sequence[Mask], truth_HW: Labels, materials: int, known: dict[bytes, Floats]) -> Floats:
    """Return the IoU of every mask with every truth material, (N, T); `known` holds what was computed before."""
    areas = np.bincount(truth_HW.ravel(), minlength=materials + 1)[1:]
    for mask in masks:
        if mask.counts not in known:
            common = np.bincount(truth_HW[mask.window][mask.inside()], minlength=materials + 1)[1:]
            known[mask.counts] = common / np.maximum(1, areas + common.sum() - common)
    return np.array([known[mask.counts] for mask in masks]).reshape(len(masks), materials)


def label_ious(labels_HW: Labels, truth_HW: Labels, materials: int) -> Floats:
    """Return the IoU of every label from 1 with every truth material, (K, T), over the pixels that have truth."""
    table = contingency(labels_HW[truth_HW > 0], truth_HW[truth_HW > 0], int(labels_HW.max(initial=0)), materials)
    common = table[1:, 1:]
    union = table[1:].sum(axis=1)[:, None] + table[:, 1:].sum(axis=0) - common
    ious: Floats = common / np.maximum(1, union)
    return ious


def contingency(one: Labels, other: Labels, ones: int, others: int) -> Floats:
    """Return how often each pair of labels meets, (ones + 1, others + 1)."""
    codes = one.astype(np.int64) * (others + 1) + other
    return np.bincount(codes.ravel(), minlength=(ones + 1) * (others + 1)).reshape(ones + 1, others + 1).astype(float)


def adjusted_rand(one: Labels, other: Labels) -> float:
    """Return the adjusted Rand index of two labellings of the same points: 1 when equal, about 0 by chance."""
    table = contingency(one, other, int(one.max(initial=0)), int(other.max(initial=0)))

    def pairs(counts: Floats) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, first, second = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = first * second / max(1.0, pairs(np.array([table.sum()])))
    most = (first + second) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def boundary_f1(labels_HW: Labels, truth_HW: Labels, within_px: float = 2) -> float:
    """Return the F1 of boundary pixels that lie within some pixels of the other map's boundary; 1 when none has any."""
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
    """Return the least contrast-to-noise of touching materials, raw masks a truth region, and the class."""
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
