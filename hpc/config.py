"""From a site, a request and a run folder to a Parsl configuration; the only place that knows Parsl's settings."""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import sys
import time
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
from quatrain.hpc.commands import BY_SRUN, CONTAINER
from quatrain.hpc.plan import Step, longest_s
from quatrain.hpc.rendezvous import addresses
from quatrain.hpc.site import SHAPES, Request, Shape, Site, reserve_s
from quatrain.hpc.slurm_provider import SlurmJobs, judge

POOL = ("python3", "-m", "quatrain.hpc.worker_pool")
"""Before the command of a pool: the Python that is first on the worker's PATH, which may be an image's."""
RETRIES = 1
HEARTBEAT_S = 5
HEARTBEAT_LIMIT_S = 20
"""A manager that was silent for so long is lost; after a driver's death its allocation is free that soon."""
IDLE_S = 60.0
"""Blocks without work for so long are given back."""
SUBMIT_TIMEOUT_S = 60
RESUMABLE_TRIES = 50
"""How often a task that goes on from its checkpoint may lose its nodes, as at the end of each walltime."""

RetryHandler = Callable[[Exception, Any], float]


def retry_cost(error: BaseException, *, resumable: bool = False) -> float:
    """Return what a failure takes of a task's budget of RETRIES.

    A node that went away is the machine's matter (20 times, more where the task goes on from a checkpoint), a worker
    that died may be the task's own (3 times), and an exception that the task raised would be raised again.
    """
    if isinstance(error, ManagerLost):
        return RETRIES / RESUMABLE_TRIES if resumable else 0.05
    return 0.3 if isinstance(error, WorkerLost) else RETRIES + 1.0


def parsl_config(
    site: Site,
    request: Request,
    run_dir: Path,
    plan: Sequence[Step] = (),
    on_failure: RetryHandler | None = None,
    environment: dict[str, str] | None = None,
) -> Config:
    """Return a fresh configuration with two executors, labelled `gpu` and `block`.

    `environment` stands for os.environ; `on_failure` is told each failed try and returns its cost.
    """
    found = slurm.with_end(slurm.current(environment))
    return Config(
        executors=[executor(site, request, shape, plan, found, run_dir) for shape in SHAPES],
        retries=RETRIES,
        retry_handler=on_failure or (lambda error, _task: retry_cost(error)),
        run_dir=str(run_dir / "parsl"),
        strategy="simple",
        strategy_period=0.5,
        max_idletime=IDLE_S,
        usage_tracking=0,
        initialize_logging=FileLogging(level=logging.INFO),
        monitoring=_monitoring(run_dir) if request.monitoring else None,
    )


def _monitoring(run_dir: Path) -> MonitoringHub:
    """Return Parsl's recorder of tasks and resources; UsageError without its database package."""
    if importlib.util.find_spec("sqlalchemy") is None:
        raise UsageError("--monitoring needs SQLAlchemy: pip install 'quatrain[monitoring]', or leave it out")
    return MonitoringHub(logging_endpoint=f"sqlite:///{run_dir.absolute() / 'parsl' / 'monitoring.db'}")


def executor(
    site: Site,
    request: Request,
    shape: Shape,
    plan: Sequence[Step] = (),
    found: slurm.Allocation | None = None,
    run_dir: Path = Path(),
) -> ParslExecutor:
    """Return the executor of one shape."""
    if site.executor == "threads":
        return ThreadPoolExecutor(label=shape, max_threads=slurm.seen(site, request, found).workers(shape, nodes=1))
    return worker_pool(site, request, shape, plan, found, run_dir=run_dir)


def worker_pool(
    site: Site,
    request: Request,
    shape: Shape,
    plan: Sequence[Step] = (),
    found: slurm.Allocation | None = None,
    nodes: ExecutionProvider | None = None,
    run_dir: Path = Path(),
) -> HighThroughputExecutor:
    """Return the executor of one shape with worker processes; `nodes` takes the place of the site's own provider.

    Only containers need to know `run_dir`.
    """
    site = slurm.seen(site, request, found)
    pinned = shape == "gpu" and site.gpus_per_node > 0
    made = HighThroughputExecutor(
        label=shape,
        launch_cmd=" ".join(
            [
                *_around(site, request, shape, found, run_dir),
                *_pool(site, request, shape, plan, found),
                DEFAULT_LAUNCH_CMD,
            ]
        ),
        provider=nodes or provider(site, request, shape, found, run_dir),
        address=site.address or "127.0.0.1",
        cores_per_worker=1e-3,  # else a small host has room for fewer workers than it is told to start
        max_workers_per_node=site.workers(shape, nodes=1),
        available_accelerators=accelerators(site, found if slurm.source(site, request, found) == "allocation" else None)
        if pinned
        else [],
        cpu_affinity=affinity(site) if pinned else "none",
        drain_period=drain_s(site, request, shape, plan, found),
        heartbeat_period=HEARTBEAT_S,
        heartbeat_threshold=HEARTBEAT_LIMIT_S,
        block_error_handler=judge,
        interchange_launch_cmd=[sys.executable, "-m", "quatrain.hpc.interchange"],
    )
    if site.address is None:  # set here, because the constructor would ask a web service for this host's address
        made.address, made.all_addresses = None, set(addresses())
    return made


def _around(site: Site, request: Request, shape: Shape, found: slurm.Allocation | None, run_dir: Path) -> list[str]:
    """Return the words that put a pool into a container; a worker of shape `block` stays outside, where srun is."""
    if shape == "block":
        return []
    prepared = slurm.source(site, request, found) == "slurm"
    return [shlex.quote(word) for word in container.words(site, request, [run_dir], prepared=prepared)]


def accelerators(site: Site, found: slurm.Allocation | None) -> list[str]:
    """Return the GPU names of a node: those that Slurm gave to this allocation, or all of them."""
    given = found.gpus if found is not None else ()
    return list(given) or [str(index) for index in range(site.gpus_per_node)]


def affinity(site: Site) -> str:
    """Return how a node's cores are shared among its workers; not at all where a worker would be left without."""
    if site.cpus_per_node is None or site.cpus_per_node < site.gpu_workers:
        return "none"
    return {"natural": "block", "reversed": "block-reverse"}[site.gpu_order]


def drain_s(
    site: Site, request: Request, shape: Shape, plan: Sequence[Step], found: slurm.Allocation | None
) -> int | None:
    """Return the seconds after which a pool that starts now takes no new task, so that its last one ends in time.

    None where no walltime binds. This is what is expected; each pool counts anew from the end of its nodes.
    """
    left_s = _left_s(site, request, found)
    if left_s is None:
        return None
    found = found if slurm.source(site, request, found) == "allocation" else None
    return max(1, int(left_s - site.startup_s - _reserve_s(left_s, shape, plan, found)))


def _reserve_s(left_s: float, shape: Shape, plan: Sequence[Step], found: slurm.Allocation | None) -> int:
    """Return the seconds before the end of nodes in which no task may begin; a driver in their job stops earlier."""
    return reserve_s(left_s, longest_s(plan, shape)) + (found.grace_s if found is not None else 0)


def _left_s(site: Site, request: Request, found: slurm.Allocation | None) -> float | None:
    """Return for how long nodes are there that are taken now; None where nothing takes them back."""
    origin = slurm.source(site, request, found)
    if origin == "slurm":
        return request.walltime_min * 60.0
    if origin == "local" or found is None or found.end_time_s is None:
        return None
    return found.end_time_s - time.time()


def _pool(
    site: Site, request: Request, shape: Shape, plan: Sequence[Step], found: slurm.Allocation | None
) -> list[str]:
    """Return the words that start a pool, with the time that it keeps free before the end of its nodes.

    A pool for which nothing is left ends, and with it the job; in an allocation that goes on it stays and does nothing.
    """
    left_s = _left_s(site, request, found)
    if left_s is None:
        return [*POOL]
    inside = found if slurm.source(site, request, found) == "allocation" else None
    return [*POOL, f"--reserve={_reserve_s(left_s, shape, plan, inside)}", *(["--stay"] if inside else [])]


def block_end(site: Site, request: Request, found: slurm.Allocation | None) -> str | None:
    """Return when the nodes of a block are taken back, as a shell writes it; None where nothing takes them back."""
    if slurm.source(site, request, found) == "slurm":
        return slurm.end_in(request.walltime_min * 60)
    inside = slurm.source(site, request, found) == "allocation" and found is not None
    return str(int(found.end_time_s)) if inside and found is not None and found.end_time_s is not None else None


def provider(
    site: Site, request: Request, shape: Shape, found: slurm.Allocation | None = None, run_dir: Path = Path()
) -> SlurmJobs | LocalProvider:
    """Return the source of nodes: jobs of our own, the allocation around the driver, or this machine."""
    if slurm.source(site, request, found) == "slurm":
        jobs = SlurmJobs(**slurm_settings(site, request, shape, run_dir))
        jobs.poll_s = site.poll_s
        return jobs
    inside = found if slurm.source(site, request, found) == "allocation" else None
    return LocalProvider(
        nodes_per_block=len(inside.nodes) if inside and shape == "gpu" else 1,
        launcher=launcher(site, shape, overlap=inside is not None),
        init_blocks=0,
        max_blocks=1,
        worker_init=worker_init(
            site, shape, container.words(site, request, [run_dir], prepared=False), block_end(site, request, found)
        ),
    )


def slurm_settings(site: Site, request: Request, shape: Shape, run_dir: Path = Path()) -> dict[str, Any]:
    """Return the arguments of SlurmProvider; its constructor asks the scheduler, so a dry run needs them without it."""
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
        "scheduler_options": "\n".join(f"#SBATCH {option}" for option in options(site, request)),
        "worker_init": worker_init(
            site, shape, container.words(site, request, [run_dir], prepared=True), block_end(site, request, None)
        ),
        "cmd_timeout": SUBMIT_TIMEOUT_S,
        "exclusive": site.exclusive,
        "launcher": launcher(site, shape, overlap=False),
    }


def options(site: Site, request: Request) -> list[str]:
    """Return the options of a batch script that only the site and the image decide."""
    licenses = [f"--licenses={','.join(site.licenses)}"] if site.licenses else []
    return [*licenses, *site.scheduler_options, *container.script_options(site, request)]


def launcher(site: Site, shape: Shape, overlap: bool) -> Launcher:
    """Return what puts worker pools on nodes: srun for one on each node, or nothing where a script is on the first."""
    if site.scheduler == "none" or (shape == "block" and not overlap):
        return SimpleLauncher()
    # since 22.05 srun takes none of it over from sbatch, and a step would have one processor
    cpus = slurm.CPUS_OF_A_NODE if site.cpus_per_node is None else site.cpus_per_node
    if shape == "block":  # the driver of an allocation need not be on its first node
        first = ["--nodes=1", "--relative=0", "--overlap", f"--cpus-per-task={cpus}"]
        return SrunLauncher(overrides=" ".join([*first, *site.srun_options]))
    options = ["--ntasks-per-node=1", *(["--overlap"] if overlap else [])]
    if site.gpus_per_node:
        options.append(f"--gpus-per-node={site.gpus_per_node}")
    options.append(f"--cpus-per-task={cpus}")
    return SrunLauncher(overrides=" ".join([*options, *site.srun_options]))


def worker_init(site: Site, shape: Shape, inside: Sequence[str] = (), end: str | None = None) -> str:
    """Return the shell lines before a pool starts: this Python's commands, threads, the site's variables and lines.

    `inside` are the words that put a program into the site's container. A pool that starts in one takes the image's
    Python; one that stays outside hands the words on to its tasks. `end` is what `block_end` tells.
    """
    lines = slurm.announcement(site.scheduler == "slurm")
    if end is not None:
        lines.append(f'export {slurm.BLOCK_END}="{end}"')
    if not inside or shape == "block":
        lines.append(f'export PATH="{Path(sys.executable).parent}{os.pathsep}$PATH"')
    if site.cpus_per_node is not None:
        threads = max(1, site.cpus_per_node // site.workers(shape, nodes=1))
        lines.append(f'export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{threads}}}"')
    if site.scheduler == "slurm":
        lines.append(f"export {BY_SRUN}=1")
    if inside and shape == "block":
        lines.append(f"export {CONTAINER}={shlex.quote(shlex.join(inside))}")
    lines += [f'export {name}="{value}"' for name, value in site.environment.items()]
    return "\n".join([*lines, *site.worker_init])
