"""From a site, a request and a run folder to a Parsl configuration; the only place that knows Parsl's settings."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.executors.base import ParslExecutor
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.launchers import SimpleLauncher, SrunLauncher
from parsl.launchers.base import Launcher
from parsl.logconfigs.file import FileLogging
from parsl.providers import LocalProvider, SlurmProvider
from parsl.providers.base import ExecutionProvider

from quatrain.hpc import allocation as slurm
from quatrain.hpc.commands import BY_SRUN
from quatrain.hpc.plan import Step, longest_s
from quatrain.hpc.site import SHAPES, Request, Shape, Site, fitted

RETRIES = 1
HEARTBEAT_S = 5
HEARTBEAT_LIMIT_S = 20
"""A manager that was silent for so long is lost; after a driver's death its allocation is free that soon."""
IDLE_S = 60.0
"""Blocks without work for so long are given back."""
SUBMIT_TIMEOUT_S = 60
MARGIN_S = 60
"""Kept free between the last task's end and the end of the walltime."""

RetryHandler = Callable[[Exception, Any], float]


def retry_cost(error: BaseException) -> float:
    """Return what a failure takes of a task's budget of RETRIES.

    A node that went away is the machine's matter (20 times), a worker that died may be the task's own (3 times), and
    an exception that the task raised would be raised again.
    """
    if isinstance(error, ManagerLost):
        return 0.05
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
    found = slurm.current(environment)
    return Config(
        executors=[executor(site, request, shape, plan, found) for shape in SHAPES],
        retries=RETRIES,
        retry_handler=on_failure or (lambda error, _task: retry_cost(error)),
        run_dir=str(run_dir / "parsl"),
        strategy="simple",
        strategy_period=0.5,
        max_idletime=IDLE_S,
        usage_tracking=0,
        initialize_logging=FileLogging(level=logging.INFO),
    )


def executor(
    site: Site, request: Request, shape: Shape, plan: Sequence[Step] = (), found: slurm.Allocation | None = None
) -> ParslExecutor:
    """Return the executor of one shape."""
    if site.executor == "threads":
        return ThreadPoolExecutor(label=shape, max_threads=fitted(site, request).workers(shape, nodes=1))
    return worker_pool(site, request, shape, plan, found)


def worker_pool(
    site: Site,
    request: Request,
    shape: Shape,
    plan: Sequence[Step] = (),
    found: slurm.Allocation | None = None,
    nodes: ExecutionProvider | None = None,
) -> HighThroughputExecutor:
    """Return the executor of one shape with worker processes; `nodes` takes the place of the site's own provider."""
    site = fitted(site, request)
    pinned = shape == "gpu" and site.gpus_per_node > 0
    order = {"natural": "block", "reversed": "block-reverse"}[site.gpu_order]
    made = HighThroughputExecutor(
        label=shape,
        provider=nodes or provider(site, request, shape, found),
        address=site.address or "127.0.0.1",
        cores_per_worker=1e-3,  # else a small host has room for fewer workers than it is told to start
        max_workers_per_node=site.workers(shape, nodes=1),
        available_accelerators=accelerators(site, found) if pinned else [],
        cpu_affinity=order if pinned else "none",
        drain_period=drain_s(site, request, shape, plan, found),
        heartbeat_period=HEARTBEAT_S,
        heartbeat_threshold=HEARTBEAT_LIMIT_S,
        interchange_launch_cmd=[sys.executable, "-m", "quatrain.hpc.interchange"],
    )
    if site.address is None:  # set here, because the constructor would ask a web service for this host's address
        made.address, made.all_addresses = None, set(addresses())
    return made


def accelerators(site: Site, found: slurm.Allocation | None) -> list[str]:
    """Return the GPU names of a node: those that Slurm gave to this allocation, or all of them."""
    given = found.gpus if found is not None else ()
    return list(given) or [str(index) for index in range(site.gpus_per_node)]


def addresses() -> list[str]:
    """Return the IPv4 addresses of this host's interfaces, loopback last resort only; no name server is asked."""
    known = [a.address for entries in psutil.net_if_addrs().values() for a in entries if a.family is socket.AF_INET]
    return sorted({address for address in known if not address.startswith("127.")}) or ["127.0.0.1"]


def drain_s(
    site: Site, request: Request, shape: Shape, plan: Sequence[Step], found: slurm.Allocation | None
) -> int | None:
    """Return the seconds after which a pool takes no new task, so that its last one ends before the walltime.

    None where no walltime binds.
    """
    origin = slurm.source(site, request, found)
    if origin == "local" or (origin == "allocation" and (found is None or found.end_time_s is None)):
        return None
    left = request.walltime_min * 60.0
    if origin == "allocation" and found is not None and found.end_time_s is not None:
        left = found.end_time_s - time.time()
    return max(MARGIN_S, int(left - site.startup_s - longest_s(plan, shape) - MARGIN_S))


def provider(
    site: Site, request: Request, shape: Shape, found: slurm.Allocation | None = None
) -> SlurmProvider | LocalProvider:
    """Return the source of nodes: jobs of our own, the allocation around the driver, or this machine."""
    if slurm.source(site, request, found) == "slurm":
        return SlurmProvider(**slurm_settings(site, request, shape))
    inside = found if slurm.source(site, request, found) == "allocation" else None
    return LocalProvider(
        nodes_per_block=len(inside.nodes) if inside else 1,
        launcher=launcher(site, shape, overlap=inside is not None),
        init_blocks=0,
        max_blocks=1,
        worker_init=worker_init(site, shape),
    )


def slurm_settings(site: Site, request: Request, shape: Shape) -> dict[str, Any]:
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
        "scheduler_options": "\n".join(f"#SBATCH {option}" for option in _options(site)),
        "worker_init": worker_init(site, shape),
        "cmd_timeout": SUBMIT_TIMEOUT_S,
        "exclusive": site.exclusive,
        "launcher": launcher(site, shape, overlap=False),
    }


def _options(site: Site) -> list[str]:
    licenses = [f"--licenses={','.join(site.licenses)}"] if site.licenses else []
    return [*licenses, *site.scheduler_options]


def launcher(site: Site, shape: Shape, overlap: bool) -> Launcher:
    """Return what puts worker pools on nodes: srun for one on each node, nothing for one on the first."""
    if shape == "block" or site.scheduler == "none":
        return SimpleLauncher()
    options = ["--ntasks-per-node=1", *(["--overlap"] if overlap else [])]
    if site.gpus_per_node:
        options.append(f"--gpus-per-node={site.gpus_per_node}")
    if site.cpus_per_node is not None:  # srun takes none of it over from sbatch
        options.append(f"--cpus-per-task={site.cpus_per_node}")
    return SrunLauncher(overrides=" ".join([*options, *site.srun_options]))


def worker_init(site: Site, shape: Shape) -> str:
    """Return the shell lines before a pool starts: this Python's commands, threads, the site's variables and lines."""
    lines = [f'export PATH="{Path(sys.executable).parent}{os.pathsep}$PATH"']
    if site.cpus_per_node is not None:
        threads = max(1, site.cpus_per_node // site.workers(shape, nodes=1))
        lines.append(f'export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{threads}}}"')
    if site.scheduler == "slurm":
        lines.append(f"export {BY_SRUN}=1")
    lines += [f'export {name}="{value}"' for name, value in site.environment.items()]
    return "\n".join([*lines, *site.worker_init])
