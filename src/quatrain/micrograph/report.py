"""report.html of a boost run, from the files of its folder: gallery, ablation, baselines, sizes, images, settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from quatrain.micrograph.baselines import BASELINES
from quatrain.micrograph.config import MasksConfig, MergingConfig, RemovalConfig
from quatrain.micrograph.evaluate import DEFINITIONS, DIFFICULTY, interval
from quatrain.micrograph.stages import RESULT, image_folder
from quatrain.report.charts import Distribution, histogram
from quatrain.report.folder import Missing, RunFolder, section, write_report_of
from quatrain.report.overlay import data_uri
from quatrain.report.page import Cell, Chart, DataTable, Gallery, GalleryImage, KeyValues, Page, Section, TableRow, Tile
from quatrain.report.text import UNKNOWN, count, figure, percent

_MOST_ROWS = 12
_NAMES = {
    "raw": "raw masks",
    "islands": "islands and holes in masks",
    "duplicates": "duplicates",
    "whole-image": "whole image",
    "compound-parents": "compound parents",
    "tiny-children": "tiny children",
    "island-masks": "island masks",
    "merging": "merging by texture",
}


def write_report(run_dir: str | os.PathLike[str]) -> Path:
    """Write report.html into a run folder atomically and return its path; sections without data are left out."""
    return write_report_of(run_dir, _page)


def _page(folder: RunFolder) -> Page:
    summary = folder.mapping("summary.json")
    parts = (
        ("Images and label maps", _gallery),
        ("Effect of each step", _ablation),
        ("Comparison with baselines", _baselines),
        ("Results by difficulty", _difficulty),
        ("Sizes of regions", _sizes),
        ("All images", _images),
        ("Notes", _notes),
        ("Settings", _thresholds),
        ("Command and environment", _made),
    )
    return Page(
        title=f"quatrain boost: {folder.path.resolve().name}",
        kicker=_kicker(folder),
        headline=_headline(summary),
        tagline=_tagline(summary),
        tiles=_tiles(summary),
        command=f"quatrain boost {folder.command}",
        sections=tuple(section(title, make, folder) for title, make in parts),
        footer="Written by quatrain: semantic boosting of SAM's masks after SAM-I-Am (arXiv 2404.06638).",
    )


def _configuration(folder: RunFolder) -> dict[str, Any]:
    configuration = folder.mapping("run.json").get("configuration")
    return configuration if isinstance(configuration, dict) else {}


def _outcomes(folder: RunFolder) -> list[dict[str, Any]]:
    lines = folder.mapping("summary.json").get("images") or []
    found = [folder.mapping(str(image_folder("", line["name"]) / RESULT)) for line in lines if line["state"] == "done"]
    outcomes = [outcome for outcome in found if outcome]
    if not outcomes:
        raise Missing("no image is done")
    return outcomes


def _kicker(folder: RunFolder) -> str:
    configuration = _configuration(folder)
    masks = configuration.get("masks") or {}
    proposer = {"sam": f"SAM {masks.get('model')}", "regions": "regions without weights (not SAM)"}
    described = (configuration.get("merging") or {}).get("embedder", "")
    return " · ".join(["boost", proposer.get(masks.get("source", ""), "masks from files"), f"{described} textures"])


def _headline(summary: dict[str, Any]) -> str:
    done, raw, materials = (summary.get(key, 0) for key in ("done", "mean_masks_raw", "mean_materials"))
    if not done:
        return "No image has been boosted"
    return f"{_few(raw)} overlapping masks per image became {_few(materials)} materials"


def _few(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _tagline(summary: dict[str, Any]) -> str:
    done, failed = summary.get("done", 0), summary.get("failed", 0)
    text = f"{count(done)} image{'s' * (done != 1)} done"
    text += f", {count(failed)} failed." if failed else "."
    raw, boosted = summary.get("mean_iou_raw"), summary.get("mean_iou_boosted")
    if raw is not None and boosted is not None:
        text += f" Against truth, mean IoU changed from {percent(raw)} % to {percent(boosted)} %."
    return text


def _tiles(summary: dict[str, Any]) -> tuple[Tile, ...]:
    tiles = [Tile(name="images done", value=count(summary.get("done")))]
    if summary.get("mean_iou_boosted") is not None:
        names = {"mean_iou": "mean IoU", "mean_precision": "region precision", "mean_recall": "region recall"}
        tiles += [
            _changed(name, summary[f"{key}_boosted"], 100 * (summary[f"{key}_boosted"] - summary[f"{key}_raw"]))
            for key, name in names.items()
            if summary.get(f"{key}_boosted") is not None and summary.get(f"{key}_raw") is not None
        ]
    if summary.get("mean_masks_kept") is not None:
        tiles.append(Tile(name="masks kept per image", value=figure(summary["mean_masks_kept"])))
    if summary.get("mean_seconds") is not None:
        tiles.append(Tile(name="seconds per image", value=figure(summary["mean_seconds"])))
    return tuple(tiles)


def _changed(name: str, share: float, points: float) -> Tile:
    tone: Literal["good", "bad"] = "good" if points >= 0 else "bad"
    return Tile(name=name, value=f"{percent(share)} %", change=f"{points:+.1f} points", tone=tone)


# Sections


def _gallery(title: str, folder: RunFolder) -> Section:
    outcomes = _outcomes(folder)[:_MOST_ROWS]
    with_truth = any(outcome.get("scores") for outcome in outcomes)
    rows = []
    for outcome in outcomes:
        try:
            rows.append(_pictures(folder, outcome, with_truth))
        except OSError:
            continue  # no row without its pictures
    columns = ("image", "raw masks", "after removal", "materials", *(("truth",) if with_truth else ()))
    return Section(title=title, blocks=(Gallery(columns=columns, rows=tuple(rows), caption=_GALLERY),))


_GALLERY = "Of raw and kept masks the 64 largest are drawn. Colours of materials are not comparable between images."


def _pictures(folder: RunFolder, outcome: dict[str, Any], with_truth: bool) -> tuple[GalleryImage, ...]:
    name = str(outcome["name"])
    where = image_folder(folder.path, name)
    captions = {
        "image": ", ".join([name, *_file_notes(outcome)]),
        "raw": _caption(outcome, "masks_raw", "mean_iou_raw"),
        "kept": f"{count(outcome.get('masks_kept'))} masks",
        "overlay": _caption(outcome, "materials", "mean_iou_boosted"),
    }
    if with_truth:
        captions["truth"] = (outcome.get("scores") or {}).get("difficulty", "")
    return tuple(
        GalleryImage(uri=data_uri(where / f"{part}.png"), alt=f"{name}: {part}", caption=caption)
        if (where / f"{part}.png").is_file() or part != "truth"
        else GalleryImage(uri="data:,", alt=f"{name}: no truth", caption="no truth")
        for part, caption in captions.items()
    )


def _file_notes(outcome: dict[str, Any]) -> list[str]:
    """Return what the report says of an image's file: its pixel size with the source, and a data bar that was cut."""
    size, bar = outcome.get("pixel_size_nm"), outcome.get("data_bar_rows")
    source = outcome.get("pixel_size_source") or ""
    notes = [f"pixel size not known: {source}"] if source and not size else []
    if size:
        notes = [f"{' x '.join(f'{side:.6g}' for side in dict.fromkeys(size))} nm per pixel ({source})"]
    return [*notes, f"data bar of {bar} rows cut"] if bar else notes


def _caption(outcome: dict[str, Any], of: str, iou: str) -> str:
    text = f"{count(outcome.get(of))} {of.partition('_')[0]}"
    return text if outcome.get(iou) is None else f"{text}, IoU {percent(outcome[iou])} %"


def _scored(folder: RunFolder) -> list[dict[str, Any]]:
    scored = [outcome for outcome in _outcomes(folder) if outcome.get("scores")]
    if not scored:
        raise Missing("no image has a truth beside it")
    return scored


def _ablation(title: str, folder: RunFolder) -> Section:
    scored, seed = _scored(folder), int(folder.mapping("run.json").get("seed", 0))
    names = [step["step"] for step in scored[0]["scores"]["ablation"]]
    rows = []
    for name in names:
        steps = [s for one in scored for s in one["scores"]["ablation"] if s["step"] == name]
        rows.append(
            TableRow(
                name=_NAMES.get(name, name),
                marked=name == "merging",
                cells=(
                    Cell(text=figure(float(np.mean([step["masks"] for step in steps])))),
                    *(_share([step.get(key) for step in steps], seed) for key in _ABLATION_KEYS),
                    Cell(text=figure(float(np.mean([step["fp"] for step in steps])))),
                ),
            )
        )
    table = DataTable(columns=_ABLATION, rows=tuple(rows), caption=DEFINITIONS)
    lead = f"Cumulative steps on the same masks; means over {len(scored)} images with truth."
    return Section(title=title, lead=lead, blocks=(table,))


_ABLATION_KEYS = ("mean_iou", "painted_iou", "best_iou", "precision", "recall", "fp_share")
_ABLATION = (
    *("after", "masks", "mean IoU, %\n(95 % interval)", "painted IoU, %\n(95 % interval)"),
    *("best IoU, %\n(95 % interval)", "precision, %\n(95 % interval)", "recall, %\n(95 % interval)"),
    *("false positives, %\n(95 % interval)", "false\npositives"),
)


def _share(values: Sequence[float | None], seed: int) -> Cell:
    known = [value for value in values if value is not None]
    if not known:
        return Cell(text=UNKNOWN)
    mean = float(np.mean(known))
    low, high = interval(known, seed)
    return Cell(text=f"{percent(mean)} ({percent(low)} to {percent(high)})", share=mean)


def _baselines(title: str, folder: RunFolder) -> Section:
    scored, seed = _scored(folder), int(folder.mapping("run.json").get("seed", 0))
    scores = [one["scores"].get("baselines") or {} for one in scored]
    values: dict[str, list[float | None]] = {text: [one.get(key) for one in scores] for key, text in BASELINES.items()}
    values["boost"] = [one["mean_iou_boosted"] for one in scored]
    means = {name: float(np.mean([v for v in of if v is not None] or [0])) for name, of in values.items()}
    rows = [TableRow(name=name, marked=name == "boost", cells=(_share(of, seed),)) for name, of in values.items()]
    rivals = {name: mean for name, mean in means.items() if name not in ("boost", BASELINES["oracle"])}
    best = max(rivals, key=lambda name: rivals[name])
    lead = f"Mean IoU of label maps with the truth's number of materials, over {len(scored)} images with truth."
    if rivals[best] > means["boost"]:
        lead += f" A baseline is better than boost on these images: {best}."
    table = DataTable(columns=("method", "mean IoU, %\n(95 % interval)"), rows=tuple(rows))
    return Section(title=title, lead=lead, blocks=(table,))


def _notes(title: str, folder: RunFolder) -> Section:
    lines = folder.mapping("summary.json").get("images") or []
    items = [(str(line["name"]), text) for line in lines for text in line.get("warnings") or ()]
    items += [(str(line["name"]), f"failed: {line['error']}") for line in lines if line.get("error")]
    if not items:
        return Section(title=title, lead="There is no warning and no error.", blocks=())
    rows = tuple(TableRow(name=name, cells=(Cell(text=text),)) for name, text in items)
    return Section(title=title, blocks=(DataTable(columns=("image", "note"), rows=rows),))


def _difficulty(title: str, folder: RunFolder) -> Section:
    scored = _scored(folder)
    rows = []
    for kind in ("easy", "medium", "hard"):
        of_kind = [one for one in scored if one["scores"]["difficulty"] == kind]
        if of_kind:
            rows.append(_kind_row(kind, of_kind))
    columns = (
        "class",
        "images",
        "contrast\nto noise",
        "raw masks\nper region",
        "raw\nmean IoU, %",
        "boosted\nmean IoU, %",
    )
    table = DataTable(columns=(*columns, "ARI", "boundary F1"), rows=tuple(rows), caption=DIFFICULTY)
    return Section(title=title, blocks=(table,))


def _kind_row(kind: str, outcomes: Sequence[dict[str, Any]]) -> TableRow:
    def mean(name: str) -> float | None:
        values = [one["scores"][name] for one in outcomes if one["scores"][name] is not None]
        return float(np.mean(values)) if values else None

    raw, boosted = (float(np.mean([one[f"mean_iou_{part}"] for one in outcomes])) for part in ("raw", "boosted"))
    cells = (
        Cell(text=count(len(outcomes))),
        *(Cell(text=figure(mean(name))) for name in ("contrast_to_noise", "masks_per_region")),
        *(Cell(text=percent(share), share=share) for share in (raw, boosted)),
        *(Cell(text=figure(mean(name))) for name in ("ari", "boundary_f1")),
    )
    return TableRow(name=kind, cells=cells)


def _sizes(title: str, folder: RunFolder) -> Section:
    outcomes = _outcomes(folder)
    in_nm = [outcome for outcome in outcomes if outcome.get("pixel_nm")]
    chosen, unit = (in_nm, "nm") if in_nm else (outcomes, "px")
    sizes: dict[str, list[float]] = {}
    for outcome in chosen:
        factor = outcome["pixel_nm"] if in_nm else 1
        for material, diameters in outcome.get("diameters_px", {}).items():
            sizes.setdefault(f"material {material}", []).extend(factor * diameter for diameter in diameters)
    groups = [Distribution(label=name, values=values) for name, values in sorted(sizes.items()) if values]
    if not groups:
        raise Missing("no region was found")
    caption = f"Connected regions of each material in {count(len(chosen))} images; material 1 is each image's largest."
    if len(chosen) < len(outcomes):
        caption += f" {count(len(outcomes) - len(chosen))} images have no known pixel size and are left out."
    svg = histogram(groups, x_label=f"equivalent diameter, {unit}", y_label="regions")
    return Section(title=title, blocks=(Chart(svg=svg, caption=caption),))


def _images(title: str, folder: RunFolder) -> Section:
    lines = folder.mapping("summary.json").get("images") or []
    if not lines:
        raise Missing("summary.json lists no image")
    table = DataTable(
        columns=(
            "image",
            "seconds",
            "raw\nmasks",
            "kept\nmasks",
            "materials",
            "raw\nmean IoU, %",
            "boosted\nmean IoU, %",
        ),
        rows=tuple(_image_row(line) for line in lines),
    )
    return Section(title=title, blocks=(table,))


def _image_row(line: dict[str, Any]) -> TableRow:
    whole = [line.get(key) for key in ("masks_raw", "masks_kept", "materials")]
    shares = [line.get(key) for key in ("mean_iou_raw", "mean_iou_boosted")]
    return TableRow(
        name=str(line["name"]),
        note=f"failed: {line['error']}" if line.get("error") else "",
        cells=(
            Cell(text=figure(line.get("seconds"))),
            *(Cell(text=count(number)) for number in whole),
            *(Cell(text=percent(share), share=share) for share in shares),
        ),
    )


def _thresholds(title: str, folder: RunFolder) -> Section:
    configuration = _configuration(folder)
    kinds = {"masks": MasksConfig, "removal": RemovalConfig, "merging": MergingConfig}
    rows = [
        TableRow(
            name=f"{part}.{one.name}",
            cells=(Cell(text=_value(configuration[part].get(one.name))), Cell(text=_origin(one))),
        )
        for part, kind in kinds.items()
        if isinstance(configuration.get(part), dict)
        for one in fields(kind)
        if "origin" in one.metadata
    ]
    if not rows:
        raise Missing("run.json has no settings")
    lead = "The default of each setting is the paper's if it is known, otherwise ours."
    return Section(
        title=title, lead=lead, blocks=(DataTable(columns=("setting", "value", "default of"), rows=tuple(rows)),)
    )


def _origin(one: Any) -> str:
    return "the paper" if one.metadata["origin"] == "paper" else "ours"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return UNKNOWN if value in (None, "") else str(value)


def _made(title: str, folder: RunFolder) -> Section:
    configuration = _configuration(folder)
    own = {name: configuration.get(name) for name in ("data", "k")}
    items = tuple((name, str(value)) for name, value in own.items() if value)
    return Section(title=title, blocks=(KeyValues(items=items + folder.facts()),))
