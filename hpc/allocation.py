"""What Slurm tells a process about its allocation, under names that say what they mean; and where nodes come from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from quatrain.hpc.site import Request, Site

SLURM_NAMES: dict[str, tuple[str, ...]] = {
    "job_id": ("SLURM_JOB_ID", "SLURM_JOBID"),
    "node_list": ("SLURM_JOB_NODELIST", "SLURM_NODELIST"),
    "node_name": ("SLURMD_NODENAME",),
    "gpus": ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"),
    "cpus": ("SLURM_CPUS_ON_NODE",),
    "end_time": ("SLURM_JOB_END_TIME",),
}
"""From a meaning to the variables that carry it, the most specific first."""

OF_A_STEP = ("SLURM_STEP", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_TASKS_PER_NODE", "SLURM_GPUS", "SLURM_CPU_BIND")
"""Beginnings of the names that describe an outer step; a nested srun would obey them instead of its own options."""

Source = Literal["slurm", "allocation", "local"]
"""Where nodes come from: jobs that we submit, the allocation that we run in, or this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """The nodes that the driver has been given."""

    job_id: str
    nodes: tuple[str, ...]
    gpus: tuple[str, ...] = ()
    """The GPU names that Slurm gave on a node; they need not start at 0 where nodes are shared."""
    end_time_s: float | None = None
    """Unix time at which the allocation ends, where Slurm tells it."""


def meaning(name: str, environment: Mapping[str, str]) -> str | None:
    """Return what Slurm says about `name` (a key of SLURM_NAMES), or None."""
    return next((environment[variable] for variable in SLURM_NAMES[name] if environment.get(variable)), None)


def current(environment: Mapping[str, str] | None = None) -> Allocation | None:
    """Return the allocation around this process, or None outside of any."""
    environment = os.environ if environment is None else environment
    job_id = meaning("job_id", environment)
    if job_id is None:
        return None
    end = meaning("end_time", environment)
    gpus = meaning("gpus", environment)
    return Allocation(
        job_id=job_id,
        nodes=expand(meaning("node_list", environment) or ""),
        gpus=expand(f"[{gpus}]") if gpus else (),
        end_time_s=float(end) if end else None,
    )


def source(site: Site, request: Request, allocation: Allocation | None) -> Source:
    """Decide where nodes come from; nothing else decides it."""
    if site.scheduler == "none":
        return "local"
    return "allocation" if allocation is not None and request.allocation else "slurm"


def expand(node_list: str) -> tuple[str, ...]:
    """Return the names behind a node list such as `nid[001-003,007],login1`; ValueError when it is none."""
    return tuple(name for part in _split(node_list) for name in _expand_part(part))


def _split(node_list: str) -> list[str]:
    """Cut at the commas that stand outside of brackets."""
    parts = re.split(r",(?![^\[]*\])", node_list.strip())
    return [part.strip() for part in parts if part.strip()]


def _expand_part(part: str) -> list[str]:
    match = re.fullmatch(r"([^\[\]]*)\[([^\[\]]+)\](.*)", part)
    if match is None:
        if "[" in part or "]" in part:
            raise ValueError(f"{part!r} is no node list; write it as nid[001-003,007]")
        return [part]
    head, inside, tail = match.groups()
    tails = _expand_part(tail) if tail else [""]
    return [f"{head}{number}{end}" for item in inside.split(",") for number in _numbers(item) for end in tails]


def _numbers(item: str) -> list[str]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", item.strip())
    if match is None:
        raise ValueError(f"{item!r} is no range of nodes; write it as 001-003")
    first, last = match.group(1), match.group(2) or match.group(1)
    if int(last) < int(first):
        raise ValueError(f"{item!r} is no range of nodes; its end is before its start")
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a nested srun: without what describes the step around it."""
    return {name: value for name, value in environment.items() if not name.startswith(OF_A_STEP)}
