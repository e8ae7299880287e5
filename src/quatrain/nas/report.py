"""report.html of a nas run: table, front, training curves and pictures, from the plain files of its folder.

Nothing here needs torch. A section whose files are missing, as in an interrupted run, states it; the others are shown.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quatrain.report.charts import Bar, Curve, LabelledPoint, bars, block_widths, curves, pareto_front
from quatrain.report.folder import Missing, RunFolder, section, write_report_of
from quatrain.report.overlay import data_uri
from quatrain.report.page import Cell, Chart, DataTable, Gallery, GalleryImage, KeyValues, Page, Section, TableRow, Tile
from quatrain.report.text import count, figure, millions, percent
from quatrain.sam.registry import SHAPES, SamShape
from quatrain.search.evaluations import pareto
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.space import Subnet

_MOST_EXAMPLES = 8
_GLOBAL = "global attention"
_COLUMNS = (
    "net",
    "parameters\nmillions",
    "MACs\nbillions",
    "latency\nms",
    "mIoU\nbest of 3, %",
    "mIoU\nchosen, %",
    "images",
)
_RUNS = {"supernet": "supernet", "finetune": "fine-tuned"}
"""Trainings whose curves are drawn, with their labels; ablations are not drawn."""
_DEFINITIONS = (
    "Objects are prompted with one foreground point at a time, drawn once per image and seed. mIoU is the mean over "
    "objects of the intersection over union with the truth, in percent: best of 3 takes the best of SAM's three "
    "candidate masks (the oracle figure), chosen takes the one with the highest predicted IoU. Parameters and "
    "multiply-accumulates (MACs) count the image encoder only, exactly."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Headline:
    """The nets that the first sentence compares, and the fine-tuned one if it was measured."""

    pretrained: dict[str, Any]
    best: dict[str, Any]
    finetuned: dict[str, Any] | None

    @property
    def reduction(self) -> float:
        return 1 - float(self.best["params"] / self.pretrained["params"])

    def gain(self, other: dict[str, Any]) -> float:
        """Return the mIoU points of the best net above `other`."""
        return 100 * float(self.best["miou"] - other["miou"])


def write_report(run_dir: str | os.PathLike[str]) -> Path:
    """Write report.html into a run folder, atomically, and return its path; missing parts leave their sections out."""
    return write_report_of(run_dir, _page)


def _page(folder: RunFolder) -> Page:
    facts, summary = folder.mapping("run.json"), folder.mapping("summary.json")
    headline = _headline(summary)
    return Page(
        title=f"quatrain nas: {folder.path.resolve().name}",
        kicker=_kicker(facts),
        headline=_sentence(headline, str(summary.get("state", "unfinished"))),
        tagline=_tagline(headline),
        tiles=_tiles(headline, summary),
        command=f"quatrain nas {folder.command}",
        sections=tuple(
            section(title, make, folder)
            for title, make in (
                ("The nets side by side", net_table),
                ("Size against quality", _front),
                ("The net that was found", net_widths),
                ("What it sees", examples),
                ("Training", _training),
                ("Which blocks matter", _importance),
                ("Settings", settings),
            )
        ),
        footer="Written by quatrain, which searches SAM's encoder as SuperSAM does (arXiv 2501.08504).",
    )


# Reading


def _sam(folder: RunFolder) -> SamShape:
    name = _asked(folder).get("model")
    if name not in SHAPES:
        raise Missing("run.json names no known model")
    return SHAPES[name]


def _asked(folder: RunFolder) -> dict[str, Any]:
    """Return the configuration of run.json, updated by summary.json."""
    return {**folder.mapping("run.json").get("configuration", {}), **folder.mapping("summary.json")}


def _kind(row: dict[str, Any]) -> str:
    """Return the kind of a table row, from the words in its name; "" for any other row."""
    name = str(row.get("name", "")).lower()
    words = {"pretrained": "pretrained", "tuned": "fine-tuned", "largest": "largest", "smallest": "smallest"}
    if name.startswith("best"):
        return "best"
    return next((kind for word, kind in words.items() if word in name), "")


# The head of the page


def _headline(summary: dict[str, Any]) -> _Headline | None:
    nets = {name: summary.get(name) for name in ("baseline", "best", "finetuned")}
    whole = {name: net for name, net in nets.items() if net and None not in (net.get("params"), net.get("miou"))}
    if not {"baseline", "best"} <= whole.keys():
        return None
    return _Headline(pretrained=whole["baseline"], best=whole["best"], finetuned=whole.get("finetuned"))


def _sentence(headline: _Headline | None, state: str) -> str:
    if headline is None:
        return f"No sub-network has been found yet: the run is {state}"
    gain, smaller = headline.gain(headline.pretrained), 100 * headline.reduction
    size = f"{smaller:.0f} % smaller" if smaller >= 0.5 else "No smaller"
    if abs(gain) < 0.05:
        return f"{size}, and level with the pretrained SAM"
    if gain > 0:
        return f"{size}, {gain:+.1f} mIoU points over the pretrained SAM"
    return f"{size}, at a cost of {-gain:.1f} mIoU points against the pretrained SAM"


def _tagline(headline: _Headline | None) -> str:
    if headline is None or headline.finetuned is None:
        return ""
    gain = headline.gain(headline.finetuned)
    if abs(gain) < 0.05:
        return "Level with the full net fine-tuned on the same number of images."
    side = "above" if gain > 0 else "below"
    return f"{abs(gain):.1f} points {side} the full net fine-tuned on the same number of images."


def _tiles(headline: _Headline | None, summary: dict[str, Any]) -> tuple[Tile, ...]:
    if headline is None:
        return ()
    pretrained, best = headline.pretrained, headline.best
    gain = headline.gain(pretrained)
    tiles = [
        Tile(
            name="Encoder parameters",
            value=f"{millions(best['params'])} M",
            change=f"from {millions(pretrained['params'])} M",
        ),
        Tile(
            name="mIoU on held-out images",
            value=f"{100 * best['miou']:.1f} %",
            change=f"{gain:+.1f} points",
            tone="good" if gain > 0 else "bad",
        ),
    ]
    if best.get("gmacs") and pretrained.get("gmacs"):
        saved = f"from {figure(pretrained['gmacs'])} G"
        tiles.append(Tile(name="Encoder MACs an image", value=f"{figure(best['gmacs'])} G", change=saved))
    if summary.get("evaluations"):
        workers = summary.get("workers")
        change = f"by {workers} workers" if workers and workers > 1 else ""
        tiles.append(Tile(name="Nets evaluated", value=f"{summary['evaluations']:,}", change=change))
    return tuple(tiles)


def _kicker(facts: dict[str, Any]) -> str:
    configuration = facts.get("configuration", {})
    parts = (configuration.get("model"), configuration.get("data"), _named("seed", facts.get("seed")))
    return " · ".join(str(part) for part in ("quatrain nas", *parts) if part)


def _named(name: str, value: Any) -> str:
    return "" if value is None else f"{name} {value}"


# Sections


def net_table(title: str, folder: RunFolder) -> Section:
    """Return every net of table.json side by side."""
    rows = folder.rows("table.json")
    most = max((row.get("params") or 0 for row in rows), default=0)
    if not most:
        raise Missing("table.json holds no net")
    table = DataTable(columns=_COLUMNS, rows=tuple(_row(row, most) for row in rows))
    return Section(title=title, lead="All measured on the same held-out images.", blocks=(table,))


def _row(row: dict[str, Any], most: float) -> TableRow:
    params, oracle = row.get("params"), row.get("miou_oracle")
    spread = f" ± {100 * row['spread']:.1f}" if row.get("spread") is not None else ""
    return TableRow(
        name=str(row.get("name", "")),
        note=str(row.get("note") or ""),
        marked=_kind(row) == "best",
        cells=(
            Cell(text=millions(params), share=params / most if params else None),
            Cell(text=figure(row.get("gmacs"))),
            Cell(text=figure(row.get("latency_ms"))),
            Cell(text=percent(oracle) + (spread if oracle is not None else ""), share=oracle),
            Cell(text=percent(row.get("miou_chosen"))),
            Cell(text=count(row.get("images"))),
        ),
    )


def _front(title: str, folder: RunFolder) -> Section:
    lines = folder.lines("search.jsonl")
    start = next((line for line in lines if line.get("event") == "start"), {})
    found = [line for line in lines if line.get("event") == "record"]
    if not found:
        raise Missing("the search has recorded no net")
    objective = start.get("objective", "miou_oracle")
    places = {line["key"]: (line["params"] / 1e6, 100 * line["metrics"][objective]) for line in found}
    others = [line["key"] for line in found if not line.get("proposed", True)]
    limit = (start.get("max_params") or math.inf) / 1e6
    labels, elsewhere = _labels(folder, places)
    svg = pareto_front(
        points=[place for key, place in places.items() if key not in others],
        others=[places[key] for key in others],
        best=pareto(places.values(), place=lambda place: place),
        labelled=labels,
        limit=limit if limit < max(size for size, _ in places.values()) else None,
        x_label="encoder parameters, millions",
        y_label="mIoU, %",
    )
    caption = f"{len(found):,} nets measured on the validation images; smaller is left, better is up."
    if elsewhere:
        caption += f" Measured on the test images instead: {', '.join(elsewhere)}."
    return Section(title=title, blocks=(Chart(svg=svg, caption=caption),))


def _labels(folder: RunFolder, places: dict[str, tuple[float, float]]) -> tuple[list[LabelledPoint], list[str]]:
    """Return the baselines to label, and the names of those that were measured on test images only."""
    try:
        rows = folder.rows("table.json")
    except Missing:
        return [], []
    labels: dict[str, LabelledPoint] = {}
    elsewhere: list[str] = []
    best = (folder.mapping("summary.json").get("best") or {}).get("subnet")
    for row in rows:
        kind, size = _kind(row), row.get("params")
        own = _validated(row, places, best if kind == "best" else None)
        height = row.get("miou_oracle") if own is None else own
        if kind and kind not in labels and size and height is not None:
            labels[kind] = LabelledPoint(x=size / 1e6, y=100 * height, label=kind, strong=kind == "best")
            elsewhere += [kind] if own is None else []
    return list(labels.values()), elsewhere


def _validated(row: dict[str, Any], places: dict[str, tuple[float, float]], best: str | None) -> float | None:
    """Return a row's mIoU on validation images: its own figure, or its network's in the journal."""
    if row.get("miou_validation") is not None:
        return float(row["miou_validation"])
    place = places.get(row.get("subnet") or best or "")
    return None if place is None else place[1] / 100


def net_widths(title: str, folder: RunFolder) -> Section:
    """Return the blocks and widths of the best net."""
    best = folder.mapping("summary.json").get("best") or {}
    if not best.get("subnet"):
        raise Missing("no best net yet")
    sam, subnet = _sam(folder), _subnet(best["subnet"])
    dropped = [str(block) for block, width in enumerate(subnet.widths) if not width]
    share = sum(subnet.widths) / (sam.hidden * sam.depth)
    lead = f"{len(subnet.kept)} of {sam.depth} blocks are kept, with {100 * share:.0f} % of the MLP channels."
    if dropped:
        lead += f" Dropped: {', '.join(dropped)}."
    svg = block_widths(subnet.widths, full_subnet(sam).widths, starred=_starred(sam), meaning=_GLOBAL)
    caption = "Every block's MLP width (filled) inside that of the full net (pale); dashed blocks are dropped."
    return Section(title=title, lead=lead, blocks=(Chart(svg=svg, caption=caption),))


def _subnet(value: Any) -> Subnet:
    return Subnet.parse(value) if isinstance(value, str) else Subnet(widths=tuple(value["widths"]))


def _starred(sam: SamShape) -> list[bool]:
    return [block in sam.global_blocks for block in range(sam.depth)]


def examples(title: str, folder: RunFolder) -> Section:
    """Return held-out images with the masks of the pretrained and the found net."""
    rows: list[tuple[GalleryImage, ...]] = []
    for example in folder.rows("examples.json")[:_MOST_EXAMPLES]:
        try:
            rows.append(_pictures(example, folder))
        except OSError:
            continue  # a row with a missing picture is left out
    if not rows:
        raise Missing("no example could be read")
    gallery = Gallery(
        columns=("image", "truth", "pretrained", "found"),
        rows=tuple(rows),
        caption="Held-out images; the masks are those with the highest predicted IoU of each net.",
    )
    return Section(title=title, blocks=(gallery,))


def _pictures(example: dict[str, Any], folder: RunFolder) -> tuple[GalleryImage, ...]:
    name = str(example["name"])
    captions = {
        "image": name,
        "truth": "",
        "pretrained": f"mIoU {percent(example.get('iou_pretrained'))} %",
        "found": f"mIoU {percent(example.get('iou_found'))} %",
    }
    return tuple(
        GalleryImage(uri=data_uri(folder.path / example[part]), alt=f"{name}: {part}", caption=caption)
        for part, caption in captions.items()
    )


def _training(title: str, folder: RunFolder) -> Section:
    lines = [line for line in folder.lines("training.jsonl") if line.get("run") in _RUNS and "loss" in line]
    if not lines:
        raise Missing("nothing has been trained")
    losses: dict[str, dict[int, list[float]]] = {}
    for line in lines:
        steps = losses.setdefault(f"{_RUNS[line['run']]}: {line['net'].split()[0]}", {})
        steps.setdefault(line["step"], []).append(line["loss"])  # the random nets of one step make one curve
    drawn = [
        Curve(label=label, x=list(steps), y=[sum(values) / len(values) for values in steps.values()])
        for label, steps in losses.items()
    ]
    caption = "Loss of every net at each step (faint) and its running mean. " + _durations(lines)
    svg = curves(drawn, x_label="step", y_label="loss")
    return Section(title=title, blocks=(Chart(svg=svg, caption=caption.strip()),))


def _durations(lines: Sequence[dict[str, Any]]) -> str:
    texts = []
    for run, name in _RUNS.items():
        taken = {line["step"]: line["seconds"] for line in lines if line["run"] == run and line.get("seconds")}
        if taken:
            texts.append(f"{name}: {count(len(taken))} steps of {figure(sum(taken.values()) / len(taken))} s")
    return (", ".join(texts) + ".").capitalize() if texts else ""


def _importance(title: str, folder: RunFolder) -> Section:
    importance = folder.json("importance.json")
    sam = _sam(folder)
    removable = importance.get("removable", [])
    values = [
        Bar(height=100 * value, highlighted=block in removable, starred=starred)
        for block, (value, starred) in enumerate(zip(importance["importance"], _starred(sam), strict=True))
    ]
    svg = bars(
        values, y_label="mIoU points lost without it", highlighted="removable", plain="always kept", starred=_GLOBAL
    )  # fmt: skip
    lead = "Loss of mIoU without each block, before training. The least important blocks are removable."
    chances = [f"{block} ({p:.2g})" for block, p in zip(removable, importance.get("probability", []), strict=False)]
    caption = "Removable blocks with their drop probability in sandwich training: " + ", ".join(chances)
    return Section(title=title, lead=lead, blocks=(Chart(svg=svg, caption=caption + "." if chances else ""),))


def settings(title: str, folder: RunFolder) -> Section:
    """Return the settings of the run and the definitions of its figures."""
    asked = _asked(folder)
    own = {"model": asked.get("model"), "data": asked.get("data"), "images": _split(folder)}
    items = tuple((name, str(value)) for name, value in own.items() if value)
    return Section(title=title, lead=_DEFINITIONS, blocks=(KeyValues(items=items + folder.facts()),))


def _split(folder: RunFolder) -> str:
    parts = folder.mapping("summary.json").get("split") or {}
    return ", ".join(f"{count(number)} {part}" for part, number in parts.items())
