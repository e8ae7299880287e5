"""The work on a chunk of images: masks, boosting, scores and files; one image's trouble is its own."""

from __future__ import annotations

import os
import time
import webbrowser
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quatrain.data.decode import UnreadableError
from quatrain.errors import UsageError
from quatrain.files import read_json, write_json
from quatrain.micrograph.boost import Result, boost, grey
from quatrain.micrograph.config import BatchConfig
from quatrain.micrograph.evaluate import score
from quatrain.micrograph.inputs import InputImage, LoadedImage, load
from quatrain.micrograph.measure import region_diameters
from quatrain.micrograph.outputs import write_image

Outcome = dict[str, Any]
RESULT = "result.json"
_TROUBLE = (UsageError, UnreadableError, ValueError, OSError, MemoryError, RuntimeError)
"""What may go wrong with one image: its file, its masks, its size (torch tells of full memory by RuntimeError)."""


def chunks(
    folder: str | os.PathLike[str], config: BatchConfig, items: Sequence[InputImage]
) -> Iterator[list[InputImage]]:
    """Yield the images that have no result yet, a task's worth at a time."""
    left = [item for item in items if finished(folder, item) is None]
    for start in range(0, len(left), config.chunk):
        yield left[start : start + config.chunk]


def finished(folder: str | os.PathLike[str], item: InputImage) -> Outcome | None:
    """Return the outcome of an image that an earlier try finished, or None."""
    try:
        outcome = read_json(image_folder(folder, item.name) / RESULT)
    except (OSError, ValueError):
        return None
    return outcome if isinstance(outcome, dict) else None


def image_folder(folder: str | os.PathLike[str], name: str) -> Path:
    """Return where an image's files lie."""
    return Path(folder) / "images" / name


def process(
    folder: str | os.PathLike[str], config: BatchConfig, items: Sequence[InputImage], seed: int
) -> list[Outcome]:
    """Boost a chunk of images, write each one's files as it is done, and return their outcomes."""
    return [finished(folder, item) or _process_one(folder, config, item, seed) for item in items]


def _process_one(folder: str | os.PathLike[str], config: BatchConfig, item: InputImage, seed: int) -> Outcome:
    began, used = time.monotonic(), time.process_time()
    try:
        outcome = _boosted(folder, config, item, seed)
    except _TROUBLE as error:
        return failed(item, str(error) or type(error).__name__, time.monotonic() - began)
    outcome["seconds"] = round(time.monotonic() - began, 3)
    outcome["processor_s"] = round(time.process_time() - used, 3)
    write_json(image_folder(folder, item.name) / RESULT, outcome)
    return outcome


def failed(item: InputImage, reason: str, seconds: float = 0.0) -> Outcome:
    """Return the outcome of an image that could not be boosted."""
    words = " ".join(reason.split())
    return {"name": item.name, "state": "failed", "seconds": round(seconds, 3), "error": words, "path": item.path}


def _boosted(folder: str | os.PathLike[str], config: BatchConfig, item: InputImage, seed: int) -> Outcome:
    from quatrain.micrograph.embedders import embedder
    from quatrain.micrograph.proposals import propose

    picture = load(item, config)
    proposal = propose(picture.image_HWC, config.masks, name=item.name, path=item.path)
    result = boost(
        picture.image_HWC,
        proposal.records,
        materials(config, picture),
        config=config.boosting,
        describe=embedder(config.merging, proposal.features),
        pixel_nm=picture.pixel_size.nm if picture.pixel_size else None,
        seed=seed,
    )
    where = image_folder(folder, item.name)
    write_image(where, item.name, picture, result, config)
    return _outcome(item, config, picture, result)


def materials(config: BatchConfig, picture: LoadedImage) -> Any:
    """Return the number of materials to look for in an image, or "auto"."""
    if config.k != "truth":
        return config.k
    return "auto" if picture.truth_HW is None else max(1, int(picture.truth_HW.max()))


def _outcome(item: InputImage, config: BatchConfig, picture: LoadedImage, result: Result) -> Outcome:
    size = picture.pixel_size
    outcome: Outcome = {
        "name": item.name,
        "state": "done",
        "seconds": 0.0,
        "masks_raw": len(result.raw),
        "masks_kept": len(result.kept),
        "materials": result.materials,
        **dict.fromkeys(("mean_iou_raw", "mean_iou_boosted", "fp_raw", "fp_boosted", "error")),
        "path": item.path,
        "frame": item.frame,
        "pixel_size": size.x_nm if size else None,
        "unit": "nm" if size else None,
        "pixel_size_nm": [size.y_nm, size.x_nm] if size else None,
        "pixel_size_source": size.source if size else picture.no_pixel_size,
        "data_bar_rows": picture.data_bar_rows,
        "warnings": list(picture.warnings),
        "covered": float(np.count_nonzero(result.labels) / result.labels.size),
        "diameters_px": region_diameters(result.labels, config.removal.island_px),
        "pixel_nm": size.nm if size else None,
        "removed": dict(Counter(one.rule for one in result.removed)),
    }
    if picture.truth_HW is not None:
        scores = score(result, grey(picture.image_HWC), picture.truth_HW)
        first, last = scores["ablation"][0], scores["ablation"][-1]
        outcome |= {"mean_iou_raw": first["mean_iou"], "mean_iou_boosted": last["mean_iou"]}
        outcome |= {"fp_raw": first["fp_share"], "fp_boosted": last["fp_share"], "scores": scores}
    return outcome


def show(folder: str | os.PathLike[str], name: str, *, openly: bool) -> Path:
    """Return the path of an image's overlay, opened in the desktop's viewer when asked."""
    path = image_folder(folder, name) / "overlay.png"
    if openly:
        webbrowser.open(path.resolve().as_uri())
    return path


_CONTRACT = (
    *("name", "state", "seconds", "masks_raw", "masks_kept", "materials"),
    *("mean_iou_raw", "mean_iou_boosted", "fp_raw", "fp_boosted", "error"),
)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what summary.json holds of the images: a line each, their means, and counts of done and failed."""
    lines = [{key: outcome.get(key) for key in _CONTRACT} for outcome in outcomes]
    means = {key: _mean([line[key] for line in lines]) for key in _CONTRACT[3:10]}
    return {
        "images": lines,
        **{("mean_" + key).replace("mean_mean", "mean"): value for key, value in means.items()},
        "done": sum(line["state"] == "done" for line in lines),
        "failed": sum(line["state"] == "failed" for line in lines),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
