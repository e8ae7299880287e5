"""OGB's node-property layouts, read without ogb's own reader, which asks on stdin and tries the network.

Text (ogbn-arxiv, ogbn-products): raw/{edge,node-feat,node-label,num-node-list}.csv.gz. Binary (ogbn-papers100M):
raw/data.npz with edge_index, node_feat and num_nodes_list, and raw/node-label.npz. Both: split/NAME/{train,valid,
test}.csv.gz.
"""

from __future__ import annotations

from pathlib import Path

from quatrain.errors import UsageError, unknown
from quatrain.graph.dataset.arrays import ArrayFile
from quatrain.graph.dataset.files import GraphFiles
from quatrain.graph.dataset.ogb_package import ogb_table
from quatrain.graph.dataset.splits import PARTS, shares

TEXT = ("raw/edge.csv.gz", "raw/node-feat.csv.gz", "raw/node-label.csv.gz")
BINARY = ("raw/data.npz", "raw/node-label.npz")
SOURCE = "the archives of ogb.stanford.edu hold them"


def is_ogb(folder: Path) -> bool:
    """Return whether a folder looks like OGB's: it has raw/ or split/."""
    return (folder / "raw").is_dir() or (folder / "split").is_dir()


def locate(folder: Path, split: str | None) -> GraphFiles:
    """Return the files of an OGB folder; raise UsageError with every file that is missing.

    A folder with several splits needs `split`, the name of one.
    """
    entry = ogb_table().get(folder.name)
    if (entry and entry.heterogeneous) or (folder / "raw" / "triplet-type-list.csv.gz").exists():
        raise UsageError(f"{str(folder)!r} has several types of vertices and edges; gnn takes graphs of one type")
    if entry and entry.tasks > 1:
        raise UsageError(f"{entry.name} has {entry.tasks} targets per vertex; gnn learns one class per vertex")
    raw = folder / "raw"
    binary = (raw / "data.npz").exists() or (raw / "node-label.npz").exists()
    drawn = split is not None and shares(split) is not None
    parts = {} if drawn else {part: f"split/{_split_name(folder, split)}/{part}.csv.gz" for part in PARTS}
    lacking = [name for name in (*(BINARY if binary else TEXT), *parts.values()) if not (folder / name).is_file()]
    if lacking:
        raise UsageError(f"{str(folder)!r} is not a whole OGB graph, it lacks {', '.join(lacking)}: {SOURCE}")
    splits = {part: ArrayFile(folder / name) for part, name in parts.items()}
    if binary:
        data = raw / "data.npz"
        arrays = (ArrayFile(data, "edge_index"), ArrayFile(data, "node_feat"))
        labels = ArrayFile(raw / "node-label.npz", "node_label")
    else:
        arrays = (ArrayFile(raw / "edge.csv.gz"), ArrayFile(raw / "node-feat.csv.gz"))
        labels = ArrayFile(raw / "node-label.csv.gz")
    return GraphFiles(
        name=folder.name, edges=arrays[0], features=arrays[1], labels=labels, splits=splits,
        split=str(split) if drawn else _split_name(folder, split), classes=entry.classes if entry else None,
        vertex_count=_count(raw / "num-node-list.csv.gz"), edge_count=_count(raw / "num-edge-list.csv.gz"),
        warnings=("edge features are not used",) if (raw / "edge-feat.csv.gz").exists() else (),
    )  # fmt: skip


def _count(path: Path) -> int | None:
    return int(ArrayFile(path).read().sum()) if path.is_file() else None


def _split_name(folder: Path, wanted: str | None) -> str:
    """Return the folder of the split to use: the wanted one, or the only one."""
    found = sorted(path.name for path in (folder / "split").glob("*") if path.is_dir())
    if wanted is not None:
        if wanted not in found:
            raise unknown("split", wanted, found)
        return wanted
    if len(found) > 1:
        raise UsageError(f"{str(folder / 'split')!r} holds the splits {', '.join(found)}: choose one by --split NAME")
    return found[0] if found else "time"
