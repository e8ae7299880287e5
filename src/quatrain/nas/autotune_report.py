"""report.html of an autotune run: front and random baseline, search history, good networks, busy workers.

Nothing here needs torch. A section whose files are missing is left out, as in the report of a nas run.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal

import cattrs

from quatrain.nas.history import GOOD, busy_share, occupied, popular, search_curve
from quatrain.nas.report import examples, net_table, net_widths, settings
from quatrain.report import charts
from quatrain.report.folder import Missing, RunFolder, section, write_report_of
from quatrain.report.page import Cell, Chart, DataTable, Note, Page, Section, TableRow, Tile
from quatrain.report.text import figure, millions
from quatrain.sam.registry import SHAPES
from quatrain.search.evaluations import pareto
from quatrain.supernet.space import Space, Subnet


def write_report(run_dir: str | os.PathLike[str]) -> Path:
    """Write report.html into a run folder, atomically, and return its path; missing parts leave their sections out."""
    return write_report_of(run_dir, _page)


def _page(folder: RunFolder) -> Page:
    summary = folder.mapping("summary.json")
    return Page(
        title=f"quatrain autotune: {folder.path.resolve().name}",
        kicker=_kicker(summary, folder),
        headline=_sentence(summary),
        tagline=_tagline(folder, summary),
        tiles=_tiles(summary),
        command=f"quatrain autotune {folder.command}",
        sections=tuple(
            section(title, make, folder)
            for title, make in (
                ("The nets side by side", net_table),
                ("Size against quality", _front),
                ("Search history", _search_history),
                ("What good nets share", _popular),
                ("The net that was found", net_widths),
                ("What it sees", examples),
                ("As ONNX", _exported),
                ("Workers", _workers),
                ("Not measurable", _aside),
                ("Settings", settings),
            )
        ),
        footer="Written by quatrain, which searches SAM's encoder as SuperSAM does (arXiv 2501.08504).",
    )


# The head of the page


def _kicker(summary: dict[str, Any], folder: RunFolder) -> str:
    seed = folder.mapping("run.json").get("seed")
    parts = ("quatrain autotune", summary.get("model"), summary.get("data"), None if seed is None else f"seed {seed}")
    return " · ".join(str(part) for part in parts if part)


def _sentence(summary: dict[str, Any]) -> str:
    best, baseline = summary.get("best"), summary.get("baseline")
    if not best or not baseline:
        return f"No sub-network has been found yet: the run is {summary.get('state', 'unfinished')}"
    smaller, gain = 100 * best["reduction"], 100 * (best["miou"] - baseline["miou"])
    return f"{smaller:.0f} % smaller, {gain:+.1f} mIoU points against the pretrained SAM"


def _tagline(folder: RunFolder, summary: dict[str, Any]) -> str:
    best = summary.get("best") or {}
    try:
        near, scores = _random_of_size(folder, best), {line["key"]: line["miou"] for line in _found(folder)}
    except Missing:
        return ""
    if best.get("subnet") not in scores:
        return ""
    gain, spread = 100 * (scores[best["subnet"]] - near["mean"]), 50 * (near["highest"] - near["lowest"])
    verdict = "more than" if gain > spread else "no more than"
    images = "on the validation images"
    return f"{gain:+.1f} points over random nets of its size {images}, {verdict} their spread."


def _tiles(summary: dict[str, Any]) -> tuple[Tile, ...]:
    best, baseline = summary.get("best"), summary.get("baseline")
    if not best or not baseline:
        return ()
    gain = 100 * (best["miou"] - baseline["miou"])
    tone: Literal["good", "bad"] = "good" if gain > 0 else "bad"
    was = f"from {millions(baseline['params'])} M"
    tiles = [
        Tile(name="Encoder parameters", value=f"{millions(best['params'])} M", change=was),
        Tile(name="mIoU, held out", value=f"{100 * best['miou']:.1f} %", change=f"{gain:+.1f} points", tone=tone),
    ]
    if best.get("latency_ms") and baseline.get("latency_ms"):
        was = f"from {figure(baseline['latency_ms'])} ms"
        tiles.append(Tile(name="Encoder latency", value=f"{figure(best['latency_ms'])} ms", change=was))
    if summary.get("measured"):
        change = f"{summary.get('evaluations', 0):,} of them on all images"
        tiles.append(Tile(name="Nets measured", value=f"{summary['measured']:,}", change=change))
    return tuple(tiles)


# Sections


def _start(folder: RunFolder) -> dict[str, Any]:
    return next((line for line in folder.lines("search.jsonl") if line.get("event") == "start"), {})


def _found(folder: RunFolder) -> list[dict[str, Any]]:
    """Return every net measured on all images, with its score as `miou`."""
    objective = _start(folder).get("objective", "miou_oracle")
    lines = [line for line in folder.lines("search.jsonl") if line.get("event") == "record"]
    if not lines:
        raise Missing("the search has measured no net on all images")
    return [{**line, "miou": line["metrics"][objective]} for line in lines]


def _front(title: str, folder: RunFolder) -> Section:
    found = _found(folder)
    places = [(line["params"] / 1e6, 100 * line["miou"]) for line in found]
    limit = (_start(folder).get("max_params") or math.inf) / 1e6
    try:
        buckets = _random_baseline(folder)
    except Missing:
        buckets = []
    best = (folder.mapping("summary.json").get("best") or {}).get("subnet")
    svg = charts.pareto_front(
        points=[place for place, line in zip(places, found, strict=True) if line.get("proposed", True)],
        others=[place for place, line in zip(places, found, strict=True) if not line.get("proposed", True)],
        best=pareto(places, place=lambda place: place),
        labelled=_labels(folder, {line["key"]: place for line, place in zip(found, places, strict=True)}, best),
        limit=limit if limit < max(size for size, _ in places) else None,
        x_label="encoder parameters, millions",
        y_label="mIoU, %",
        bands=[_band(row) for row in buckets],
        band_label="random nets of one size, lowest to highest",
    )
    caption = f"{len(found):,} nets measured on all validation images; smaller is left, better is up."
    return Section(title=title, blocks=(Chart(svg=svg, caption=caption),))


def _band(row: dict[str, Any]) -> charts.RangeBand:
    heights = {name: 100 * row[key] for name, key in (("low", "lowest"), ("mean", "mean"), ("high", "highest"))}
    return charts.RangeBand(left=row["least_params"] / 1e6, right=row["most_params"] / 1e6, **heights)


def _labels(folder: RunFolder, places: dict[str, tuple[float, float]], best: str | None) -> list[charts.LabelledPoint]:
    labels = (
        [charts.LabelledPoint(x=places[best][0], y=places[best][1], label="best", strong=True)]
        if best in places
        else []
    )
    try:
        rows = folder.rows("table.json")
    except Missing:
        return labels
    known = [row for row in rows if row.get("name") in ("pretrained", "fine-tuned", "largest", "smallest")]
    return labels + [
        charts.LabelledPoint(x=row["params"] / 1e6, y=100 * row["miou_validation"], label=row["name"]) for row in known
    ]


def _search_history(title: str, folder: RunFolder) -> Section:
    found, start = _found(folder), _start(folder)
    objective, limit = start.get("objective", "miou_oracle"), start.get("max_params") or math.inf
    lines = [{**line, "objective": objective} for line in folder.lines("search.jsonl")]
    curve = search_curve(lines, {line["key"]: line["params"] <= limit for line in found})
    if not curve.images:
        raise Missing("the search has measured no net on all images")
    svg = charts.search_curve(
        [(x, 100 * y) for x, y in zip(curve.images, curve.scores, strict=True)],
        charts.Curve(label="best so far", x=curve.images, y=[100 * y for y in curve.best]),
        _random_level(folder),
        x_label="images measured",
        y_label="mIoU, %",
    )
    rungs = start.get("rungs") or []
    saved = f", where {curve.nets * rungs[-1]:,} would have measured every net on all" if len(rungs) > 1 else ""
    lead = f"{curve.nets:,} nets for {curve.spent:,} images{saved}; {len(curve.images):,} of them on all."
    rule = ""
    if len(rungs) > 1:
        steps = ", ".join(map(str, rungs[:-1]))
        rule = (
            f"Successive halving: after {steps} images, the best 1/{start.get('eta')} of all nets so far continue, "
            f"up to {rungs[-1]} images. "
        )
    return Section(title=title, lead=lead, blocks=(Chart(svg=svg, caption=f"{rule}Engine: {start.get('engine')}."),))


def _random_baseline(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the size buckets of random_baseline.json; runs of the last release call the file bands.json."""
    try:
        return folder.rows("random_baseline.json")
    except Missing:
        return folder.rows("bands.json")


def _random_of_size(folder: RunFolder, best: dict[str, Any]) -> dict[str, Any]:
    """Return the size bucket that is nearest to the best net's size."""
    return min(_random_baseline(folder), key=lambda bucket: abs(bucket["params"] - best.get("params", math.inf)))


def _random_level(folder: RunFolder) -> list[charts.Curve]:
    best = folder.mapping("summary.json").get("best") or {}
    try:
        mean = 100 * _random_of_size(folder, best)["mean"]
    except Missing:
        return []
    return [charts.Curve(label="random nets of the best one's size, mean", x=[], y=[mean])]


def _popular(title: str, folder: RunFolder) -> Section:
    nets = [(Subnet.parse(line["key"]), line["miou"]) for line in _found(folder) if line.get("proposed", True)]
    try:
        space = cattrs.structure(folder.json("study.json")["space"], Space)
    except (cattrs.BaseValidationError, KeyError, TypeError) as error:
        raise Missing("study.json holds no space") from error
    if not nets:
        raise Missing("the search has measured no net on all images")
    sam = SHAPES.get(str(_start(folder).get("model")))
    starred = [sam is not None and block in sam.global_blocks for block in range(space.depth)]
    rows = [(str(width) if width else "dropped", shares) for width, shares in popular(space, nets)]
    svg = charts.share_heatmap(rows, starred=starred, meaning="global attention")
    caption = f"Percent of the best {100 * GOOD:.0f} % of {len(nets):,} nets that drop a block or give its MLP a width."
    return Section(title=title, blocks=(Chart(svg=svg, caption=caption),))


def _exported(title: str, folder: RunFolder) -> Section:
    record = folder.mapping("onnx/export.json")
    if not record:
        raise Missing("the run did not export (--onnx)")
    graphs = [record[name] for name in ("encoder", "decoder")]
    rows = tuple(TableRow(name=graph["file"], cells=_graph_cells(graph)) for graph in graphs)
    columns = ("graph", "largest difference\nfrom torch", "torch\nms", "onnxruntime\nms")
    allowed, threads = f"{graphs[0]['tolerance']:.0e}", graphs[0]["threads"]
    caption = (
        f"Differences are relative to the largest value, or to 1 if that is larger. An export that differs by more "
        f"than {allowed} is refused. Times are medians on a worker's CPU with {threads} threads: one image for the "
        "encoder, three prompts of two points for the decoder."
    )
    return Section(title=title, blocks=(DataTable(columns=columns, rows=rows, caption=caption),))


def _graph_cells(graph: dict[str, Any]) -> tuple[Cell, ...]:
    taken = graph["latency_ms"]
    return (
        Cell(text=f"{max(graph['difference'].values()):.1e}"),
        Cell(text=figure(taken["torch"])),
        Cell(text=figure(taken["onnxruntime"])),
    )


def _workers(title: str, folder: RunFolder) -> Section:
    workers = folder.mapping("summary.json").get("workers")
    moments, busy = occupied(folder.lines("events.jsonl"), "measure-")
    if not workers or len(moments) < 2:
        raise Missing("no task of the search has finished")
    share = busy_share(moments, busy, workers)
    caption = f"{workers} workers, busy {100 * share:.0f} % of the time from the first measurement to the last."
    return Section(title=title, blocks=(Chart(svg=charts.occupancy(moments, busy, workers), caption=caption),))


def _aside(title: str, folder: RunFolder) -> Section:
    lines = [line for line in folder.lines("search.jsonl") if line.get("event") == "aside"]
    if not lines:
        raise Missing("all nets could be measured")
    return Section(title=title, blocks=tuple(Note(text=f"{line['key']}: {line['reason']}") for line in lines))
