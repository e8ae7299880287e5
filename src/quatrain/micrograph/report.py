"""report.html of a boost run: gallery, ablation, sizes in nm, every image, from the plain files of its folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from quatrain.micrograph.config import MasksConfig, MergingConfig, RemovalConfig
from quatrain.micrograph.evaluate import DEFINITIONS, DIFFICULTY, interval
from quatrain.micrograph.stages import RESULT, image_folder
from quatrain.report.charts import Group, histogram
from quatrain.report.folder import Missing, RunFolder, section, write_report_of
from quatrain.report.overlay import data_uri
from quatrain.report.page import Cell, Chart, Facts, Gallery, Page, Picture, Row, Section, Table, Tile
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
    """Write report.html into a run folder, atomically, and return its path; missing parts leave their sections out."""
    return write_report_of(run_dir, _page)


def _page(folder: RunFolder) -> Page:
    summary = folder.mapping("summary.json")
    parts = (
        ("What it made of the images", _gallery),
        ("What each step does", _ablation),
        ("By difficulty", _difficulty),
        ("Sizes of regions", _sizes),
        ("Every image", _images),
        ("Every threshold", _thresholds),
        ("How it was made", _made),
    )
    return Page(
        title=f"quatrain boost: {folder.path.resolve().name}",
        kicker=_kicker(folder),
        headline=_headline(summary),
        tagline=_tagline(summary),
        tiles=_tiles(summary),
        command=f"quatrain boost {folder.command}",
        sections=tuple(section(title, make, folder) for title, make in parts),
        footer="Made by quatrain, which boosts SAM's masks as SAM-I-Am does (arXiv 2404.06638).",
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
    return f"{_few(raw)} overlapping masks an image became {_few(materials)} materials"


def _few(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _tagline(summary: dict[str, Any]) -> str:
    done, failed = summary.get("done", 0), summary.get("failed", 0)
    said = f"{count(done)} image{'s' * (done != 1)} done"
    said += f", {count(failed)} failed." if failed else "."
    raw, boosted = summary.get("mean_iou_raw"), summary.get("mean_iou_boosted")
    if raw is not None and boosted is not None:
        said += f" Against truth, mean IoU went from {percent(raw)} % to {percent(boosted)} %."
    return said


def _tiles(summary: dict[str, Any]) -> tuple[Tile, ...]:
    tiles = [Tile(name="images done", value=count(summary.get("done")))]
    if summary.get("mean_iou_boosted") is not None:
        gain = 100 * (summary["mean_iou_boosted"] - summary["mean_iou_raw"])
        less = 100 * (summary["mean_fp_boosted"] - summary["mean_fp_raw"])
        tiles += [
            _changed("mean IoU", summary["mean_iou_boosted"], gain, gain >= 0),
            _changed("false positives", summary["mean_fp_boosted"], less, less <= 0),
        ]
    if summary.get("mean_masks_kept") is not None:
        tiles.append(Tile(name="masks kept an image", value=figure(summary["mean_masks_kept"])))
    if summary.get("mean_seconds") is not None:
        tiles.append(Tile(name="seconds an image", value=figure(summary["mean_seconds"])))
    return tuple(tiles)


def _changed(name: str, share: float, points: float, good: bool) -> Tile:
    return Tile(name=name, value=f"{percent(share)} %", change=f"{points:+.1f} points", tone="good" if good else "bad")


# Sections


def _gallery(title: str, folder: RunFolder) -> Section:
    outcomes = _outcomes(folder)[:_MOST_ROWS]
    with_truth = any(outcome.get("scores") for outcome in outcomes)
    rows = []
    for outcome in outcomes:
        try:
            rows.append(_pictures(folder, outcome, with_truth))
        except OSError:
            continue  # a picture that is not there takes its row with it
    columns = ("image", "raw masks", "after removal", "materials", *(("truth",) if with_truth else ()))
    return Section(title=title, blocks=(Gallery(columns=columns, rows=tuple(rows), caption=_GALLERY),))


_GALLERY = "Of raw and kept masks the 64 largest are drawn; a colour of materials means nothing across images."


def _pictures(folder: RunFolder, outcome: dict[str, Any], with_truth: bool) -> tuple[Picture, ...]:
    name = str(outcome["name"])
    where = image_folder(folder.path, name)
    captions = {
        "image": ", ".join([name, *_notes(outcome)]),
        "raw": _caption(outcome, "masks_raw", "mean_iou_raw"),
        "kept": f"{count(outcome.get('masks_kept'))} masks",
        "overlay": _caption(outcome, "materials", "mean_iou_boosted"),
    }
    if with_truth:
        captions["truth"] = (outcome.get("scores") or {}).get("difficulty", "")
    return tuple(
        Picture(uri=data_uri(where / f"{part}.png"), alt=f"{name}: {part}", caption=caption)
        if (where / f"{part}.png").is_file() or part != "truth"
        else Picture(uri="data:,", alt=f"{name}: no truth", caption="no truth")
        for part, caption in captions.items()
    )


def _notes(outcome: dict[str, Any]) -> list[str]:
    """Return what the report says of an image's file: its pixel size with the source, and a data bar that was cut."""
    size, bar = outcome.get("pixel_size_nm"), outcome.get("data_bar_rows")
    source = outcome.get("pixel_size_source") or ""
    notes = [f"pixel size not known: {source}"] if source and not size else []
    if size:
        notes = [f"{' x '.join(f'{side:.6g}' for side in dict.fromkeys(size))} nm per pixel ({source})"]
    return [*notes, f"data bar of {bar} rows cut"] if bar else notes


def _caption(outcome: dict[str, Any], of: str, iou: str) -> str:
    said = f"{count(outcome.get(of))} {of.partition('_')[0]}"
    return said if outcome.get(iou) is None else f"{said}, IoU {percent(outcome[iou])} %"


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
            Row(
                name=_NAMES.get(name, name),
                marked=name == "merging",
                cells=(
                    Cell(text=figure(float(np.mean([step["masks"] for step in steps])))),
                    _share([step["mean_iou"] for step in steps], seed),
                    _share([step["best_iou"] for step in steps], seed),
                    _share([step["fp_share"] for step in steps], seed),
                    Cell(text=figure(float(np.mean([step["fp"] for step in steps])))),
                ),
            )
        )
    table = Table(columns=_ABLATION, rows=tuple(rows), caption=DEFINITIONS)
    lead = f"One step after another on the same masks; means over {len(scored)} images with truth."
    return Section(title=title, lead=lead, blocks=(table,))


_ABLATION = (
    *("after", "masks", "mean IoU, %\n(95 % interval)", "best IoU, %\n(95 % interval)"),
    *("false positives, %\n(95 % interval)", "false\npositives"),
)


def _share(values: Sequence[float], seed: int) -> Cell:
    mean = float(np.mean(values))
    low, high = interval(values, seed)
    return Cell(text=f"{percent(mean)} ({percent(low)} to {percent(high)})", share=mean)


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
        "raw masks\na region",
        "raw\nmean IoU, %",
        "boosted\nmean IoU, %",
    )
    table = Table(columns=(*columns, "ARI", "boundary F1"), rows=tuple(rows), caption=DIFFICULTY)
    return Section(title=title, blocks=(table,))


def _kind_row(kind: str, outcomes: Sequence[dict[str, Any]]) -> Row:
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
    return Row(name=kind, cells=cells)


def _sizes(title: str, folder: RunFolder) -> Section:
    outcomes = _outcomes(folder)
    in_nm = [outcome for outcome in outcomes if outcome.get("pixel_nm")]
    chosen, unit = (in_nm, "nm") if in_nm else (outcomes, "px")
    sizes: dict[str, list[float]] = {}
    for outcome in chosen:
        factor = outcome["pixel_nm"] if in_nm else 1
        for material, diameters in outcome.get("diameters_px", {}).items():
            sizes.setdefault(f"material {material}", []).extend(factor * diameter for diameter in diameters)
    groups = [Group(label=name, values=values) for name, values in sorted(sizes.items()) if values]
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
        raise Missing("summary.json names no image")
    table = Table(
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


def _image_row(line: dict[str, Any]) -> Row:
    whole = [line.get(key) for key in ("masks_raw", "masks_kept", "materials")]
    shares = [line.get(key) for key in ("mean_iou_raw", "mean_iou_boosted")]
    return Row(
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
        Row(
            name=f"{part}.{one.name}",
            cells=(Cell(text=_value(configuration[part].get(one.name))), Cell(text=_origin(one))),
        )
        for part, kind in kinds.items()
        if isinstance(configuration.get(part), dict)
        for one in fields(kind)
        if "origin" in one.metadata
    ]
    if not rows:
        raise Missing("run.json tells no settings")
    lead = "Whose default each setting has: the paper's, or ours where it is silent."
    return Section(
        title=title, lead=lead, blocks=(Table(columns=("setting", "value", "default of"), rows=tuple(rows)),)
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
    return Section(title=title, blocks=(Facts(items=items + folder.facts()),))
