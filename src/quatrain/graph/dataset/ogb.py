"""OGB's node-property layouts, read without the ogb package, whose reader asks on stdin and tries the network.

Text (ogbn-arxiv, ogbn-products): raw/{edge,node-feat,node-label,num-node-list}.csv.gz. Binary (ogbn-papers100M):
raw/data.npz with edge_index, node_feat and num_nodes_list, and raw/node-label.npz. Both: split/NAME/{train,valid,
test}.csv.gz.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quatrain.errors import UsageError
from quatrain.graph.dataset.graph import PARTS, Graph, Ints, missing

TEXT = ("raw/edge.csv.gz", "raw/node-feat.csv.gz", "raw/node-label.csv.gz")
BINARY = ("raw/data.npz", "raw/node-label.npz")
WHERE = "the archives of ogb.stanford.edu hold them"


def is_ogb(folder: Path) -> bool:
    """Tell whether a folder looks like OGB's: it has raw/ or split/."""
    return (folder / "raw").is_dir() or (folder / "split").is_dir()


def read(folder: Path) -> Graph:
    """Read an OGB folder; raise UsageError with every file that is missing."""
    binary = (folder / "raw" / "data.npz").exists() or (folder / "raw" / "node-label.npz").exists()
    names = BINARY if binary else TEXT
    splits = _split_folder(folder)
    lacking = missing(folder, [*names, *(f"{splits}/{part}.csv.gz" for part in PARTS)])
    if lacking:
        raise UsageError(f"{str(folder)!r} is no whole OGB graph, it lacks {', '.join(lacking)}: {WHERE}")
    files = tuple(folder / name for name in (*names, *(f"{splits}/{part}.csv.gz" for part in PARTS)))
    try:
        edges, features, labels = (_binary if binary else _text)(folder / "raw")
        parts = {part: _csv(folder / splits / f"{part}.csv.gz")[:, 0].astype(np.int64) for part in PARTS}
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{str(folder)!r} does not read as an OGB graph: {error}") from error
    return Graph(name=folder.name, edges=edges, features=features, labels=labels, splits=parts, files=files)


def _split_folder(folder: Path) -> str:
    found = sorted(path.name for path in (folder / "split").glob("*") if path.is_dir())
    return f"split/{found[0] if found else 'time'}"


def _text(raw: Path) -> tuple[Ints, Any, Ints]:
    edges = np.ascontiguousarray(_csv(raw / "edge.csv.gz").astype(np.int64).T)
    features = _csv(raw / "node-feat.csv.gz").astype(np.float32)
    return edges, features, whole(_csv(raw / "node-label.csv.gz")[:, 0])


def _csv(path: Path) -> npt.NDArray[Any]:
    import pandas as pd

    return np.asarray(pd.read_csv(path, header=None).to_numpy())


def _binary(raw: Path) -> tuple[Ints, Any, Ints]:
    with np.load(raw / "node-label.npz", allow_pickle=False) as file:
        labels = whole(file["node_label"].reshape(-1))
    with np.load(raw / "data.npz", allow_pickle=False) as file:
        edges = file["edge_index"].astype(np.int64, copy=False)
    return edges, mapped(raw / "data.npz", "node_feat"), labels


def whole(labels: npt.NDArray[Any]) -> Ints:
    """Return labels as int64, -1 where they are not a number."""
    return np.where(np.isnan(labels), -1, labels).astype(np.int64) if labels.dtype.kind == "f" else labels.astype("i8")


def mapped(path: Path, name: str) -> npt.NDArray[Any]:
    """Return an array of an npz file as a memory map; one that is compressed is read into memory."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, dtype = header(stream)
            length = stream.tell()
        if member.compress_type != zipfile.ZIP_STORED:
            with archive.open(member) as stream:
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
    offset = member.header_offset + 30 + lengths + length
    return np.memmap(path, dtype, "r", offset, shape, "F" if by_columns else "C")
