"""Describes what a run would do: tasks, executors, Parsl's batch scripts, node-hours and broken limits."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parsl.executors import HighThroughputExecutor
from parsl.providers import SlurmProvider

from quatrain.hpc import allocation as slurm
from quatrain.hpc.config import provider, slurm_settings, worker_pool
from quatrain.hpc.limits import problems
from quatrain.hpc.placement import Placement
from quatrain.hpc.plan import Step
from quatrain.hpc.progress import span
from quatrain.hpc.site import SHAPES, Shape
from quatrain.hpc.submit import inside_own_job, job_script

OWN_JOB = "nodes: one job submitted with sbatch, in which the driver runs too"


class Preview(SlurmProvider):
    """Slurm's provider without its commands: it writes the script, but does not query or submit."""

    def execute_wait(self, cmd: str, timeout: float | None = None) -> tuple[int, str, str]:  # noqa: ARG002 - an override has all
        """Answer sbatch with a job number and everything else with a failure, running nothing."""
        return (0, "Submitted batch job 0", "") if cmd.startswith("sbatch") else (1, "", "not asked in a dry run")


def describe(placement: Placement, plan: Sequence[Step], run_dir: Path, submitted: str = "") -> str:
    """Return all of it as text; `run_dir` need not exist and is not created.

    `submitted` names the workflow if its driver itself is submitted as a job; its workers then use that job's nodes.
    """
    inside = inside_own_job(placement) if submitted else placement
    shapes = [shape for shape in SHAPES if any(step.shape == shape and step.count for step in plan)]
    sections = [
        [f"{placement.site.name}: {placement.site.description}", OWN_JOB if submitted else _origin(placement), ""],
        ["tasks", *_tasks(plan), ""],
        _drivers_job(placement, submitted, run_dir) if submitted else [],
        ["executors", *(f"  {_executor_line(inside, shape, plan)}" for shape in shapes), ""],
        [line for shape in shapes for line in _start(inside, shape, plan, run_dir)],
        _cost(inside, plan),
        _limits(placement, problems(placement, plan, submitted=bool(submitted)), bool(submitted)),
    ]
    return "\n".join(line for section in sections for line in section)


def _drivers_job(placement: Placement, workflow: str, run_dir: Path) -> list[str]:
    script = job_script(placement, workflow, run_dir).strip()
    return ["batch script of the driver's own job", script, "", "in this job the driver starts", ""]


def batch_script(placement: Placement, shape: Shape, plan: Sequence[Step], run_dir: Path) -> str:
    """Return the script that sbatch would get for a block of one shape.

    Parsl's own executor and provider write it. PORT and TIME stand for values that are known only at the start.
    """
    preview = Preview(**slurm_settings(placement, shape, run_dir))
    final = run_dir / "parsl" / "000"
    pool = worker_pool(placement, shape, plan, nodes=preview, run_dir=run_dir)
    _prepare(pool, final)
    with tempfile.TemporaryDirectory(prefix="quatrain-dry-run-") as folder:
        preview.script_dir = folder
        name = f"parsl.{shape}.block-0"
        preview.submit(pool.launch_cmd.format(block_id="0"), 1, name)
        text = next(Path(folder).glob(f"{name}.*")).read_text()
    text = text.replace(folder, str(final / "submit_scripts"))
    return re.sub(rf"({re.escape(name)})\.\d+\.\d+", r"\1.TIME", text)


def pool_command(placement: Placement, shape: Shape, plan: Sequence[Step], run_dir: Path) -> str:
    """Return the command that starts the workers of a shape if no batch script is needed."""
    start = provider(placement, shape, run_dir)
    pool = worker_pool(placement, shape, plan, nodes=start, run_dir=run_dir)
    _prepare(pool, run_dir / "parsl" / "000")
    command = start.launcher(pool.launch_cmd.format(block_id="0"), 1, start.nodes_per_block, "")
    return re.sub(rf'(?<={slurm.BLOCK_END}=")\d+', "END", f"{start.worker_init}\n{command}")


def _prepare(pool: HighThroughputExecutor, run_dir: Path) -> None:
    """Fill in what the start of an executor would, so that its launch command can be composed."""
    values: dict[str, Any] = {
        "run_dir": str(run_dir),
        "worker_port": "PORT",
        "cert_dir": str(run_dir / pool.label / "certificates"),
        "logconf_path": str(run_dir / pool.label / "log_config" / "log_config.pkl"),
    }
    for name, value in values.items():
        setattr(pool, name, value)
    pool.initialize_scaling()


def _origin(placement: Placement) -> str:
    if placement.allocation is not None:
        names = ", ".join(placement.allocation.nodes)
        return f"nodes: the allocation {placement.allocation.job_id} around this command ({names})"
    return "nodes: jobs submitted with sbatch" if placement.origin == "slurm" else "nodes: this machine"


def _tasks(plan: Sequence[Step]) -> list[str]:
    if not plan:
        return ["  none"]
    width = max(len(step.name) for step in plan)
    return [f"  {s.name:{width}}  {s.count:6d} x {s.seconds:g} s  shape {s.shape}" for s in plan]


def _executor_line(placement: Placement, shape: Shape, plan: Sequence[Step]) -> str:
    site, nodes = placement.site, placement.nodes
    if site.executor == "threads":
        return f"{shape}: {site.workers(shape, 1)} thread in this process"
    pool = worker_pool(placement, shape, plan, nodes=Preview(**slurm_settings(placement, shape)))
    where = "on the first node of each block" if shape == "block" else f"on each of {nodes} node{'s' * (nodes > 1)}"
    parts = [
        f"{shape}: {pool.max_workers_per_node} worker{'s' * (pool.max_workers_per_node > 1)} {where}",
        f"GPUs {' '.join(pool.available_accelerators)}" if pool.available_accelerators else "",
        f"cores {pool.cpu_affinity}" if pool.cpu_affinity != "none" else "",
        f"no new task after {span(pool.drain_period)}" if pool.drain_period is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _start(placement: Placement, shape: Shape, plan: Sequence[Step], run_dir: Path) -> list[str]:
    if placement.site.executor == "threads":
        return []
    if placement.origin == "slurm":
        return [f"batch script for shape {shape}", batch_script(placement, shape, plan, run_dir).strip(), ""]
    title = f"command for shape {shape} (no batch script is needed)"
    return [title, pool_command(placement, shape, plan, run_dir).strip(), ""]


def _cost(placement: Placement, plan: Sequence[Step]) -> list[str]:
    seconds = sum(step.elapsed_s(placement) for step in plan)
    if placement.site.scheduler == "none":
        return [f"time: about {span(seconds)}"]
    nodes, qos, share = placement.nodes, placement.qos, placement.share
    used = seconds * nodes * share / 3600
    factor = f" x {qos.charge:g} (qos {qos.name}) = {used * qos.charge:.2f} charged" if qos is not None else ""
    return [
        f"time: about {span(seconds)} of work on {nodes} node{'s' * (nodes > 1)}",
        f"node-hours: about {used:.2f}{factor}" + (f", for {share:g} of a node" if share < 1 else ""),
    ]


def _limits(placement: Placement, broken: Sequence[str], submitted: bool) -> list[str]:
    if broken:
        return ["limits broken:", *(f"  {text}" for text in broken)]
    if placement.origin != "slurm" and not submitted:
        return []
    if placement.request.unchecked:
        return ["limits: left to Slurm (--unchecked)"]
    checked = placement.site.limits_checked
    return [f"limits: all kept (checked {checked})" if placement.site.qos else "limits: none known for this site"]
