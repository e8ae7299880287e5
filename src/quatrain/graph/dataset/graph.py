"""A graph as training needs it, read from OGB's layouts, a plain folder, or synthetic; features stay on disk.

V vertices, E edges, F features.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quatrain.errors import UsageError
from quatrain.files import fingerprint, plain
from quatrain.graph.dataset.arrays import FeatureTable, Ints

Floats = npt.NDArray[np.float32]

SLICE_BYTES = 1 << 26
READER = 2
"""Number of the rules by which files are read; parts that were cut under other rules are not used again."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Edges, labels and splits in memory; features by slices of rows."""

    name: str
    edges: Ints
    """(2, E): sources above targets."""
    features: FeatureTable
    """(V, F), of any type of numbers."""
    labels: Ints
    """(V,): 0 to `classes` - 1, -1 where unknown."""
    classes: int
    class_names: tuple[int | str, ...] | None
    """What the files call each class, if the classes were renumbered."""
    splits: dict[str, Ints]
    """Sorted vertices of `train`, `valid` and `test`."""
    split: str
    """Source of the splits: a name, a column of a mask, or percentages with their seed."""
    warnings: tuple[str, ...]
    files: tuple[Path, ...]
    """What it was read from."""

    @property
    def vertices(self) -> int:
        """Number of vertices."""
        return len(self.labels)

    def identity(self, **more: object) -> str:
        """Return hexadecimal digits that identify the content of its files, the split and `more`."""
        digest = hashlib.blake2b(
            fingerprint(plain({**more, "split": self.split, "reader": READER})).encode(), digest_size=8
        )
        for path in self.files:
            with path.open("rb") as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
        return digest.hexdigest()

    def slices(self) -> Iterator[tuple[int, Floats]]:
        """Yield the first row and the rows, float32, of successive slices of the features."""
        height = rows_of_slice(self.features)
        for start in range(0, self.features.shape[0], height):
            with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, which the check reports
                yield start, np.asarray(self.features[start : start + height], dtype=np.float32)

    def rows(self, vertices: Ints) -> Floats:
        """Return the features of some vertices, float32 (n, F), read by slices, in the order of `vertices`."""
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
    """Return the graph if its edges lead to its vertices and its features are finite, UsageError otherwise."""
    if problem := _edges(graph) or _finite(graph):
        raise UsageError(f"graph {graph.name!r}: {problem}")
    return graph


def _edges(graph: Graph) -> str:
    if not graph.edges.size:
        return "it has no edges"
    low, high, last = int(graph.edges.min()), int(graph.edges.max()), graph.vertices - 1
    if low >= 0 and high <= last:
        return ""
    wrong = int(((graph.edges < 0) | (graph.edges > last)).any(axis=0).sum())
    found = f"{wrong:,} edges lead to vertices outside 0 to {last:,} (edges name {low:,} to {high:,})"
    if low < 0:
        return f"{found}: negative ids are often an overflow of int32; store int64"
    if (low, high) == (1, last + 1):
        return f"{found}: ids seem to begin at 1, subtract 1"
    return f"{found}: number the vertices in the order of the rows of features and labels"


def _finite(graph: Graph) -> str:
    wrong, first = 0, ""
    for start, rows in graph.slices():
        bad = ~np.isfinite(rows)
        if bad.any():
            vertex, feature = (int(i[0]) for i in np.nonzero(bad))
            first = first or f"feature {feature} of vertex {start + vertex} is {rows[vertex, feature]}"
            wrong += int(bad.any(axis=1).sum())
    return f"{first} ({wrong:,} such vertices): replace it by a number" if wrong else ""
