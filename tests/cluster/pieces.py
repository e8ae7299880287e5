"""The task of the trial workflow; a module of its own, because workers import it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from quatrain.files import append_line, write_json
from quatrain.hpc import commands, distdgl_launch


def hold(folder: Path, number: int, seconds: float, first_s: float = 0.0) -> dict[str, Any]:
    """Keep a worker busy and leave a line in the run folder at both ends; return where it was.

    The first try takes `first_s` more.
    """
    first = not (folder / "began" / f"{number}.jsonl").exists()
    place = {
        "number": number,
        "node": os.environ.get("SLURMD_NODENAME", ""),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "pid": os.getpid(),
        "manager": os.getppid(),
        "python": sys.executable,
    }
    append_line(folder / "began" / f"{number}.jsonl", place)
    time.sleep(seconds + first * first_s)
    append_line(folder / "ended" / f"{number}.jsonl", place)
    return place


def meet(folder: Path) -> list[dict[str, Any]]:
    """Start two processes per node, which add up their ranks; return the report of each."""
    (folder / "met").mkdir()
    commands.launch(["-m", "pieces", folder / "met"], processes=2, log=folder / "logs" / "meet.log")
    return [json.loads(path.read_text()) for path in sorted((folder / "met").iterdir())]


def keep(folder: Path) -> list[dict[str, Any]]:
    """Start on each node what stands for the supervisors of DistDGL's machines; return the report of each."""
    distdgl_launch.MODULE = "pieces"
    distdgl_launch.launch(folder / "kept", 2, log=folder / "logs" / "keep.log")
    return [json.loads(path.read_text()) for path in sorted((folder / "kept").glob("*.json"))]


def look_after(folder: Path, machine: str) -> None:
    """Be one of the keepers."""
    reported = {
        "python": sys.executable,
        "image": os.environ.get("IN_IMAGE"),
        "node": os.environ.get("SLURMD_NODENAME", ""),
    }
    write_json(folder / f"{machine}.json", {"machine": machine, **reported})


def add_up(folder: Path) -> None:
    """Be one of the processes."""
    import torch
    from torch import distributed

    distributed.init_process_group("gloo")
    total = torch.tensor([distributed.get_rank()])
    distributed.all_reduce(total)
    rank, node = distributed.get_rank(), os.environ.get("SLURMD_NODENAME", "")
    reported = {
        "rank": rank,
        "sum": int(total),
        "node": node,
        "python": sys.executable,
        "image": os.environ.get("IN_IMAGE"),
    }
    write_json(folder / f"{rank}.json", reported)
    distributed.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        add_up(Path(sys.argv[1]))
    else:
        look_after(Path(sys.argv[1]), *sys.argv[2:])
