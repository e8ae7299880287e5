"""What a run would do: tasks, executors, the batch scripts as Parsl would submit them, node-hours, broken limits."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parsl.executors import HighThroughputExecutor
from parsl.providers import SlurmProvider

from quatrain.hpc import allocation as slurm
from quatrain.hpc.config import provider, slurm_settings, worker_pool
from quatrain.hpc.plan import Step, longest_s
from quatrain.hpc.progress import span
from quatrain.hpc.site import SHAPES, Request, Shape, Site, broken_limits, find_qos, fitted, node_share
from quatrain.hpc.submit import grace_s, job_script

OWN_JOB = "nodes: one job submitted with sbatch, in which the driver runs too"


class Preview(SlurmProvider):
    """Slurm's provider with its commands left out: it writes the script, and neither asks nor submits."""

    def execute_wait(self, cmd: str, timeout: float | None = None) -> tuple[int, str, str]:  # noqa: ARG002 - an override has all
        """Answer sbatch with a job number and everything else with a failure, running nothing."""
        return (0, "Submitted batch job 0", "") if cmd.startswith("sbatch") else (1, "", "not asked in a dry run")


def describe(site: Site, request: Request, plan: Sequence[Step], run_dir: Path, submitted: str = "") -> str:
    """Return all of it as text; `run_dir` need not be there and is not made.

    `submitted` names the workflow where its driver itself goes into a job; then the nodes are that job's.
    """
    found = _own_job(request) if submitted else slurm.current()
    origin = slurm.source(site, request, found)
    seen = slurm.seen(site, request, found)
    nodes = len(found.nodes) if origin == "allocation" and found is not None else request.nodes
    shapes = [shape for shape in SHAPES if any(step.shape == shape and step.count for step in plan)]
    sections = [
        [f"{site.name}: {site.description}", OWN_JOB if submitted else _origin(origin, found), ""],
        ["tasks", *_tasks(plan), ""],
        _drivers_job(site, request, submitted, run_dir) if submitted else [],
        ["executors", *(f"  {_executor_line(seen, request, shape, nodes, plan, found)}" for shape in shapes), ""],
        [line for shape in shapes for line in _start(site, request, shape, plan, found, run_dir)],
        _cost(seen, request, plan, nodes if seen.scheduler == "slurm" else 1, node_share(site, request)),
        _limits(site, request, longest_s(plan) + (grace_s(request) if submitted else 0), origin, bool(submitted)),
    ]
    return "\n".join(line for section in sections for line in section)


def _own_job(request: Request) -> slurm.Allocation:
    """Return what a driver in a job of its own will find, under names for what is known only then."""
    nodes = tuple(f"NODE{number}" for number in range(1, request.nodes + 1))
    end = time.time() + request.walltime_min * 60
    return slurm.Allocation(job_id="JOB", nodes=nodes, end_time_s=end, grace_s=grace_s(request))


def _drivers_job(site: Site, request: Request, workflow: str, run_dir: Path) -> list[str]:
    script = job_script(site, request, workflow, run_dir).strip()
    return ["batch script of the driver's own job", script, "", "in this job the driver starts", ""]


def batch_script(site: Site, request: Request, shape: Shape, plan: Sequence[Step], run_dir: Path) -> str:
    """Return the script that sbatch would get for a block of one shape.

    It comes out of Parsl's own executor and provider. PORT and TIME stand for what is known only at the start.
    """
    preview = Preview(**slurm_settings(fitted(site, request), request, shape, run_dir))
    final = run_dir / "parsl" / "000"
    pool = worker_pool(site, request, shape, plan, nodes=preview, run_dir=run_dir)
    _prepare(pool, final)
    with tempfile.TemporaryDirectory(prefix="quatrain-dry-run-") as folder:
        preview.script_dir = folder
        name = f"parsl.{shape}.block-0"
        preview.submit(pool.launch_cmd.format(block_id="0"), 1, name)
        text = next(Path(folder).glob(f"{name}.*")).read_text()
    text = text.replace(folder, str(final / "submit_scripts"))
    return re.sub(rf"({re.escape(name)})\.\d+\.\d+", r"\1.TIME", text)


def pool_command(
    site: Site,
    request: Request,
    shape: Shape,
    plan: Sequence[Step],
    found: slurm.Allocation | None,
    run_dir: Path,
) -> str:
    """Return the command that starts the workers of a shape where no batch script is needed."""
    start = provider(slurm.seen(site, request, found), request, shape, found, run_dir)
    pool = worker_pool(site, request, shape, plan, found, nodes=start, run_dir=run_dir)
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


def _origin(origin: slurm.Source, found: slurm.Allocation | None) -> str:
    if origin == "allocation" and found is not None:
        return f"nodes: the allocation {found.job_id} around this command ({', '.join(found.nodes)})"
    return "nodes: jobs submitted with sbatch" if origin == "slurm" else "nodes: this machine"


def _tasks(plan: Sequence[Step]) -> list[str]:
    if not plan:
        return ["  none"]
    width = max(len(step.name) for step in plan)
    return [f"  {s.name:{width}}  {s.count:6d} x {s.seconds:g} s  shape {s.shape}" for s in plan]


def _executor_line(
    site: Site, request: Request, shape: Shape, nodes: int, plan: Sequence[Step], found: slurm.Allocation | None
) -> str:
    if site.executor == "threads":
        return f"{shape}: {site.workers(shape, 1)} thread in this process"
    pool = worker_pool(site, request, shape, plan, found, nodes=Preview(**slurm_settings(site, request, shape)))
    spread = nodes if site.scheduler == "slurm" else 1
    where = "on the first node of each block" if shape == "block" else f"on each of {spread} node{'s' * (spread > 1)}"
    parts = [
        f"{shape}: {pool.max_workers_per_node} worker{'s' * (pool.max_workers_per_node > 1)} {where}",
        f"GPUs {' '.join(pool.available_accelerators)}" if pool.available_accelerators else "",
        f"cores {pool.cpu_affinity}" if pool.cpu_affinity != "none" else "",
        f"no new task after {span(pool.drain_period)}" if pool.drain_period is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _start(
    site: Site,
    request: Request,
    shape: Shape,
    plan: Sequence[Step],
    found: slurm.Allocation | None,
    run_dir: Path,
) -> list[str]:
    if site.executor == "threads":
        return []
    if slurm.source(site, request, found) == "slurm":
        return [f"batch script for shape {shape}", batch_script(site, request, shape, plan, run_dir).strip(), ""]
    return [
        f"command for shape {shape} (no batch script is needed)",
        pool_command(site, request, shape, plan, found, run_dir).strip(),
        "",
    ]


def _cost(site: Site, request: Request, plan: Sequence[Step], nodes: int, share: float) -> list[str]:
    seconds = sum(step.elapsed_s(site, nodes) for step in plan)
    if site.scheduler == "none":
        return [f"time: about {span(seconds)}"]
    qos = find_qos(site, request)
    charge = qos.charge if qos is not None else 1.0
    used = seconds * nodes * share / 3600
    factor = f" x {charge:g} (qos {qos.name}) = {used * charge:.2f} charged" if qos is not None else ""
    return [
        f"time: about {span(seconds)} of work on {nodes} node{'s' * (nodes > 1)}",
        f"node-hours: about {used:.2f}{factor}" + (f", for {share:g} of a node" if share < 1 else ""),
    ]


def _limits(site: Site, request: Request, longest: float, origin: slurm.Source, submitted: bool) -> list[str]:
    if origin != "slurm" and not submitted:
        return []
    broken = broken_limits(site, request, longest)
    if broken:
        return ["limits broken:", *(f"  {text}" for text in broken)]
    if request.unchecked:
        return ["limits: left to Slurm (--unchecked)"]
    return [f"limits: all kept (checked {site.limits_checked})" if site.qos else "limits: none known for this site"]
