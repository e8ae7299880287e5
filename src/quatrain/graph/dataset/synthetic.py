"""Synthetic graphs: RMAT, and communities with power-law degrees and features that depend on the label.

Both are written in the binary layout of ogbn-papers100M, so that the reader of OGB's graphs reads them.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quatrain.files import replacing
from quatrain.graph.config import SyntheticConfig
from quatrain.graph.dataset.arrays import Ints
from quatrain.seeding import numpy_rng

Floats = npt.NDArray[np.float32]

QUADRANTS = (0.57, 0.19, 0.19, 0.05)
"""RMAT's probabilities (Graph500)."""
EXPONENT = 2.5
"""Of the power law that degrees of a community graph follow."""
INSIDE = 0.8
"""Share of a community graph's edges that stay inside their community."""
COMMUNITY = 400
"""Mean vertices of a community."""
SPLIT = {"train": 0.2, "valid": 0.1, "test": 0.2}
"""Shares of the vertices; the rest has no part, as in most of OGB's graphs."""
CHUNK = 1 << 20


def make(kind: str, config: SyntheticConfig, folder: Path) -> None:
    """Write the graph `kind` (community or rmat) under `folder` in OGB's binary layout."""
    count = round(config.vertices * config.degree / 2)
    if kind == "rmat":
        edges = rmat(config.vertices, count, numpy_rng(config.seed, "rmat"))
        labels = numpy_rng(config.seed, "labels").integers(config.classes, size=config.vertices)
        labels = _spread(labels, edges, config.classes)
    else:
        communities = _communities(config.vertices, numpy_rng(config.seed, "communities"))
        edges = community(communities, count, numpy_rng(config.seed, "edges"))
        labels = communities % config.classes
    features = np.concatenate(list(_features(labels, config)))
    write(folder, edges, features, labels, numpy_rng(config.seed, "split"))


def rmat(vertices: int, count: int, rng: np.random.Generator) -> Ints:
    """Return `count` edges, int64 (2, count), drawn by recursive choice of quadrants (Chakrabarti et al. 2004)."""
    bits = max(1, math.ceil(math.log2(vertices)))
    names = rng.permutation(vertices)
    top, left = QUADRANTS[0] + QUADRANTS[1], QUADRANTS[0] / (QUADRANTS[0] + QUADRANTS[1])
    below = QUADRANTS[2] / (QUADRANTS[2] + QUADRANTS[3])
    chunks = []
    for size in _sizes(count):
        source, target = np.zeros(size, np.int64), np.zeros(size, np.int64)
        for _ in range(bits):
            down = rng.random(size) >= top
            right = rng.random(size) >= np.where(down, below, left)
            source, target = 2 * source + down, 2 * target + right
        chunks.append(np.stack([names[source % vertices], names[target % vertices]]))
    return np.concatenate(chunks, axis=1)


def community(communities: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Return `count` edges, int64 (2, count), of a degree-corrected stochastic block model.

    An edge's source is drawn by its weight, its target by weight too: inside the source's community with probability
    INSIDE, anywhere otherwise. Weights follow a power law, so degrees do.
    """
    order = np.argsort(communities, kind="stable")
    weight = (1 - rng.random(len(order))) ** (-1 / (EXPONENT - 1))
    weight = np.minimum(weight, math.sqrt(len(order)) * 2)
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    borders = np.searchsorted(communities[order], np.arange(communities.max() + 2))
    low, high = total[borders[:-1]], total[borders[1:]]
    chunks = []
    for size in _sizes(count):
        source = order[_pick(total, rng.random(size) * total[-1])]
        inside = rng.random(size) < INSIDE
        home, place = communities[source], rng.random(size)
        point = np.where(inside, low[home] + place * (high - low)[home], place * total[-1])
        chunks.append(np.stack([source, order[_pick(total, point)]]))
    return np.concatenate(chunks, axis=1)


def _pick(total: npt.NDArray[np.float64], point: npt.NDArray[np.float64]) -> Ints:
    return np.asarray(np.clip(np.searchsorted(total, point, side="right") - 1, 0, len(total) - 2))


def _sizes(count: int) -> Iterator[int]:
    yield from (min(CHUNK, count - start) for start in range(0, count, CHUNK))


def _communities(vertices: int, rng: np.random.Generator) -> Ints:
    """Return the community of each vertex; sizes are uneven."""
    number = max(2, vertices // COMMUNITY)
    share = rng.dirichlet(np.full(number, 4.0))
    return np.asarray(rng.choice(number, size=vertices, p=share), dtype=np.int64)


def _spread(labels: Ints, edges: Ints, classes: int) -> Ints:
    """Return for each vertex the most frequent label among its neighbours and itself."""
    ends = np.concatenate([edges, edges[::-1]], axis=1)
    vertices = len(labels)
    votes = np.bincount(ends[1] * classes + labels[ends[0]], minlength=vertices * classes).reshape(vertices, classes)
    votes[np.arange(vertices), labels] += 1
    return np.asarray(votes.argmax(axis=1), dtype=np.int64)


def _features(labels: Ints, config: SyntheticConfig) -> Iterator[Floats]:
    """Yield chunks of features: a class's own direction, under noise that a vertex alone does not see through."""
    rng = numpy_rng(config.seed, "features")
    centres = rng.standard_normal((config.classes, config.features), dtype=np.float32)
    centres *= 2.5 / np.linalg.norm(centres, axis=1, keepdims=True)
    for start in range(0, len(labels), CHUNK):
        part = labels[start : start + CHUNK]
        yield centres[part] + rng.standard_normal((len(part), config.features), dtype=np.float32)


def write(folder: Path, edges: Ints, features: Floats, labels: Ints, rng: np.random.Generator) -> None:
    """Write a graph in OGB's binary layout: raw/data.npz, raw/node-label.npz, split/time/*.csv.gz, RELEASE_v1.txt.

    `edges` is int64 (2, E), `features` float32 (V, F), `labels` int64 (V,).
    """
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    vertices, count = np.array([len(labels)]), np.array([edges.shape[1]])
    with replacing(raw / "data.npz") as path:
        np.savez(path, edge_index=edges, node_feat=features, num_nodes_list=vertices, num_edges_list=count)
    with replacing(raw / "node-label.npz") as path:
        np.savez(path, node_label=labels.astype(np.float32)[:, None])
    (folder / "split" / "time").mkdir(parents=True, exist_ok=True)
    order, start = rng.permutation(len(labels)), 0
    for name, share in SPLIT.items():
        stop = start + max(1, int(share * len(labels)))
        with replacing(folder / "split" / "time" / f"{name}.csv.gz") as path, gzip.open(path, "wt") as file:
            file.write("\n".join(map(str, np.sort(order[start:stop]))) + "\n")
        start = stop
    with replacing(folder / "RELEASE_v1.txt") as path:
        path.write_text("made by quatrain\n")
