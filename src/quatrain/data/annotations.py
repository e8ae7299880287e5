"""Masks from annotation JSON of COCO and SA-1B; a damaged annotation is left out alone, with its reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from quatrain.data.rle import Rle, counts_of_text
from quatrain.data.sample import Skipped, largest

# N objects, H W pixels

Annotation = dict[str, Any]
"""One object as the JSON holds it."""

_FARTHEST = 16
"""Image sizes that a polygon may reach outside of its image; pycocotools walks along every edge."""


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; raise ValueError with one reason that does not name the file."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(str(error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from error


def annotations_of(content: Any) -> list[Any]:
    """Return the annotations of one image: a bare list, or the list `annotations` of an object."""
    found = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(found, list):
        raise ValueError("it has no list 'annotations' of masks")
    return found


def masks(
    annotations: Sequence[Any], height: int, width: int, name: str
) -> tuple[NDArray[np.bool_], tuple[Skipped, ...]]:
    """Return the masks of the largest objects, bool (N, H, W), largest first, and the annotations left out.

    `name` is that of the image. Raise ValueError with the first reason when no annotation of several can be used.
    """
    texts, skipped = texts_of(annotations, height, width, name)
    if annotations and not texts:
        raise ValueError(f"none of its {len(annotations)} annotations can be used: {first_reason(skipped, name)}")
    rles = [{"size": (height, width), "counts": text} for text in texts]
    chosen = largest([int(coco_mask.area(rle)) for rle in rles], height * width)
    masks_NHW = np.zeros((len(chosen), height, width), bool)
    for mask_HW, index in zip(masks_NHW, chosen, strict=True):
        mask_HW[:] = _pixels(rles[index])
    return masks_NHW, skipped


def _pixels(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the mask of compressed run lengths, bool (H, W); pycocotools' decoder warns under numpy 2."""
    height, width = rle["size"]
    return Rle.from_counts(counts_of_text(rle["counts"]), height).mask(height, width)


def first_reason(skipped: Sequence[Skipped], name: str) -> str:
    """Return the first reason of an image's annotations, without the name of the image."""
    return f"{skipped[0].name.removeprefix(f'{name}, ')}: {skipped[0].reason}"


def texts_of(annotations: Sequence[Any], height: int, width: int, name: str) -> tuple[list[bytes], tuple[Skipped, ...]]:
    """Return COCO's compressed text of each annotation that can be used, and the others with their reasons."""
    texts, skipped = [], []
    for index, annotation in enumerate(annotations):
        try:
            text = text_of(annotation, height, width)
            if not coco_mask.area({"size": (height, width), "counts": text}):
                raise ValueError(f"its outline covers no pixel of the image of {width} x {height} pixels")
            texts.append(text)
        except ValueError as error:
            skipped.append(Skipped(name=f"{name}, {label_of(annotation, index)}", reason=str(error)))
    return texts, tuple(skipped)


def label_of(annotation: Any, index: int) -> str:
    """Return "annotation" and its id, or "annotation entry" and its place when it has no id."""
    number = annotation.get("id") if isinstance(annotation, Mapping) else None
    return f"annotation entry {index}" if number is None else f"annotation {number}"


def text_of(annotation: Any, height: int, width: int) -> bytes:
    """Return COCO's compressed text of an annotation's polygons or run lengths; raise ValueError with one reason."""
    check_outline(annotation)
    segmentation = annotation["segmentation"]
    try:
        if isinstance(segmentation, Mapping):
            return _checked_text(segmentation, height, width)
        return _text_of_polygons(segmentation, annotation.get("area"), height, width)
    except (LookupError, TypeError, OverflowError, AttributeError) as error:
        raise ValueError("its segmentation is neither polygons nor run lengths") from error


def check_outline(annotation: Any) -> None:
    """Raise ValueError when an annotation has no outline; takes no size of an image and reads no coordinate."""
    if not isinstance(annotation, Mapping):
        raise ValueError(f"it is a {type(annotation).__name__}, not an object of JSON")
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, Mapping):
        if "size" not in segmentation or "counts" not in segmentation:
            raise ValueError("its run lengths need 'size' and 'counts'")
        return
    if segmentation is None or (isinstance(segmentation, list) and not segmentation):
        raise ValueError("it has a box but no outline" if annotation.get("bbox") else "it has no outline")
    if not isinstance(segmentation, list):
        raise ValueError("its segmentation is neither polygons nor run lengths")
    if not any(isinstance(ring, list) and len(ring) >= 6 for ring in _rings(segmentation)):
        raise ValueError("no polygon of its outline has three points, x and y in turn")


def _rings(segmentation: list[Any]) -> list[Any]:
    """Return the polygons of a segmentation; one that is not nested in a list is a single polygon."""
    return segmentation if isinstance(segmentation[0], list) else [segmentation]


def _checked_text(segmentation: Mapping[str, Any], height: int, width: int) -> bytes:
    rows, columns = segmentation["size"]
    if (rows, columns) != (height, width):
        raise ValueError(f"its run lengths are for {columns} x {rows} pixels, the image has {width} x {height}")
    given = segmentation["counts"]
    text = given.encode() if isinstance(given, str) else given
    counts = counts_of_text(text) if isinstance(text, bytes) else np.asarray(text, np.float64)
    pixels = height * width
    whole = np.array_equal(counts, np.rint(counts))
    if counts.ndim != 1 or not whole or counts.min(initial=0) < 0 or counts.max(initial=0) > pixels:
        raise ValueError("its run lengths are damaged")
    if counts.sum() != pixels:
        raise ValueError(f"its run lengths add up to {int(counts.sum())} pixels, the image has {pixels}")
    return Rle.from_counts(counts.astype(np.int64), height).compressed(height, width)


def _text_of_polygons(segmentation: list[Any], area: Any, height: int, width: int) -> bytes:
    """Return the union of the polygons; a ring inside another is a hole only if the annotation's area says so."""
    rings = [ring for ring in map(_ring, _rings(segmentation)) if len(ring) >= 6]
    for ring in rings:
        _check_reach(ring, height, width)
    rles = coco_mask.frPyObjects([ring.tolist() for ring in rings], height, width)
    union = coco_mask.merge(rles)
    text: bytes = union["counts"]
    pixels = int(coco_mask.area(union))
    if int(coco_mask.area(rles).sum()) == pixels or not isinstance(area, int | float):
        return text
    odd_HW = np.logical_xor.reduce([_pixels(rle) for rle in rles])  # even-odd rule
    hole_px = pixels - int(odd_HW.sum())
    if abs(area - odd_HW.sum()) < hole_px / 2:
        return Rle.from_mask(odd_HW.T).compressed(height, width)
    return text


def _ring(polygon: Any) -> NDArray[np.float64]:
    """Return a polygon's x and y in turn; points and lines, which cover nothing, are returned as they are."""
    xy = np.asarray(polygon, np.float64)
    if xy.ndim != 1 or len(xy) % 2:
        raise ValueError("a polygon needs x and y in turn")
    if not np.isfinite(xy).all():
        raise ValueError("a polygon has a coordinate that is not finite")
    return xy


def _check_reach(ring: NDArray[np.float64], height: int, width: int) -> None:
    for values, size in ((ring[::2], width), (ring[1::2], height)):
        far = values[np.abs(values).argmax()]
        if abs(far) > _FARTHEST * size:
            raise ValueError(f"a polygon reaches to {far:g}, the image has {width} x {height} pixels")


def json_hw(entry: Mapping[str, Any] | None) -> tuple[int, int] | None:
    """Return height and width that a JSON entry of an image gives; None when they are missing or not above zero."""
    if not isinstance(entry, Mapping):
        return None
    sides = []
    for key in ("height", "width"):
        try:
            side = float(entry[key])
        except (LookupError, TypeError, ValueError):
            return None
        if not math.isfinite(side) or side <= 0:
            return None
        sides.append(round(side))
    return sides[0], sides[1]


def check_size(given_hw: tuple[int, int] | None, image_hw: tuple[int, ...]) -> None:
    """Raise ValueError when the size that the JSON gives is not the size of the image.

    Outlines are never scaled: an image that was resized and one that was cropped look alike.
    """
    if given_hw is not None and given_hw != tuple(image_hw):
        given, found = (f"{hw[1]} x {hw[0]}" for hw in (given_hw, image_hw))
        raise ValueError(f"the JSON says {given} pixels, the image has {found}")
