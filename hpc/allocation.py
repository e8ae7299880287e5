"""The Slurm allocation around a process, read from Slurm's environment variables under descriptive names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

SLURM_NAMES: dict[str, tuple[str, ...]] = {
    "job_id": ("SLURM_JOB_ID", "SLURM_JOBID"),
    "node_list": ("SLURM_JOB_NODELIST", "SLURM_NODELIST"),
    "step_node_list": ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"),
    "node_name": ("SLURMD_NODENAME",),
    "gpus": ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"),
    "cpus": ("SLURM_JOB_CPUS_PER_NODE", "SLURM_CPUS_ON_NODE"),
    "gpus_per_node": ("SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"),
    "end_time": ("SLURM_JOB_END_TIME",),
    "rank": ("SLURM_PROCID",),
    "ranks": ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
    "local_rank": ("SLURM_LOCALID",),
    "step": ("SLURM_STEP_ID",),
}
"""From a meaning to the variables that carry it, the most specific first."""

OF_A_STEP = ("SLURM_STEP", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_TASKS_PER_NODE", "SLURM_GPUS", "SLURM_CPU_BIND")
"""Beginnings of the names that describe an outer step; a nested srun would obey them instead of its own options."""

ANNOUNCED = '{"block":'
"""How the lines begin in which a block's script reports its start and its end."""

BLOCK_END = "QUATRAIN_END"
"""Variable for the pools of a block: the Unix time at which its nodes are taken back."""

GRACE = "QUATRAIN_GRACE_S"
"""Variable for a driver in its own job: how many seconds before the job's end it is asked to stop."""

JOB_ID, RESTARTS = "SLURM_JOB_ID", "SLURM_RESTART_COUNT"
"""What a batch script reads itself: its job's number, and how often it was queued again."""

CPUS_OF_A_NODE = "${SLURM_JOB_CPUS_PER_NODE%%[(,]*}"
"""Shell expression for the processors that a job has on its first nodes, from a list such as `64(x2),32`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """The nodes that the driver has been given."""

    job_id: str
    nodes: tuple[str, ...]
    gpus: tuple[str, ...] = ()
    """The GPU names that Slurm gave on a node; they need not start at 0 where nodes are shared."""
    cpus_per_node: int | None = None
    gpus_per_node: int | None = None
    """The least of all nodes, as for `cpus_per_node`; None if Slurm does not report it."""
    end_time_s: float | None = None
    """Unix time at which the allocation ends; None if Slurm does not report it."""
    grace_s: int = 0
    """Seconds before that end at which the driver in it is asked to stop."""


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
        cpus_per_node=_least(meaning("cpus", environment)),
        gpus_per_node=_least(meaning("gpus_per_node", environment)),
        end_time_s=float(end) if end else None,
        grace_s=int(environment.get(GRACE) or 0),
    )


def _least(counts: str | None) -> int | None:
    """Return the least of counts such as `64(x2),32` or `a100:4`."""
    numbers = re.findall(r"(?:^|,|:)(\d+)(?=$|,|\()", counts or "")
    return min(map(int, numbers)) if numbers else None


def with_end(found: Allocation | None) -> Allocation | None:
    """Return an allocation with its end; squeue is asked if the environment does not contain it (Slurm before 23)."""
    if found is None or found.end_time_s is not None or shutil.which("squeue") is None:
        return found
    argv = ["squeue", "--noheader", f"--jobs={found.job_id}", "--format=%e"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        return replace(found, end_time_s=datetime.fromisoformat(done.stdout.strip()).timestamp())
    except (subprocess.TimeoutExpired, ValueError):  # a job without an end, or one that squeue does not know
        return found


def end_in(seconds: int) -> str:
    """Return a shell expression for the end of a job, read at its start; Slurm sets it since version 23."""
    return f"${{SLURM_JOB_END_TIME:-$(($(date +%s) + {seconds}))}}"


def announcement(scheduled: bool) -> list[str]:
    """Return shell lines with which a block's script reports its start and end, their times, and its nodes.

    `scheduled` is True if Slurm gives the nodes; else the block is this machine, whatever allocation is around it.
    """
    begins = ANNOUNCED + '"begins","job":"%s","nodes":"%s","at":"%s"}\\n'
    ends = ANNOUNCED + '"ends","code":"%s","at":"%s"}\\n'
    where = '"$SLURM_JOB_ID" "$SLURM_JOB_NODELIST"' if scheduled else '"" "$(hostname)"'
    return [
        f"""printf '{begins}' {where} "$(date +%s.%N)\"""",
        "trap 'exit 143' TERM",
        f"""trap 'printf '\\''{ends}'\\'' "$?" "$(date +%s.%N)"' EXIT""",
    ]


def expand(node_list: str) -> tuple[str, ...]:
    """Return the names in a node list such as `nid[001-003,007],login1`; ValueError if it is not a node list."""
    return tuple(name for part in _split(node_list) for name in _expand_part(part))


def _split(node_list: str) -> list[str]:
    """Cut at the commas that stand outside of brackets."""
    parts = re.split(r",(?![^\[]*\])", node_list.strip())
    return [part.strip() for part in parts if part.strip()]


def _expand_part(part: str) -> list[str]:
    match = re.fullmatch(r"([^\[\]]*)\[([^\[\]]+)\](.*)", part)
    if match is None:
        if "[" in part or "]" in part:
            raise ValueError(f"{part!r} is not a node list; write it as nid[001-003,007]")
        return [part]
    head, inside, tail = match.groups()
    tails = _expand_part(tail) if tail else [""]
    return [f"{head}{number}{end}" for item in inside.split(",") for number in _numbers(item) for end in tails]


def _numbers(item: str) -> list[str]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", item.strip())
    if match is None:
        raise ValueError(f"{item!r} is not a range of nodes; write it as 001-003")
    first, last = match.group(1), match.group(2) or match.group(1)
    if int(last) < int(first):
        raise ValueError(f"{item!r} is not a range of nodes; its end is before its start")
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a nested srun: without what describes the step around it."""
    return {name: value for name, value in environment.items() if not name.startswith(OF_A_STEP)}
