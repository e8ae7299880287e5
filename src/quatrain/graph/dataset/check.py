"""What `quatrain check` reports of a graph folder; needs neither torch nor DGL."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from quatrain.errors import UsageError
from quatrain.graph.dataset.load import edge_columns, locate, one_line, read_edges, read_vertices


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphCheck:
    """Sizes of a graph folder, warnings, and why it cannot be used."""

    vertices: int | None = None
    edges: int | None = None
    """As many as the files list, before repeats and self loops are removed."""
    classes: int | None = None
    splits: dict[str, int] = field(default_factory=dict)
    """Number of vertices of train, valid and test."""
    warnings: tuple[str, ...] = ()
    error: str | None = None
    """One line, None if the graph can be used."""


def check_graph(path: str | Path, split: str | None = None, seed: int = 0) -> GraphCheck:
    """Return what a graph folder holds, without reading its edges and features; nothing is raised for bad files.

    Labels and splits are read, of edges and features only headers: lines of text are counted, and edges in a binary
    file of a floating type are read. `split` and `seed` are those of `quatrain.graph.dataset.load.read_graph`, which
    checks the ids of edges and the values of features.
    """
    try:
        files = locate(Path(path), split)
        columns = edge_columns(files.edges)
        if columns is None and files.edges.table().dtype.kind == "f":
            read_edges(files.edges, columns)
        classes, splits, warnings = read_vertices(files, files.feature_shape(), seed)
        edges = files.edge_count
        if edges is None:
            shape = files.edges.shape()
            edges = shape[1] if columns is None and shape[0] == 2 != shape[1] else shape[0]
    except (UsageError, ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        return GraphCheck(error=one_line(error))
    return GraphCheck(
        vertices=len(classes.labels),
        edges=edges,
        classes=classes.count,
        splits={name: len(ids) for name, ids in splits.items()},
        warnings=warnings,
        error=None if edges else "the graph has no edges",
    )
