"""Parsl's configuration for a placement and a run folder; the only place that knows Parsl's settings."""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.executors.base import ParslExecutor
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from parsl.launchers import SimpleLauncher, SrunLauncher
from parsl.launchers.base import Launcher
from parsl.logconfigs.file import FileLogging
from parsl.monitoring import MonitoringHub
from parsl.providers import LocalProvider
from parsl.providers.base import ExecutionProvider

from quatrain.errors import UsageError
from quatrain.hpc import allocation as slurm
from quatrain.hpc import container
from quatrain.hpc.commands import CONTAINER
from quatrain.hpc.limits import reserve_s
from quatrain.hpc.placement import Placement
from quatrain.hpc.plan import Step, longest_s
from quatrain.hpc.rendezvous import addresses
from quatrain.hpc.site import SHAPES, Shape, Site
from quatrain.hpc.slurm_provider import SlurmJobs, judge
from quatrain.hpc.srun import SRUN_OPTIONS, step_options

POOL = ("python3", "-m", "quatrain.hpc.worker_pool")
"""Before the command of a pool: the Python that is first on the worker's PATH, which may be an image's."""
RETRIES = 1
HEARTBEAT_S = 5
HEARTBEAT_LIMIT_S = 20
"""Seconds of silence after which a manager is lost; a dead driver's allocation is released after the same time."""
IDLE_S = 60.0
"""Seconds without work after which a block is released."""
SUBMIT_TIMEOUT_S = 60
RESUMABLE_TRIES = 50
"""How often a task that resumes from its checkpoint may lose its nodes, as at the end of each walltime."""

RetryHandler = Callable[[Exception, Any], float]


def retry_cost(error: BaseException, *, resumable: bool = False) -> float:
    """Return the cost of a failure in a task's budget of RETRIES.

    A lost node is a fault of the machine: 20 tries, or RESUMABLE_TRIES if the task resumes from a checkpoint. A worker
    that died may be a fault of the task: 3 tries. An exception of the task would be raised again: no retry.
    """
    if isinstance(error, ManagerLost):
        return RETRIES / RESUMABLE_TRIES if resumable else 0.05
    return 0.3 if isinstance(error, WorkerLost) else RETRIES + 1.0


def parsl_config(
    placement: Placement, run_dir: Path, plan: Sequence[Step] = (), on_failure: RetryHandler | None = None
) -> Config:
    """Return a fresh configuration with two executors, labelled `gpu` and `block`.

    Parsl calls `on_failure` after each failed try; it returns the cost of the failure in the task's budget.
    """
    return Config(
        executors=[executor(placement, shape, plan, run_dir) for shape in SHAPES],
        retries=RETRIES,
        retry_handler=on_failure or (lambda error, _task: retry_cost(error)),
        run_dir=str(run_dir / "parsl"),
        strategy="simple",
        strategy_period=0.5,
        max_idletime=IDLE_S,
        usage_tracking=0,
        initialize_logging=FileLogging(level=logging.INFO),
        monitoring=_monitoring(run_dir) if placement.request.monitoring else None,
    )


def _monitoring(run_dir: Path) -> MonitoringHub:
    """Return Parsl's recorder of tasks and resources; UsageError without its database package."""
    if importlib.util.find_spec("sqlalchemy") is None:
        raise UsageError("--monitoring needs SQLAlchemy: pip install 'quatrain[monitoring]', or leave it out")
    return MonitoringHub(logging_endpoint=f"sqlite:///{run_dir.absolute() / 'parsl' / 'monitoring.db'}")


def executor(placement: Placement, shape: Shape, plan: Sequence[Step] = (), run_dir: Path = Path()) -> ParslExecutor:
    """Return the executor of one shape."""
    if placement.site.executor == "threads":
        return ThreadPoolExecutor(label=shape, max_threads=placement.site.workers(shape, nodes=1))
    return worker_pool(placement, shape, plan, run_dir=run_dir)


def worker_pool(
    placement: Placement,
    shape: Shape,
    plan: Sequence[Step] = (),
    nodes: ExecutionProvider | None = None,
    run_dir: Path = Path(),
) -> HighThroughputExecutor:
    """Return the executor of one shape with worker processes; `nodes` replaces the site's own provider.

    Only containers need `run_dir`.
    """
    site = placement.site
    pinned = shape == "gpu" and site.gpus_per_node > 0
    container_words = container.words(placement, [run_dir]) if shape == "gpu" else []  # srun exists only outside
    pool = HighThroughputExecutor(
        label=shape,
        launch_cmd=" ".join(
            [*map(shlex.quote, container_words), *_pool_command(placement, shape, plan), DEFAULT_LAUNCH_CMD]
        ),
        provider=nodes or provider(placement, shape, run_dir),
        address=site.address or "127.0.0.1",
        cores_per_worker=1e-3,  # otherwise Parsl starts fewer workers than max_workers_per_node on a small host
        max_workers_per_node=site.workers(shape, nodes=1),
        available_accelerators=accelerators(placement) if pinned else [],
        cpu_affinity=affinity(site) if pinned else "none",
        drain_period=drain_s(placement, shape, plan),
        heartbeat_period=HEARTBEAT_S,
        heartbeat_threshold=HEARTBEAT_LIMIT_S,
        block_error_handler=judge,
        interchange_launch_cmd=[sys.executable, "-m", "quatrain.hpc.interchange"],
    )
    if site.address is None:  # set here, because the constructor would ask a web service for this host's address
        pool.address, pool.all_addresses = None, set(addresses())
    return pool


def accelerators(placement: Placement) -> list[str]:
    """Return the GPU names of a node: those that Slurm gave to the used allocation, or all of them."""
    given = placement.allocation.gpus if placement.allocation is not None else ()
    return list(given) or [str(index) for index in range(placement.site.gpus_per_node)]


def affinity(site: Site) -> str:
    """Return how Parsl divides a node's cores among its workers; `none` if there are fewer cores than workers."""
    if site.cpus_per_node is None or site.cpus_per_node < site.gpu_workers:
        return "none"
    return {"natural": "block", "reversed": "block-reverse"}[site.gpu_order]


def drain_s(placement: Placement, shape: Shape, plan: Sequence[Step]) -> int | None:
    """Return the seconds after which a pool that starts now takes no new task, so that its last one ends in time.

    None without a walltime. This is an estimate: each pool counts again from the end of its nodes.
    """
    left_s = placement.left_s
    if left_s is None:
        return None
    return max(1, int(left_s - placement.site.startup_s - _reserve_s(placement, left_s, shape, plan)))


def _reserve_s(placement: Placement, left_s: float, shape: Shape, plan: Sequence[Step]) -> int:
    """Return the seconds before the end of nodes in which no task may begin; a driver in their job stops earlier."""
    return reserve_s(left_s, longest_s(plan, shape)) + placement.grace_s


def _pool_command(placement: Placement, shape: Shape, plan: Sequence[Step]) -> list[str]:
    """Return the words that start a pool, with the time that it keeps free before the end of its nodes.

    A pool without time for a task ends its job. In an allocation, which continues, the pool waits for the end.
    """
    left_s = placement.left_s
    if left_s is None:
        return [*POOL]
    stay = ["--stay"] if placement.allocation is not None else []
    return [*POOL, f"--reserve={_reserve_s(placement, left_s, shape, plan)}", *stay]


def block_end(placement: Placement) -> str | None:
    """Return a shell expression for the Unix time at which a block's nodes are taken back; None without a walltime."""
    if placement.origin == "slurm":
        return slurm.end_in(placement.request.walltime_min * 60)
    return None if placement.end_s is None else str(int(placement.end_s))


def provider(placement: Placement, shape: Shape, run_dir: Path = Path()) -> SlurmJobs | LocalProvider:
    """Return the source of nodes: jobs that the driver submits, the allocation around the driver, or this machine."""
    if placement.origin == "slurm":
        jobs = SlurmJobs(**slurm_settings(placement, shape, run_dir))
        jobs.poll_s = placement.site.poll_s
        return jobs
    return LocalProvider(
        nodes_per_block=placement.nodes if shape == "gpu" else 1,
        launcher=launcher(placement, shape),
        init_blocks=0,
        max_blocks=1,
        worker_init=worker_init(placement, shape, run_dir),
    )


def slurm_settings(placement: Placement, shape: Shape, run_dir: Path = Path()) -> dict[str, Any]:
    """Return the arguments of SlurmProvider, which asks the scheduler in its constructor; a dry run must not."""
    site, request = placement.site, placement.request
    return {
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos or site.default_qos,
        "constraint": "&".join(site.features) or None,
        "nodes_per_block": request.nodes,
        "cores_per_node": site.cpus_per_node,
        "gpus_per_node": site.gpus_per_node or None,
        "init_blocks": 0,
        "max_blocks": site.max_blocks,
        "walltime": f"{request.walltime_min // 60:02d}:{request.walltime_min % 60:02d}:00",
        "scheduler_options": "\n".join(f"#SBATCH {option}" for option in options(placement)),
        "worker_init": worker_init(placement, shape, run_dir),
        "cmd_timeout": SUBMIT_TIMEOUT_S,
        "exclusive": site.exclusive,
        "launcher": launcher(placement, shape),
    }


def options(placement: Placement) -> list[str]:
    """Return the options of a batch script that follow from the site and the image alone."""
    site = placement.site
    licenses = [f"--licenses={','.join(site.licenses)}"] if site.licenses else []
    return [*licenses, *site.scheduler_options, *container.script_options(placement)]


def launcher(placement: Placement, shape: Shape) -> Launcher:
    """Return what starts worker pools: srun for one on each node, or nothing if a script is on the right node."""
    site, inside = placement.site, placement.allocation is not None
    if site.scheduler == "none" or (shape == "block" and not inside):
        return SimpleLauncher()
    cpus = slurm.CPUS_OF_A_NODE if site.cpus_per_node is None else site.cpus_per_node
    if shape == "block":  # the driver of an allocation may run on another node than the first
        first = step_options(nodes=1, relative=0, cpus=cpus, further=site.srun_options)
        return SrunLauncher(overrides=" ".join(first))
    each = step_options(cpus=cpus, gpus=site.gpus_per_node, overlap=inside, further=site.srun_options)
    return SrunLauncher(overrides=" ".join(each))


def worker_init(placement: Placement, shape: Shape, run_dir: Path = Path()) -> str:
    """Return the shell lines before a pool starts: this Python's commands, threads, the site's variables and lines.

    A pool that starts in a container uses the image's Python. A pool outside of it passes the container's words on to
    its tasks.
    """
    site, inside, end = placement.site, container.words(placement, [run_dir]), block_end(placement)
    lines = slurm.announcement(site.scheduler == "slurm")
    if end is not None:
        lines.append(f'export {slurm.BLOCK_END}="{end}"')
    if not inside or shape == "block":
        lines.append(f'export PATH="{Path(sys.executable).parent}{os.pathsep}$PATH"')
    if site.cpus_per_node is not None:
        threads = max(1, site.cpus_per_node // site.workers(shape, nodes=1))
        lines.append(f'export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{threads}}}"')
    if site.scheduler == "slurm":
        lines.append(f"export {SRUN_OPTIONS}={shlex.quote(shlex.join(site.srun_options))}")
    if inside and shape == "block":
        lines.append(f"export {CONTAINER}={shlex.quote(shlex.join(inside))}")
    lines += [f'export {name}="{value}"' for name, value in site.environment.items()]
    return "\n".join([*lines, *site.worker_init])
