"""Output files, written atomically: label TIFF, COCO JSON, CSVs, HDF5 and pictures per image, results.h5 per run."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from quatrain.data.decode import PixelSize
from quatrain.files import plain, replacing, write_json, write_text
from quatrain.hdf5_tables import write_columns
from quatrain.micrograph.boost import BoostResult, grey
from quatrain.micrograph.inputs import LoadedImage
from quatrain.micrograph.masks import Mask
from quatrain.micrograph.measure import mask_rows
from quatrain.report.overlay import overlay

SCHEMA = "quatrain-boost-1"
_SHOWN = 64
"""A picture of overlapping masks shows this many, the largest ones."""


def write_image(folder: Path, name: str, picture: LoadedImage, result: BoostResult, settings: Any) -> None:
    """Write all files of one image into its folder; docs/boost.md describes them."""
    folder.mkdir(parents=True, exist_ok=True)
    grey_HW = grey(picture.image_HWC)
    write_labels(folder / "labels.tif", result.labels, picture.pixel_size)
    write_json(folder / "masks.json", coco(name, result, settings))
    write_table(folder / "regions.csv", mask_rows(result, grey_HW, picture.pixel_size), _REGION_COLUMNS)
    write_table(folder / "removed.csv", [plain(one) for one in result.removed], _REMOVED_COLUMNS)
    write_hdf5(folder / "boost.h5", grey_HW, result, picture.pixel_size)
    write_pictures(folder, picture, result)


def write_labels(path: Path, labels_HW: NDArray[np.uint16], size: PixelSize | None) -> None:
    """Write a label map as a TIFF that ImageJ reads, uint16, with height and width of its pixels."""
    options: dict[str, Any] = {"imagej": True, "metadata": {}}
    if size is not None:
        unit, nm = _unit_for(size)
        options |= {"resolution": (nm / size.x_nm, nm / size.y_nm), "metadata": {"unit": unit}}
    with replacing(path) as temporary:
        tifffile.imwrite(temporary, labels_HW.astype(np.uint16), **options)


def _unit_for(size: PixelSize) -> tuple[str, float]:
    """Return a unit and its nm in which the size and its inverse fit a TIFF rational: two numbers of 32 bits."""
    units = (("pm", 1e-3), ("nm", 1.0), ("um", 1e3), ("mm", 1e6), ("m", 1e9))
    return min(units, key=lambda unit: abs(math.log10(size.nm / unit[1])))


def coco(name: str, result: BoostResult, settings: Any) -> dict[str, Any]:
    """Return the kept masks as a COCO object; the category of a mask is its material."""
    height, width = result.labels.shape
    merging = result.merging
    return {
        "info": {"description": "materials found by semantic boosting", "settings": plain(settings)},
        "images": [{"id": 1, "file_name": name, "height": height, "width": width}],
        "categories": [{"id": material, "name": f"material {material}"} for material in range(1, result.materials + 1)],
        "annotations": [
            {
                "id": place + 1,
                "image_id": 1,
                "category_id": int(merging.material_N[place]),
                "segmentation": {"size": [height, width], "counts": mask.counts.decode()},
                "area": mask.area,
                "bbox": [mask.box[0], mask.box[1], mask.box[2] - mask.box[0], mask.box[3] - mask.box[1]],
                "iscrowd": 0,
                "predicted_iou": mask.predicted_iou,
                "stability_score": mask.stability,
                "vote_share": float(merging.confidence_N[place]),
                "raw_index": mask.index,
            }
            for place, mask in enumerate(result.kept)
        ],
    }


_REMOVED_COLUMNS = ("index", "rule", "value", "threshold", "partner")
_REGION_COLUMNS = (
    *("mask", "material", "vote_share", "low_support", "area_px", "area_nm2"),
    *("equivalent_diameter_px", "equivalent_diameter_nm", "perimeter_px", "perimeter_nm"),
    *("solidity", "eccentricity", "orientation_rad", "left_px", "top_px", "right_px", "bottom_px"),
    *("mean_grey", "std_grey", "predicted_iou", "stability_score"),
)


def write_table(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as CSV; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_hdf5(path: Path, grey_HW: NDArray[np.uint8], result: BoostResult, size: PixelSize | None) -> None:
    """Write image, raw and kept masks as run lengths, crops, embeddings and labels; see SCHEMA in docs/boost.md."""
    merging, crops = result.merging, result.merging.crops
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"schema": SCHEMA, "embedder": result.embedder})
        if size is not None:
            sides = {"pixel_size_nm": [size.y_nm, size.x_nm], "pixel_size": size.x_nm, "unit": "nm"}
            file.attrs.update({**sides, "pixel_size_source": size.source})
        packed = {"compression": "gzip", "compression_opts": 1, "chunks": True}
        file.create_dataset("image", data=grey_HW, **packed)
        file.create_dataset("labels", data=result.labels, **packed)
        _write_masks(file.create_group("raw"), result.raw)
        kept = file.create_group("kept")
        _write_masks(kept, result.kept)
        kept["material"], kept["vote_share"] = merging.material_N, merging.confidence_N
        kept["low_support"] = merging.low_support_N
        group = file.create_group("crops")
        group["mask"], group["corner"], group["low_support"] = crops.mask_C, crops.corner_C2, crops.low_support_C
        group["embedding"], group["vote"] = merging.embedding_CF.astype(np.float32), merging.vote_C


def _write_masks(group: Any, masks: Sequence[Mask]) -> None:
    group["index"] = np.array([mask.index for mask in masks], np.int64)
    group["area"] = np.array([mask.area for mask in masks], np.int64)
    group["box"] = np.array([mask.box for mask in masks], np.int64).reshape(-1, 4)
    group["predicted_iou"] = np.array([mask.predicted_iou for mask in masks], float)
    group["stability_score"] = np.array([mask.stability for mask in masks], float)
    runs = group.create_dataset("counts", (len(masks),), h5py.string_dtype("ascii"))
    for place, mask in enumerate(masks):
        runs[place] = mask.counts.decode()


# Pictures


def write_pictures(folder: Path, picture: LoadedImage, result: BoostResult) -> None:
    """Write overlay.png, and raw.png, kept.png, image.png and truth.png for the gallery."""
    image, hw = picture.image_HWC, result.labels.shape
    pictures = {
        "image": image,
        "raw": overlay(image, _drawn(result.raw, hw)),
        "kept": overlay(image, _drawn(result.kept, hw)),
        "overlay": overlay(image, layers(result.labels)),
    }
    if picture.truth_HW is not None:
        pictures["truth"] = overlay(image, layers(picture.truth_HW))
    for name, pixels in pictures.items():
        with replacing(folder / f"{name}.png") as temporary:
            Image.fromarray(pixels).save(temporary, "PNG", compress_level=1)


def _drawn(masks: Sequence[Mask], hw: tuple[int, ...]) -> NDArray[np.bool_]:
    largest = sorted(masks, key=lambda mask: -mask.area)[:_SHOWN]
    return np.array([mask.pixels() for mask in largest], bool).reshape(-1, *hw)


def layers(labels_HW: NDArray[Any]) -> NDArray[np.bool_]:
    """Return every label above 0 as a mask, bool (K, H, W)."""
    masks_KHW: NDArray[np.bool_] = labels_HW == np.arange(1, int(labels_HW.max(initial=0)) + 1)[:, None, None]
    return masks_KHW


# results.h5 of a run

Outcome = dict[str, Any]
RUN_SCHEMA = "quatrain-boost-run-1"
_FLAGS = {"": None, "True": True, "False": False}


def write_results(run_dir: str | os.PathLike[str], outcomes: Sequence[Outcome]) -> Path:
    """Write results.h5 of a run atomically from the outcomes and files of its images; return its path."""
    folder = Path(run_dir)
    done = [outcome["name"] for outcome in outcomes if outcome["state"] == "done"]
    tables = {
        "images": [_line(outcome) for outcome in outcomes],
        "ablation": [row for outcome in outcomes for row in _steps(outcome)],
        "regions": [row for name in done for row in _rows(folder, name, "regions.csv")],
        "removed": [row for name in done for row in _rows(folder, name, "removed.csv")],
    }
    write_columns(
        folder / "results.h5",
        tables,
        attributes={"schema": RUN_SCHEMA},
        links={f"boost/{name}": f"images/{name}/boost.h5" for name in done},
    )
    return folder / "results.h5"


def _line(outcome: Outcome) -> Outcome:
    """Return the scalar values of an outcome."""
    plain = {key: value for key, value in outcome.items() if not isinstance(value, dict | list)}
    scores = outcome.get("scores") or {}
    return {**plain, **{key: scores.get(key) for key in ("ari", "boundary_f1", "contrast_to_noise", "difficulty")}}


def _steps(outcome: Outcome) -> Iterator[Outcome]:
    for place, step in enumerate((outcome.get("scores") or {}).get("ablation", ())):
        yield {"image": outcome["name"], "place": place, **step}


def _rows(folder: Path, name: str, file: str) -> Iterator[Outcome]:
    with (folder / "images" / name / file).open(encoding="utf8", newline="") as text:
        for row in csv.DictReader(text):
            yield {"image": name, **{key: _value(cell) for key, cell in row.items()}}


def _value(cell: str) -> Any:
    if cell in _FLAGS:
        return _FLAGS[cell]
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
