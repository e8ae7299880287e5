"""report.html of a gnn run: times of an epoch, savings of the buffer, comparison of policies.

Nothing here needs torch. A part whose files are missing, as in an interrupted run, says so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from quatrain.report.charts import Curve, StackedBar, curves, stacked_bars
from quatrain.report.flows import flows
from quatrain.report.folder import Missing, RunFolder, section, write_report_of
from quatrain.report.page import Cell, Chart, DataTable, KeyValues, Page, Section, TableRow, Tile
from quatrain.report.text import UNKNOWN, count, duration, figure, percent

TIMES = {"sample_s": "sampling", "pull_s": "pull", "lookup_s": "look-up", "copy_s": "copy"}
"""Times of the preparing thread."""
MAIN = {"train_s": "training", "wait_s": "waiting"}
"""Times of the training thread."""
_TIME = (
    "Two threads share an epoch. One prepares batches: sampling, look-up, pull of missing rows, copy. The other "
    "trains, and waits when no batch is ready. Rows of one batch are transferred while the next one is sampled; "
    "the pull is the remaining wait. Means over the trainers, in seconds."
)


_CUT = (
    "Cut edges; darker means more. The edges of a row bring features from other machines to this one. Beside them: the "
    "machine's own vertices and its halo, the vertices at the other ends."
)


def write_report(run_dir: str | os.PathLike[str]) -> Path:
    """Write report.html into a run folder, atomically, and return its path; missing parts leave their sections out."""
    return write_report_of(run_dir, _page)


def _page(folder: RunFolder) -> Page:
    summary = folder.mapping("summary.json")
    return Page(
        title=f"quatrain gnn: {folder.path.resolve().name}",
        kicker=str(summary.get("data", "")),
        headline=_headline(folder, summary),
        tiles=_tiles(summary),
        command=f"quatrain gnn {folder.command}",
        sections=tuple(
            section(title, make, folder)
            for title, make in (
                ("Comparison of policies", _policies),
                ("Time of an epoch", _time),
                ("Hit rates of the buffer", _hits),
                ("Bytes from other machines", _bytes),
                ("Loss and accuracy", _training),
                ("Partition of the graph", _partition),
                ("Run", _made),
            )
        ),
        footer="Made by quatrain; prefetch and eviction after MassiveGNN (arXiv 2410.22697).",
    )


def trainings(folder: RunFolder) -> dict[str, list[dict[str, Any]]]:
    """Return the epochs of every policy that was trained with, the run's own first; Missing without any."""
    own = str(folder.mapping("summary.json").get("policy", "this run"))
    found = {own: folder.rows("epochs.json")}
    for path in sorted((folder.path / "policies").glob("*/epochs.json")):
        found.setdefault(path.parent.name, RunFolder(path.parent).rows("epochs.json"))
    return found


def steady(epochs: list[dict[str, Any]], key: str) -> float | None:
    """Return the mean of a figure over the epochs after the first, which warms up; None if it is unknown."""
    values = [row[key] for row in epochs[1:] or epochs if row.get(key) is not None]
    return sum(values) / len(values) if values else None


def _headline(folder: RunFolder, summary: dict[str, Any]) -> str:
    try:
        found = trainings(folder)
    except Missing:
        return f"This run is {summary.get('state', 'unfinished')}; no epoch has been trained"
    own, *others = (steady(epochs, "seconds") for epochs in found.values())
    name, saved = next(iter(found)), None
    if own and "none" in found and others and name != "none":
        saved = 1 - own / (steady(found["none"], "seconds") or own)
    if saved is None:
        return f"An epoch takes {figure(own)} s with the policy {name}"
    change = f"{percent(abs(saved))} % {'less' if saved >= 0 else 'more'}"
    return f"With the policy {name} an epoch takes {figure(own)} s, {change} than without a buffer"


def _tiles(summary: dict[str, Any]) -> tuple[Tile, ...]:
    epochs = summary.get("epochs") or []
    if not epochs:
        return ()
    return (
        Tile(name="test accuracy, %", value=percent(summary.get("test_accuracy"))),
        Tile(name="seconds an epoch", value=figure(steady(epochs, "seconds"))),
        Tile(name="hits among halo vertices, %", value=percent(steady(epochs, "halo_hit_rate"))),
        Tile(name="rows kept", value=count(summary.get("buffer_rows"))),
    )


def _policies(title: str, folder: RunFolder) -> Section:
    found = trainings(folder)
    slowest = max(steady(epochs, "seconds") or 0.0 for epochs in found.values())
    rows = tuple(_policy(name, epochs, slowest) for name, epochs in found.items())
    columns = (
        "policy",
        "epoch\ns",
        "halo hits\n%",
        "remote hits\n%",
        "pulled\nMB an epoch",
        "look-up,\ncopy, s",
        "possible\nsaving, s",
        "loss",
    )
    caption = (
        "Means over the epochs after the first; the loss is that of the last one. Look-up and copy run on the "
        "preparing thread, mostly hidden behind training; the next column bounds how much they lengthen an epoch."
    )
    return Section(title=title, blocks=(DataTable(columns=columns, rows=rows, caption=caption),))


def _policy(name: str, epochs: list[dict[str, Any]], slowest: float) -> TableRow:
    seconds, pulled = steady(epochs, "seconds"), steady(epochs, "remote_bytes")
    overhead = (steady(epochs, "lookup_s") or 0.0) + (steady(epochs, "copy_s") or 0.0)
    cells = (
        Cell(text=figure(seconds), share=(seconds or 0.0) / slowest if slowest else None),
        Cell(text=percent(steady(epochs, "halo_hit_rate"))),
        Cell(text=percent(steady(epochs, "remote_hit_rate"))),
        Cell(text=UNKNOWN if pulled is None else figure(pulled / 1e6)),
        Cell(text=figure(overhead)),
        Cell(text=figure(steady(epochs, "overhead_s"))),
        Cell(text=figure(epochs[-1].get("loss"))),
    )
    return TableRow(name=name, cells=cells)


def _time(title: str, folder: RunFolder) -> Section:
    found = trainings(folder)
    charts = []
    for names, who in ((TIMES, "the thread that prepares batches"), (MAIN, "the thread that trains")):
        values = [
            StackedBar(label=policy, parts=tuple(steady(epochs, key) or 0.0 for key in names))
            for policy, epochs in found.items()
        ]
        svg = stacked_bars(values, names=tuple(names.values()), x_label="seconds an epoch")
        charts.append(Chart(svg=svg, caption=f"Of {who}."))
    return Section(title=title, lead=_TIME, blocks=tuple(charts))


def _lines(folder: RunFolder, key: str, scale: float = 1.0) -> list[Curve]:
    """Return a figure of each policy over the epochs in which it is known; Missing if it is never known."""
    lines = []
    for policy, epochs in trainings(folder).items():
        known = [(index + 1, row[key] * scale) for index, row in enumerate(epochs) if row.get(key) is not None]
        if known:
            x, y = zip(*known, strict=True)
            lines.append(Curve(label=policy, x=x, y=y))
    if not lines:
        raise Missing("nothing was counted")
    return lines


def _hits(title: str, folder: RunFolder) -> Section:
    lead = (
        "The halo are the vertices of other machines beside an own one; batches of several layers also reach further "
        "ones, which the remote hit rate counts as well."
    )
    blocks = [
        Chart(svg=curves(_lines(folder, key, 100), x_label="epoch", y_label="found in the buffer, %"), caption=caption)
        for key, caption in (("halo_hit_rate", "Of halo vertices."), ("remote_hit_rate", "Of all remote vertices."))
    ]
    return Section(title=title, lead=lead, blocks=tuple(blocks))


def _bytes(title: str, folder: RunFolder) -> Section:
    svg = curves(_lines(folder, "remote_bytes", 1e-6), x_label="epoch", y_label="MB pulled")
    return Section(title=title, blocks=(Chart(svg=svg, caption="Features only, over all trainers."),))


def _training(title: str, folder: RunFolder) -> Section:
    blocks = [Chart(svg=curves(_lines(folder, "loss"), x_label="epoch", y_label="loss"), caption="Mean of an epoch.")]
    if any("accuracy" in row for epochs in trainings(folder).values() for row in epochs):
        svg = curves(_lines(folder, "accuracy", 100), x_label="epoch", y_label="accuracy, %")
        blocks.append(Chart(svg=svg, caption="On the validation vertices."))
    return Section(title=title, blocks=tuple(blocks))


def _partition(title: str, folder: RunFolder) -> Section:
    facts = folder.mapping("summary.json").get("partition")
    if not facts:
        raise Missing("the graph has not been cut yet")
    parts = list(enumerate(facts["parts"]))
    values = [StackedBar(label=str(index), parts=(part["inner"], part["halo"])) for index, part in parts]
    svg = flows(
        [part.get("cut_from", [0] * len(parts)) for _, part in parts],
        values,
        names=("own vertices", "halo"),
        labels=("edges from machine", "edges to machine", "vertices"),
    )
    lead = (
        f"{count(facts['vertices'])} vertices and {count(facts['edges'])} edges in {len(values)} parts by "
        f"{facts['method']}; {percent(facts['cut'])} % of the edges are cut."
    )
    rows = tuple(
        TableRow(
            name=str(index), cells=tuple(Cell(text=count(part[key])) for key in ("inner", "halo", "edges", "train"))
        )
        for index, part in parts
    )
    table = DataTable(columns=("machine", "vertices", "halo", "edges", "training vertices"), rows=rows)
    return Section(title=title, lead=lead, blocks=(Chart(svg=svg, caption=_CUT), table))


def _made(title: str, folder: RunFolder) -> Section:
    configuration = folder.mapping("run.json").get("configuration", {})
    train, buffer = configuration.get("train", {}), configuration.get("buffer", {})
    own = {
        "model": train.get("model"),
        "batch": train.get("batch"),
        "fanout": train.get("fanout"),
        "policy": buffer.get("policy"),
        "fraction of the halo": buffer.get("fraction"),
        "training time": duration(sum(row.get("seconds", 0.0) for row in folder.rows("epochs.json"))),
    }
    items = tuple((name, str(value)) for name, value in own.items() if value is not None)
    return Section(title=title, blocks=(KeyValues(items=items + folder.facts()),))
