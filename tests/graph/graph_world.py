"""Small graphs and trained runs that several tests share."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np

from quatrain.graph.config import CacheConfig, ClusterConfig, GnnConfig, SyntheticConfig, TrainConfig
from quatrain.graph.dataset.splits import PARTS


def small(**train):
    """Settings of a short training."""
    return GnnConfig(
        made=SyntheticConfig(vertices=2000, degree=8.0, features=8, classes=4),
        cluster=ClusterConfig(machines=2),
        train=TrainConfig(**{"epochs": 3, "batch": 40, "fanout": (4, 4), "lr": 0.03, "evaluate_every": 2, **train}),
        buffer=CacheConfig(policy="lfu", interval=2),
    )


def plain_folder(folder: Path, vertices=20, width=3, seed=0) -> Path:
    """Write a plain folder of random values and return it."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "edges.npy", rng.integers(vertices, size=(60, 2)))
    np.save(folder / "features.npy", rng.standard_normal((vertices, width), dtype=np.float32))
    np.save(folder / "labels.npy", rng.integers(3, size=vertices))
    for part, ids in zip(PARTS, np.split(rng.permutation(vertices)[:15], 3), strict=True):
        np.save(folder / f"{part}.npy", np.sort(ids))
    return folder


def text_ogb(folder: Path) -> Path:
    """Write what plain_folder writes in the text layout of ogbn-arxiv."""
    source = plain_folder(folder / "plain")
    target = folder / "ogbn_small"
    for name, rows in {
        "raw/edge": np.load(source / "edges.npy"),
        "raw/node-feat": np.load(source / "features.npy"),
        "raw/node-label": np.load(source / "labels.npy"),
        **{f"split/time/{part}": np.load(source / f"{part}.npy") for part in PARTS},
    }.items():
        path = target / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as file:
            np.savetxt(file, rows, fmt="%.9g", delimiter=",")
    return target


def keep(folder: Path, *machines: int) -> subprocess.Popen[bytes]:
    """Start the keeper of some machines of a job."""
    command = [sys.executable, "-m", "quatrain.graph.distdgl.launcher", str(folder), *map(str, machines)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
