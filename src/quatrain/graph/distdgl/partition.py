"""A graph in parts, one per machine, in DistDGL's file format; features are written slice by slice.

    FOLDER/graph.json            DistDGL's description of the parts
    FOLDER/partI/                structure (with one hop of halo vertices), features and labels of a part
    FOLDER/splits.npz            train, valid, test: vertices by their new numbers, sorted
    FOLDER/facts.json            the graph and the numbers of each part

Vertices are renumbered, so that those of a part are consecutive.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quatrain.errors import UsageError
from quatrain.files import read_json, write_json
from quatrain.graph.dataset.arrays import Ints
from quatrain.graph.dataset.graph import Graph
from quatrain.graph.dataset.splits import PARTS
from quatrain.graph.distdgl.import_dgl import dgl

FEATURES, LABELS = "features", "labels"
"""Names of a vertex's data in DistDGL."""
NAME = "graph"


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionFacts:
    """Description of a folder of parts."""

    graph: str
    """Hash of the graph's content, the method and the number of parts."""
    method: str
    vertices: int
    edges: int
    features: int
    classes: int
    cut: float
    """Share of the edges whose ends lie in different parts."""
    parts: tuple[dict[str, Any], ...]
    """inner and halo vertices, edges and training vertices of each part, and `cut_from` and `halo_from`: how many of
    its edges and of its halo's vertices begin in, or belong to, each part."""

    @property
    def balance(self) -> float:
        """Inner vertices of the largest part over those of the mean."""
        largest: int = max(part["inner"] for part in self.parts)
        return largest * len(self.parts) / self.vertices


def partition(graph: Graph, *, method: str, parts: int, undirected: bool, folder: Path | None, cache: Path) -> Path:
    """Return the folder of a graph's parts; cut the graph if no earlier run has.

    Without a `folder` they lie under `cache`, by the hash of the graph's content.

    Raises
    ------
    UsageError
        When `folder` holds parts of another graph, or the graph has too few vertices.
    """
    identity = graph.identity(method=method, parts=parts, undirected=undirected)
    place = folder or cache / f"{graph.name}-{method}-{parts}-{identity}"
    if (place / "facts.json").exists():
        held = read_facts(place)
        if held.graph != identity:
            raise UsageError(
                f"{str(place)!r} holds parts of another graph or cut ({held.graph}, not {identity}): "
                "give another --partition.folder, or remove this one"
            )
        return place
    if place.exists() and any(place.iterdir()):
        raise UsageError(f"{str(place)!r} holds no parts but other files: give another --partition.folder")
    if len(graph.splits["train"]) < parts:
        raise UsageError(f"{len(graph.splits['train'])} training vertices are too few for {parts} parts")
    _cut(graph, identity, method, parts, undirected, place)
    return place


def read_facts(folder: Path) -> PartitionFacts:
    """Return facts.json of a folder of parts; UsageError when the folder holds no parts."""
    try:
        record = read_json(folder / "facts.json")
        return PartitionFacts(**{**record, "parts": tuple(record["parts"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{str(folder)!r} holds no parts of a graph: {error}") from error


def table(facts: PartitionFacts) -> str:
    """Return the facts as text: one line per part, then the cut and the balance."""
    lines = [f"{'part':>6}{'vertices':>12}{'halo':>12}{'halo share':>12}{'edges':>14}{'training':>12}"]
    for index, part in enumerate(facts.parts):
        share = part["halo"] / max(1, part["inner"])
        numbers = f"{part['inner']:>12,}{part['halo']:>12,}{share:>12.1%}{part['edges']:>14,}{part['train']:>12,}"
        lines.append(f"{index:>6}{numbers}")
    lines.append(
        f"{facts.vertices:,} vertices, {facts.edges:,} edges, {facts.method}: {facts.cut:.1%} of the edges are cut, "
        f"the largest part has {facts.balance:.2f} x the mean"
    )
    return "\n".join(lines)


def _cut(graph: Graph, identity: str, method: str, parts: int, undirected: bool, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".parts-") as name:
        work = Path(name)
        original, edges = _structure(graph, method, parts, undirected, work)
        renumbered = np.empty(graph.vertices, np.int64)
        renumbered[original] = np.arange(graph.vertices)
        splits = {part: np.sort(renumbered[graph.splits[part]]) for part in PARTS}
        np.savez(work / "splits.npz", train=splits["train"], valid=splits["valid"], test=splits["test"])
        ranges = read_json(work / f"{NAME}.json")["node_map"]["_N"]
        rows = [_part(graph, original, splits["train"], work, index, ranges) for index in range(len(ranges))]
        cut = sum(sum(row["cut_from"]) for row in rows) / max(1, edges)
        facts = PartitionFacts(
            graph=identity, method=method, vertices=graph.vertices, edges=edges, features=graph.features.shape[1],
            classes=graph.classes, cut=cut, parts=tuple(rows),
        )  # fmt: skip
        write_json(work / "facts.json", facts)
        place.mkdir(exist_ok=True)
        for item in sorted(work.iterdir(), key=lambda path: path.name == "facts.json"):  # facts.json last
            shutil.move(item, place / item.name)


def _structure(graph: Graph, method: str, parts: int, undirected: bool, folder: Path) -> tuple[Ints, int]:
    """Partition the structure with DGL; return the old number of each new vertex, and the number of edges."""
    whole = _simple(graph, undirected)
    train = torch.zeros(graph.vertices, dtype=torch.bool)
    train[torch.from_numpy(graph.splits["train"])] = True
    with contextlib.redirect_stdout(io.StringIO()):
        old, _ = dgl.distributed.partition_graph(
            whole,
            NAME,
            parts,
            str(folder),
            part_method=method,
            balance_ntypes=train if method == "metis" and parts > 1 else None,
            balance_edges=method == "metis" and parts > 1,
            return_mapping=True,
        )
    _relative(folder)
    return old.numpy(), whole.num_edges()


def _simple(graph: Graph, undirected: bool) -> Any:
    """Return the graph without self loops and repeated edges; with the reverse of each edge if undirected."""
    source, target = (torch.from_numpy(row) for row in graph.edges)
    if undirected:
        source, target = torch.cat([source, target]), torch.cat([target, source])
    kept = source != target
    key = torch.unique(source[kept] * graph.vertices + target[kept])
    return dgl.graph((key // graph.vertices, key % graph.vertices), num_nodes=graph.vertices)


def _relative(folder: Path) -> None:
    """Make the paths in the description relative to it, so that the folder can be moved."""
    path = folder / f"{NAME}.json"
    text = json.dumps(read_json(path), indent=2).replace(json.dumps(str(folder.resolve()) + os.sep)[1:-1], "")
    path.write_text(text, encoding="utf8")


def _part(
    graph: Graph, original: Ints, train: Ints, folder: Path, index: int, ranges: list[list[int]]
) -> dict[str, Any]:
    """Add features and labels to a part's file; return the numbers of the part."""
    low, high = ranges[index]
    vertices = original[low:high]
    data: dict[str, Tensor] = {
        f"_N/{FEATURES}": torch.from_numpy(graph.rows(vertices)),
        f"_N/{LABELS}": torch.from_numpy(graph.labels[vertices]),
    }
    dgl.data.utils.save_tensors(str(folder / f"part{index}" / "node_feat.dgl"), data)
    (structure,), _ = dgl.load_graphs(str(folder / f"part{index}" / "graph.dgl"))
    inner = structure.ndata["inner_node"].bool()
    source, _ = structure.edges()
    outside = structure.ndata[dgl.NID][~inner].numpy()
    begins = structure.ndata[dgl.NID][source[~inner[source]]].numpy()
    return {
        "inner": int(inner.sum()),
        "halo": int((~inner).sum()),
        "edges": structure.num_edges(),
        "train": int(np.searchsorted(train, high) - np.searchsorted(train, low)),
        "cut_from": _by_part(begins, ranges),
        "halo_from": _by_part(outside, ranges),
    }


def _by_part(vertices: Ints, ranges: list[list[int]]) -> list[int]:
    """Return how many vertices belong to each part."""
    owners = np.searchsorted([low for low, _ in ranges], vertices, side="right") - 1
    return [int(count) for count in np.bincount(owners, minlength=len(ranges))]
