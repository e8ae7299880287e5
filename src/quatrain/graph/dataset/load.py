"""From `--data` to a checked graph."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from quatrain.errors import UsageError
from quatrain.files import fingerprint
from quatrain.graph.config import GnnConfig
from quatrain.graph.dataset import folder, ogb, synthetic
from quatrain.graph.dataset.arrays import ArrayFile, Ints, whole_numbers
from quatrain.graph.dataset.files import GraphFiles
from quatrain.graph.dataset.graph import Graph, check
from quatrain.graph.dataset.labels import Classes, classes_of
from quatrain.graph.dataset.splits import draw, problem, vertex_ids

ENDS = (
    ("source", "src", "from", "u", "source_id", "fromnodeid"),
    ("target", "dst", "to", "v", "target_id", "tonodeid"),
)
"""Names of the two columns of an edge that are known."""


def open_graph(config: GnnConfig, cache: Path) -> Graph:
    """Return the graph that `config` names, checked; a synthetic one is written under `cache` first.

    Raises
    ------
    UsageError
        When the path holds no graph, or one whose parts do not fit together.
    """
    path = _synthetic(config, cache) if config.data.startswith("made:") else Path(config.data)
    return read_graph(path, config.split, config.split_seed)


def read_graph(path: Path, split: str | None = None, seed: int = 0) -> Graph:
    """Return the graph of a folder, checked; UsageError as in open_graph.

    `split` is the name of an OGB split, a column of a mask, or percentages drawn by `seed`.
    """
    files = locate(path, split)
    try:
        ends = edge_columns(files.edges)
        features = files.features.table()
        if features.dtype.kind not in "biuf":
            raise ValueError(f"features are of the type {features.dtype}; give real numbers")
        classes, splits, warnings = read_vertices(files, tuple(features.shape), seed)
        edges = read_edges(files.edges, ends)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"graph {files.name!r}: {one_line(error)}") from error
    drawn = f"{files.split} drawn with seed {seed}" if not files.splits else files.split
    graph = check(
        Graph(
            name=files.name, edges=edges, features=features, labels=classes.labels, classes=classes.count,
            class_names=classes.names, splits=splits, split=drawn, warnings=warnings, files=files.paths,
        )
    )  # fmt: skip
    return replace(graph, warnings=(*warnings, *edge_warnings(edges, graph.vertices)))


def edge_warnings(edges: Ints, vertices: int) -> tuple[str, ...]:
    """Return how many edges (2, E) are self loops or repeats, and how many vertices have no edge."""
    source, target = edges
    key = source * vertices + target
    counts = {
        "self loops are removed": int((source == target).sum()),
        "repeated edges count once": len(key) - len(np.unique(key)),
        "vertices have no edge": int((np.bincount(edges.reshape(-1), minlength=vertices) == 0).sum()),
    }
    return tuple(f"{count:,} {what}" for what, count in counts.items() if count)


def locate(path: Path, split: str | None) -> GraphFiles:
    """Return the files of a graph; UsageError when the folder or one of its files is missing."""
    if not path.is_dir():
        raise UsageError(f"there is no graph {str(path)!r}: give a folder, made:community or made:rmat")
    try:
        return ogb.locate(path, split) if ogb.is_ogb(path) else folder.locate(path, split)
    except ValueError as error:
        raise UsageError(str(error)) from error


def read_vertices(
    files: GraphFiles, shape: tuple[int, ...], seed: int
) -> tuple[Classes, dict[str, Ints], tuple[str, ...]]:
    """Return classes, splits and warnings; `shape` is that of the features.

    Raises
    ------
    ValueError
        When labels, splits and features do not fit together.
    """
    classes = classes_of(files.labels.read(), files.classes)
    vertices = len(classes.labels)
    if len(shape) != 2 or not shape[1]:
        raise ValueError(f"features have the shape {shape}; give one row per vertex")
    if shape[0] != vertices:
        raise ValueError(
            f"features are of {shape[0]:,} vertices and labels of {vertices:,}: give each vertex one row of both"
        )
    warnings = [*files.warnings, *classes.warnings]
    if files.splits:
        splits = {}
        for name, file in files.splits.items():
            splits[name], found = vertex_ids(file.read(), vertices, name, files.split)
            warnings += found
    else:
        splits = draw(files.split, classes.labels, seed)
    if wrong := problem(splits, classes.labels):
        raise ValueError(wrong)
    seen = np.bincount(classes.labels[splits["train"]], minlength=classes.count)
    unseen = int((seen[classes.labels[splits["test"]]] == 0).sum())
    if unseen:
        warnings.append(f"{unseen:,} test vertices have a class that no training vertex has")
    return classes, splits, tuple(warnings)


def edge_columns(file: ArrayFile) -> tuple[int, int] | None:
    """Return which columns of a text file are source and target, None for a binary file.

    Raises
    ------
    ValueError
        When there are more than two columns and the header does not name source and target.
    """
    if not file.is_text:
        shape = file.shape()
        if len(shape) != 2 or 2 not in shape:
            raise ValueError(f"edges have the shape {shape}; give two columns")
        return None
    form = file.form()
    found = [next((form.names.index(name) for name in known if name in form.names), None) for known in ENDS]
    if None not in found and form.names:
        return found[0], found[1]  # type: ignore[return-value]  # both are there
    if form.columns == 2:
        return 0, 1
    if form.names:
        raise ValueError(f"edges have the columns {', '.join(form.names)}; name two of them source and target")
    raise ValueError(f"edges have {form.columns} columns; give two, or a header with source and target")


def read_edges(file: ArrayFile, columns: tuple[int, int] | None) -> Ints:
    """Return sources above targets, int64 (2, E); ValueError when one is not a whole number."""
    pairs = whole_numbers(file.read(columns), "edges", "edge")
    return np.ascontiguousarray(pairs if columns is None and pairs.shape[0] == 2 != pairs.shape[1] else pairs.T)


def one_line(error: Exception) -> str:
    """Return the first line of an error's text, or its kind if it has none."""
    lines: Sequence[str] = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _synthetic(config: GnnConfig, cache: Path) -> Path:
    kind = config.data.partition(":")[2]
    place = cache / f"{kind}_{fingerprint({'kind': kind, 'made': config.made})}"
    if not (place / "RELEASE_v1.txt").exists():  # written last
        synthetic.make(kind, config.made, place)
    return place
