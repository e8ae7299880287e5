"""Masks as COCO and SA-1B write them: polygons, or run lengths down the columns, plain or as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from quatrain.data.sample import largest

Annotation = dict[str, Any]
"""One object as the JSON holds it."""

Runs = NDArray[np.int64]
"""Pixels outside, inside, outside ... in turn, column after column; they add up to the image."""

_CHARACTERS = 12
"""The most characters of one number: 60 bits."""


def read_annotations(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; raise ValueError with one reason, not naming the file."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(str(error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not annotations")
    return content


def masks(annotations: Sequence[Annotation], height: int, width: int) -> NDArray[np.bool_]:
    """Return the masks of the largest objects, bool (N, H, W), largest first.

    Raise ValueError, with the annotation's id, for a segmentation that is damaged or belongs to another image size.
    """
    runs = [runs_of(annotation, height, width) for annotation in annotations]
    chosen = largest([int(one[1::2].sum()) for one in runs], height * width)
    masks_NHW = np.zeros((len(chosen), height, width), bool)
    for mask_HW, index in zip(masks_NHW, chosen, strict=True):
        inside = np.arange(len(runs[index])) % 2 == 1
        mask_HW[:] = np.repeat(inside, runs[index]).reshape(width, height).T
    return masks_NHW


def runs_of(annotation: Annotation, height: int, width: int) -> Runs:
    """Return the run lengths of an annotation's polygons or runs; ValueError, with its id, when they are damaged."""
    segmentation = annotation.get("segmentation")
    try:
        if isinstance(segmentation, dict):
            return _checked_runs(segmentation, height, width)
        return run_lengths(_polygons_as_text(segmentation, height, width))
    except (LookupError, TypeError, OverflowError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is neither polygons nor run lengths"
        raise ValueError(f"the segmentation of annotation {annotation.get('id')} is damaged: {reason}") from error


def _checked_runs(segmentation: dict[str, Any], height: int, width: int) -> Runs:
    rows, columns = segmentation["size"]
    if (rows, columns) != (height, width):
        raise ValueError(f"it is for {columns} x {rows} pixels, the image has {width} x {height}")
    counts = segmentation["counts"]
    text = counts.encode() if isinstance(counts, str) else counts
    runs = run_lengths(text) if isinstance(text, bytes) else np.asarray(text, np.int64)
    if (
        runs.ndim != 1
        or runs.min(initial=0) < 0
        or runs.max(initial=0) > height * width
        or runs.sum() != height * width
    ):
        raise ValueError("its runs do not add up to the image")
    return runs


def run_lengths(text: bytes) -> Runs:
    """Return the run lengths in COCO's text; raise ValueError when it is none.

    A character carries five bits, the lowest first, and a sixth that says whether the number goes on; from the
    fourth number on it is the difference to the last but one.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(ends) or codes.min() < 0 or codes.max() > 63 or ends[-1] != len(codes) - 1:
        raise ValueError("its text is no run-length code")
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _CHARACTERS:
        raise ValueError("its text holds a number that is too long")
    starts = ends - lengths + 1
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 31) << shifts, starts)
    numbers -= (codes[ends] & 16) >> 4 << 5 * lengths  # the last character's fifth bit is the sign
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _polygons_as_text(polygons: Any, height: int, width: int) -> bytes:
    inside = []
    for polygon in polygons:
        xy = np.asarray(polygon, np.float64)
        if xy.ndim != 1 or len(xy) < 6 or len(xy) % 2 or not np.isfinite(xy).all():
            raise ValueError("a polygon needs three points or more, x and y in turn")
        inside.append(np.clip(xy.reshape(-1, 2), 0, (width, height)).ravel().tolist())
    if not inside:
        raise ValueError("it has no polygon")
    merged: dict[str, bytes] = coco_mask.merge(coco_mask.frPyObjects(inside, height, width))
    return merged["counts"]
