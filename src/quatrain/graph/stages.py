"""Tasks of the gnn workflow; each also runs by hand on a run folder."""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from typing import Any

from quatrain.errors import UsageError
from quatrain.files import read_json
from quatrain.graph.config import GnnConfig
from quatrain.graph.distdgl.job import Job
from quatrain.graph.study import GnnStudy
from quatrain.hdf5_tables import write_columns

EPOCH = (
    *("seconds", "sample_s", "pull_s", "lookup_s", "copy_s", "train_s", "wait_s", "overhead_s"),
    *("halo_hit_rate", "remote_hit_rate", "remote_rows", "remote_bytes", "loss"),
)
"""Keys of an epoch in summary.json, besides the accuracy of epochs that were evaluated."""


def prepare(config: GnnConfig, cache: Path) -> dict[str, Any]:
    """Open the graph and cut it into parts, or find them under `cache`; return their folder and what the graph is."""
    from quatrain.graph.dataset.load import open_graph
    from quatrain.graph.distdgl.partition import partition, read_facts, table

    graph = open_graph(config, cache)
    parts = partition(
        graph,
        method=config.partition.method,
        parts=config.cluster.machines,
        undirected=config.undirected,
        folder=config.partition.folder,
        cache=cache,
    )
    facts = read_facts(parts)
    return {
        "parts": str(parts),
        "facts": facts,
        "table": table(facts),
        "split": graph.split,
        "class_names": graph.class_names,
        "warnings": graph.warnings,
    }


def start(folder: Path, config: GnnConfig, seed: int, parts: Path) -> Job:
    """Write gnn.json and a new job into the folder of a training, and return the job."""
    GnnStudy(folder=folder, config=config, seed=seed).write()
    cluster = config.cluster
    job = Job(
        folder=folder,
        name=f"q{uuid.uuid4().hex[:10]}",
        parts=parts,
        machines=cluster.machines,
        trainers=cluster.trainers,
        port=cluster.port,
        threads=config.train.threads,
    )
    (job.place / "failed").unlink(missing_ok=True)
    job.write()
    return job


def outcome(folder: Path) -> dict[str, Any]:
    """Return the summary of a finished training, and write its epochs to results.h5 as columns."""
    try:
        epochs, result = read_json(folder / "epochs.json"), read_json(folder / "result.json")
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(folder)!r} holds no finished training: {error}") from error
    policy = GnnStudy.read(folder).config.buffer.policy
    kept = [{key: row[key] for key in (*EPOCH, "accuracy") if key in row} for row in epochs]
    known = [{key: math.nan if value is None else value for key, value in row.items()} for row in kept]
    write_columns(folder / "results.h5", {"epochs": known})
    return {
        "epochs": kept,
        "test_accuracy": result["test_accuracy"],
        "policy": policy,
        "buffer_rows": result["buffer_rows"],
    }
