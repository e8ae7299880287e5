"""A plain folder as a graph: edges, features, labels and splits, one file each.

edges.npy|csv|tsv|txt         (E, 2) or (2, E); text may have a header, and more columns if it names two
features.npy|csv|h5           (V, F); of an HDF5 file the dataset `features`, or its only one
labels.npy|csv                (V,)
train, valid, test .npy|csv   ids, or a mask with one value per vertex; also train_mask, val, val_mask, test_mask
"""

from __future__ import annotations

from pathlib import Path

from quatrain.errors import UsageError
from quatrain.graph.dataset.arrays import ArrayFile, candidates
from quatrain.graph.dataset.files import GraphFiles
from quatrain.graph.dataset.splits import PARTS, shares

SUFFIXES = {
    "edges": (".npy", ".csv", ".tsv", ".txt"),
    "features": (".npy", ".csv", ".h5"),
    "labels": (".npy", ".csv", ".txt"),
}
SPLIT_NAMES = {"train": ("train", "train_mask"), "valid": ("valid", "val", "valid_mask", "val_mask"),
               "test": ("test", "test_mask")}  # fmt: skip
SPLIT_SUFFIXES = (".npy", ".csv", ".txt")


def locate(folder: Path, split: str | None) -> GraphFiles:
    """Return the files of a plain folder; raise UsageError with every file that is missing."""
    found = {name: next(candidates(folder, [name], suffixes), None) for name, suffixes in SUFFIXES.items()}
    parts = {part: next(candidates(folder, SPLIT_NAMES[part], SPLIT_SUFFIXES), None) for part in PARTS}
    drawn = split is not None and shares(split) is not None
    lacking = [
        f"{name}{' or '.join(SUFFIXES.get(name, SPLIT_SUFFIXES)[:2])}"
        for name, path in {**found, **({} if drawn else parts)}.items()
        if path is None
    ]
    if lacking:
        hint = "; --split 60/20/20 draws splits" if None in parts.values() and not drawn else ""
        raise UsageError(
            f"{str(folder)!r} is not a whole graph, it lacks {', '.join(lacking)} "
            f"(an OGB folder has raw/ and split/){hint}"
        )
    edges, features, labels = (ArrayFile(path, "features") for path in found.values() if path is not None)
    splits = {} if drawn else {part: ArrayFile(path) for part, path in parts.items() if path is not None}
    return GraphFiles(
        name=folder.name, edges=edges, features=features, labels=labels, splits=splits, split=split or "files"
    )
