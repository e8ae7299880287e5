"""The files of a graph, wherever they lie; what the readers of the layouts return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quatrain.graph.dataset.arrays import ArrayFile


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphFiles:
    """Arrays of a graph that were found, but not read."""

    name: str
    edges: ArrayFile
    features: ArrayFile
    labels: ArrayFile
    splits: Mapping[str, ArrayFile]
    """Ids or masks of train, valid and test; empty if the splits are drawn."""
    split: str
    """Which split is taken: a name, a column of a mask, or percentages."""
    vertex_count: int | None = None
    edge_count: int | None = None
    """Numbers of vertices and edges, if small files of the layout name them."""
    classes: int | None = None
    """Number of classes of a published data set."""
    warnings: tuple[str, ...] = ()

    def feature_shape(self) -> tuple[int, ...]:
        """Return the shape of the features without their content."""
        if self.features.is_text and self.vertex_count is not None:
            return self.vertex_count, self.features.form().columns
        return self.features.shape()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        arrays = (self.edges, self.features, self.labels, *self.splits.values())
        return tuple(dict.fromkeys(array.path for array in arrays))
