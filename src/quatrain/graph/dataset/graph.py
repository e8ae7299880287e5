"""A graph as training needs it, read from OGB's layouts, a plain folder, or made; features stay on disk.

V vertices, E edges, F features.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from quatrain.errors import UsageError
from quatrain.files import fingerprint, plain

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

PARTS = ("train", "valid", "test")
SLICE_BYTES = 1 << 26


class FeatureTable(Protocol):
    """What numpy arrays, memory maps and HDF5 datasets have in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    @property
    def dtype(self) -> Any:
        """The type of a value."""

    def __getitem__(self, key: Any) -> Any:
        """Return a slice of rows."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Edges, labels and splits in memory; features by slices of rows."""

    name: str
    edges: Ints
    """(2, E): sources above targets."""
    features: FeatureTable
    """(V, F), any floating type."""
    labels: Ints
    """(V,): -1 where unknown."""
    splits: dict[str, Ints]
    """Vertices of `train`, `valid` and `test`."""
    files: tuple[Path, ...]
    """What it was read from."""

    @property
    def vertices(self) -> int:
        """Number of vertices."""
        return len(self.labels)

    @property
    def classes(self) -> int:
        """Number of labels."""
        return int(self.labels.max()) + 1

    def identity(self, **more: object) -> str:
        """Return hexadecimal digits that stand for the content of its files and for `more`."""
        digest = hashlib.blake2b(fingerprint(plain(more)).encode(), digest_size=8)
        for path in self.files:
            with path.open("rb") as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
        return digest.hexdigest()

    def slices(self) -> Iterator[tuple[int, Floats]]:
        """Yield the first row and the rows, float32, of successive slices of the features."""
        height = rows_of_slice(self.features)
        for start in range(0, self.features.shape[0], height):
            yield start, np.asarray(self.features[start : start + height], dtype=np.float32)

    def rows(self, vertices: Ints) -> Floats:
        """Return the features of some vertices, float32 (n, F), read by slices and put in the order asked for."""
        order = np.argsort(vertices, kind="stable")
        wanted, height = vertices[order], rows_of_slice(self.features)
        result = np.empty((len(vertices), self.features.shape[1]), np.float32)
        borders = np.searchsorted(wanted, np.arange(0, self.features.shape[0] + height, height))
        for index, (low, high) in enumerate(itertools.pairwise(borders)):
            if low < high:
                start = index * height
                part = np.asarray(self.features[start : start + height], dtype=np.float32)
                result[order[low:high]] = part[wanted[low:high] - start]
        return result


def rows_of_slice(features: FeatureTable) -> int:
    """Return how many rows are read at a time."""
    return max(1, SLICE_BYTES // (4 * features.shape[1]))


def check(graph: Graph) -> Graph:
    """Return the graph when its parts fit together.

    Raises
    ------
    UsageError
        When lengths differ, an edge or split leads to a vertex that is not there, a feature is not finite, or there
        is nothing to train on.
    """
    for find in (_lengths, _edges, _splits, _labels, _finite):  # each relies on those before it
        if problem := find(graph):
            raise UsageError(f"graph {graph.name!r}: {problem}")
    return graph


def _lengths(graph: Graph) -> str:
    if len(graph.features.shape) != 2 or not graph.features.shape[1]:
        return f"features have the shape {tuple(graph.features.shape)}; give a row a vertex"
    if graph.features.shape[0] != graph.vertices:
        return (
            f"features are of {graph.features.shape[0]:,} vertices and labels of {graph.vertices:,}: "
            "give each vertex one row of both"
        )
    return ""


def _edges(graph: Graph) -> str:
    if not graph.edges.size:
        return "it has no edges"
    low, high = int(graph.edges.min()), int(graph.edges.max())
    if low < 0 or high >= graph.vertices:
        wrong = low if low < 0 else high
        return f"an edge leads to vertex {wrong}, but features and labels are of vertices 0 to {graph.vertices - 1}"
    return ""


def _splits(graph: Graph) -> str:
    for name in PARTS:
        ids = graph.splits[name]
        if not len(ids):
            return f"split {name!r} is empty"
        if ids.min() < 0 or ids.max() >= graph.vertices:
            return f"split {name!r} names vertex {ids.max()}, but vertices are 0 to {graph.vertices - 1}"
    return ""


def _labels(graph: Graph) -> str:
    unknown = [name for name in PARTS if (graph.labels[graph.splits[name]] < 0).any()]
    return f"split {unknown[0]!r} holds vertices without a label" if unknown else ""


def _finite(graph: Graph) -> str:
    for start, rows in graph.slices():
        if not np.isfinite(rows).all():
            vertex, feature = (int(i[0]) for i in np.nonzero(~np.isfinite(rows)))
            value = rows[vertex, feature]
            return f"feature {feature} of vertex {start + vertex} is {value}: replace it by a number"
    return ""


def missing(folder: Path, names: Sequence[str]) -> list[str]:
    """Return those of `names` that a folder does not hold."""
    return [name for name in names if not (folder / name).is_file()]
