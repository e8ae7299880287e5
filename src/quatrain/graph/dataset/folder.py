"""A plain folder as a graph: edges.npy|csv, features.npy|h5, labels.npy|csv and {train,valid,test}.npy|csv.

edges hold a row (source, target) an edge, or two rows; features of an HDF5 file are its dataset `features`, or its only
one. CSV files have no header.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from quatrain.errors import UsageError
from quatrain.graph.dataset.graph import PARTS, FeatureTable, Graph, Ints
from quatrain.graph.dataset.ogb import whole

KINDS = {"edges": ("npy", "csv"), "features": ("npy", "h5"), "labels": ("npy", "csv")} | dict.fromkeys(
    PARTS, ("npy", "csv")
)


def read(folder: Path) -> Graph:
    """Read a plain folder; raise UsageError with every file that is missing, or cannot be read."""
    paths = {name: _find(folder, name) for name in KINDS}
    lacking = [" or ".join(f"{name}.{kind}" for kind in KINDS[name]) for name, path in paths.items() if path is None]
    if lacking:
        raise UsageError(
            f"{str(folder)!r} is no graph, it lacks {', '.join(lacking)} (an OGB folder has raw/ and split/)"
        )
    found = {name: path for name, path in paths.items() if path is not None}
    try:
        edges = _edges(_array(found["edges"]))
        labels = whole(_array(found["labels"]).reshape(-1))
        splits = {part: _array(found[part]).reshape(-1).astype(np.int64) for part in PARTS}
        features = _features(found["features"])
    except (ValueError, KeyError, OSError) as error:
        raise UsageError(f"{str(folder)!r} does not read as a graph: {error}") from error
    return Graph(
        name=folder.name, edges=edges, features=features, labels=labels, splits=splits, files=tuple(found.values())
    )


def _find(folder: Path, name: str) -> Path | None:
    return next((path for kind in KINDS[name] if (path := folder / f"{name}.{kind}").is_file()), None)


def _array(path: Path) -> npt.NDArray[Any]:
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    return np.loadtxt(path, delimiter=",", ndmin=2)


def _edges(pairs: npt.NDArray[Any]) -> Ints:
    if pairs.ndim != 2 or 2 not in pairs.shape:
        raise ValueError(f"edges have the shape {pairs.shape}; give two columns")
    return np.ascontiguousarray((pairs if pairs.shape[0] == 2 and pairs.shape[1] != 2 else pairs.T).astype(np.int64))


def _features(path: Path) -> FeatureTable:
    if path.suffix == ".npy":
        rows: FeatureTable = np.load(path, mmap_mode="r", allow_pickle=False)
        return rows
    file = h5py.File(path, "r")  # stays open as long as the dataset is in use
    names = [name for name, item in file.items() if isinstance(item, h5py.Dataset)]
    name = "features" if "features" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise KeyError(f"{path.name} holds {', '.join(names) or 'nothing'}; name one dataset 'features'")
    dataset: FeatureTable = file[name]
    return dataset
