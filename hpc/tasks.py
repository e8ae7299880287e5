"""Task bodies that run on workers: functions of plain data, which import the workflow packages when called."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path
from typing import Any


def probe() -> dict[str, Any]:
    """Return facts of the worker: host, process id, Python version, visible GPUs and usable processors."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "cpus": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }


def prepare_study(folder: Path, config: Any, seed: int) -> dict[str, Any]:
    """Open the images, find the space and write the starting weights of a nas run; see nas.stages.prepare."""
    from quatrain.nas import stages

    return stages.prepare(str(folder), config, seed)


def train_network(folder: Path, role: str, config: Any) -> None:
    """Train one role of a nas run (supernet, finetune, ...) on every GPU, or on every core without GPUs."""
    import torch

    from quatrain.hpc import commands

    processes = config.ranks(torch.cuda.device_count() or len(os.sched_getaffinity(0)))
    arguments: list[str | Path] = ["-m", "quatrain.nas.train", folder, "--role", role]
    commands.launch(arguments, processes=processes, log=folder / "logs" / f"train-{role}.log")


def adopt_supernet(folder: Path, source: Path, data: str | None, images: int) -> dict[str, Any]:
    """Take a trained supernet over into the run folder; see nas.import_supernet."""
    from quatrain.nas import import_supernet

    return import_supernet.adopt(str(folder), str(source), data, images)


def tune_subnet(folder: Path, key: str, steps: int) -> None:
    """Train the found sub-network by itself for some steps, on every GPU or core as `train_network` does."""
    import torch

    from quatrain.hpc import commands
    from quatrain.nas.study import NasStudy

    config = NasStudy.read(folder).config.train
    processes = config.ranks(torch.cuda.device_count() or len(os.sched_getaffinity(0)))
    arguments: list[str | Path] = ["-m", "quatrain.nas.train", folder, "--role", "tuned"]
    arguments += ["--subnet", key, "--steps", str(steps)]
    commands.launch(arguments, processes=processes, log=folder / "logs" / "train-tuned.log")


def measure_subnet(
    folder: Path, weights: Any, key: str, part: Any, first: int = 0, last: int | None = None
) -> dict[str, float]:
    """Return a sub-network's metrics on a part of the images, or on a range of that part; see nas.stages.measure."""
    from quatrain.nas import stages

    return stages.measure(str(folder), weights, key, part, first, last)


def eval_size(folder: Path, part: Any) -> int:
    """Return how many images of a part can be evaluated; see nas.stages.eval_size."""
    from quatrain.nas import stages

    return stages.eval_size(str(folder), part)


def time_subnets(folder: Path, keys: list[str]) -> list[float]:
    """Return the milliseconds per image of each sub-network's encoder, measured one after another on this worker."""
    from quatrain.nas import stages

    return stages.latency(str(folder), keys)


def calibrate_latency(folder: Path) -> str:
    """Write the latency table of a study's space on this worker; return its path in the run folder."""
    from quatrain.nas import stages

    return stages.latency_table(str(folder))


def deliver_subnet(folder: Path, key: str, weights: Any = "supernet") -> str:
    """Extract the found sub-network, draw examples, tidy up, and return the checkpoint's path in the run folder."""
    from quatrain.nas import stages

    stages.gather_training(str(folder))
    stages.illustrate(str(folder), key, weights)
    stages.forget_prefix(str(folder))
    return stages.deliver(str(folder), key, weights)


def export_onnx(folder: Path, path: str) -> dict[str, Any]:
    """Write a delivered sub-network as ONNX into the run folder; return the result of supernet.onnx_export.export."""
    from quatrain.supernet import onnx_export

    return onnx_export.export(folder / path, folder / "onnx")


def report_search(folder: Path) -> Path:
    """Write the report of an autotune run that is done, and return its path."""
    from quatrain.nas.autotune_report import write_report

    return write_report(folder)


def report_study(folder: Path) -> Path:
    """Write the report of a nas run that is done, and return its path."""
    from quatrain.nas.report import write_report

    return write_report(folder)


def boost_images(folder: Path, config: Any, items: list[Any], seed: int) -> list[dict[str, Any]]:
    """Boost a chunk of images, with the model kept loaded between chunks; see micrograph.stages.process."""
    from quatrain.micrograph import stages

    return stages.process(str(folder), config, items, seed)


def partition_graph(config: Any, cache: Path) -> dict[str, Any]:
    """Open the graph of a gnn run and cut it into parts, or find them in the cache; see graph.stages.prepare."""
    from quatrain.graph import stages

    return stages.prepare(config, cache)


def train_graph(folder: Path, config: Any, seed: int, parts: str) -> dict[str, Any]:
    """Train on the parts of a graph, with all machines' processes on the nodes of this block or on this host."""
    from quatrain.graph import stages
    from quatrain.hpc import distdgl_launch

    job = stages.start(folder, config, seed, Path(parts))
    try:
        distdgl_launch.launch(job.folder, job.machines, log=folder / "logs" / "machines.log")
    finally:
        job.sweep()
    return stages.outcome(folder)
