"""Boosts chunks of images: masks, boosting, baselines, scores and files. A failed image does not stop the others."""

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
from quatrain.micrograph import baselines
from quatrain.micrograph.boost import BoostResult, boost, grey
from quatrain.micrograph.config import BatchConfig
from quatrain.micrograph.evaluate import score
from quatrain.micrograph.inputs import InputImage, LoadedImage, load
from quatrain.micrograph.measure import region_diameters
from quatrain.micrograph.outputs import write_image

Outcome = dict[str, Any]
RESULT = "result.json"
_IMAGE_ERRORS = (UsageError, UnreadableError, ValueError, OSError, MemoryError, RuntimeError)
"""Errors of one image: its file, its masks, its size (torch raises RuntimeError if memory is full)."""


def chunks(
    folder: str | os.PathLike[str], config: BatchConfig, items: Sequence[InputImage]
) -> Iterator[list[InputImage]]:
    """Yield the images without result, in chunks of one task."""
    left = [item for item in items if finished(folder, item) is None]
    for start in range(0, len(left), config.chunk):
        yield left[start : start + config.chunk]


def finished(folder: str | os.PathLike[str], item: InputImage) -> Outcome | None:
    """Return the outcome of an image that is already finished, or None."""
    try:
        outcome = read_json(image_folder(folder, item.name) / RESULT)
    except (OSError, ValueError):
        return None
    return outcome if isinstance(outcome, dict) else None


def image_folder(folder: str | os.PathLike[str], name: str) -> Path:
    """Return the folder of an image's files."""
    return Path(folder) / "images" / name


def process(
    folder: str | os.PathLike[str], config: BatchConfig, items: Sequence[InputImage], seed: int
) -> list[Outcome]:
    """Boost a chunk of images, write the files of each image when it is finished, and return the outcomes."""
    return [finished(folder, item) or _process_one(folder, config, item, seed) for item in items]


def _process_one(folder: str | os.PathLike[str], config: BatchConfig, item: InputImage, seed: int) -> Outcome:
    began, used = time.monotonic(), time.process_time()
    try:
        outcome = _boosted(folder, config, item, seed)
    except _IMAGE_ERRORS as error:
        return failed(item, str(error) or type(error).__name__, time.monotonic() - began)
    outcome["seconds"] = round(time.monotonic() - began, 3)
    outcome["processor_s"] = round(time.process_time() - used, 3)
    if outcome["state"] == "done":
        write_json(image_folder(folder, item.name) / RESULT, outcome)
    return outcome


def failed(item: InputImage, reason: str, seconds: float = 0.0) -> Outcome:
    """Return the outcome of an image that could not be boosted."""
    error = " ".join(reason.split())
    return {"name": item.name, "state": "failed", "seconds": round(seconds, 3), "error": error, "path": item.path}


def _boosted(folder: str | os.PathLike[str], config: BatchConfig, item: InputImage, seed: int) -> Outcome:
    from quatrain.micrograph.embedders import embedder
    from quatrain.micrograph.proposals import propose

    image = load(item, config)
    proposal = propose(image.image_HWC, config.masks, name=item.name, path=item.path)
    result = boost(
        image.image_HWC,
        proposal.records,
        materials(config, image),
        config=config.boosting,
        describe=embedder(config.merging, proposal.features),
        pixel_nm=image.pixel_size.nm if image.pixel_size else None,
        seed=seed,
    )
    write_image(image_folder(folder, item.name), item.name, image, result, config)
    return _outcome(item, config, image, result, seed)


def materials(config: BatchConfig, image: LoadedImage) -> Any:
    """Return the number of materials of an image, or "auto"."""
    if config.k != "truth":
        return config.k
    return "auto" if image.truth_HW is None else max(1, int(image.truth_HW.max()))


def _outcome(item: InputImage, config: BatchConfig, image: LoadedImage, result: BoostResult, seed: int) -> Outcome:
    size = image.pixel_size
    outcome: Outcome = {
        "name": item.name,
        "state": "failed" if result.error else "done",
        "seconds": 0.0,
        "masks_raw": len(result.raw),
        "masks_kept": len(result.kept),
        "materials": result.materials,
        **dict.fromkeys(_SCORES),
        "error": result.error,
        "warnings": [*image.warnings, *result.warnings],
        "crop_px": result.crop_px,
        "merging_rule": result.merging.rule,
        "path": item.path,
        "frame": item.frame,
        "pixel_size": size.x_nm if size else None,
        "unit": "nm" if size else None,
        "pixel_size_nm": [size.y_nm, size.x_nm] if size else None,
        "pixel_size_source": size.source if size else image.no_pixel_size,
        "data_bar_rows": image.data_bar_rows,
        "covered": float(np.count_nonzero(result.labels) / result.labels.size),
        "diameters_px": region_diameters(result.labels, config.removal.island_px),
        "pixel_nm": size.nm if size else None,
        "removed": dict(Counter(one.rule for one in result.removed)),
    }
    if image.truth_HW is not None:
        grey_HW = grey(image.image_HWC)
        scores = score(result, grey_HW, image.truth_HW)
        scores["baselines"] = baselines.mean_ious(grey_HW, result.removal.kept, image.truth_HW, config.merging, seed)
        first, last = scores["ablation"][0], scores["ablation"][-1]
        for key, of in _STEP_KEYS.items():
            outcome |= {f"{key}_raw": first[of], f"{key}_boosted": last[of]}
        outcome |= {"mean_iou_raw_painted": first["painted_iou"], "scores": scores}
    return outcome


def show(folder: str | os.PathLike[str], name: str, *, openly: bool) -> Path:
    """Return the path of an image's overlay, and open it in the desktop's viewer if `openly`."""
    path = image_folder(folder, name) / "overlay.png"
    if openly:
        webbrowser.open(path.resolve().as_uri())
    return path


_COUNTS = ("masks_raw", "masks_kept", "materials")
_STEP_KEYS = {"mean_iou": "mean_iou", "fp": "fp_share", "precision": "precision", "recall": "recall"}
"""Keys of an outcome, each with `_raw` and `_boosted`, and their keys in a step of the ablation."""
_SCORES = (*(f"{key}_{of}" for key in _STEP_KEYS for of in ("raw", "boosted")), "mean_iou_raw_painted")
_LINE = ("name", "state", "seconds", *_COUNTS, *_SCORES, "error", "warnings")


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the images' part of summary.json: a line per image, means, and the counts of done and failed images."""
    lines = [{key: outcome.get(key) for key in _LINE} for outcome in outcomes]
    means = {key: _mean([line[key] for line in lines]) for key in ("seconds", *_COUNTS, *_SCORES)}
    return {
        "images": lines,
        **{("mean_" + key).replace("mean_mean", "mean"): value for key, value in means.items()},
        "done": sum(line["state"] == "done" for line in lines),
        "failed": sum(line["state"] == "failed" for line in lines),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
