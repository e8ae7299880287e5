"""Placement of a run: where its nodes come from and what they have, decided once at its start."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from quatrain.hpc.allocation import Allocation, current, with_end
from quatrain.hpc.site import Qos, Request, Shape, Site

Origin = Literal["slurm", "allocation", "local"]
"""Jobs that the driver submits, the allocation that it runs in, or this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """One site for one request, at the place where its driver runs."""

    facts: Site
    """The site as its file describes it."""
    site: Site
    """The site as this run uses it: the GPUs, processors and features of one of the run's nodes."""
    request: Request
    origin: Origin
    nodes: int
    """Nodes of one block of workers."""
    allocation: Allocation | None = None
    """The allocation whose nodes are used; None unless the origin is `allocation`."""
    mounts: tuple[Path, ...] = ()
    """Folders that containers must mount under their own paths."""

    @property
    def qos(self) -> Qos | None:
        """The quality of service of the request; None if the site does not know it."""
        return _qos(self.facts, self.request)

    @property
    def share(self) -> float:
        """The fraction of each node that the request gets and is charged for; 1 unless nodes are shared."""
        return _share(self.facts, self.request)

    @property
    def image(self) -> str | None:
        """The container image; None if the site has no containers or no image is named."""
        return None if self.site.container == "none" else self.request.image or self.site.image

    @property
    def end_s(self) -> float | None:
        """Unix time at which the used allocation ends; None without an allocation or a known end."""
        return None if self.allocation is None else self.allocation.end_time_s

    @property
    def left_s(self) -> float | None:
        """Seconds that nodes taken now remain; None without a walltime."""
        if self.origin == "slurm":
            return self.request.walltime_min * 60.0
        return None if self.end_s is None else self.end_s - time.time()

    @property
    def grace_s(self) -> int:
        """Seconds before the end of the allocation at which its driver stops."""
        return 0 if self.allocation is None else self.allocation.grace_s

    def workers(self, shape: Shape) -> int:
        """Return how many tasks of a shape run at once on one block."""
        return self.site.workers(shape, self.nodes)


def find_placement(site: Site, request: Request, mounts: tuple[Path, ...] = (), *, own_job: bool = False) -> Placement:
    """Return the placement of a run that starts here; `own_job` is True if its driver is submitted as a job.

    Asks squeue for the end of the allocation if the environment does not contain it.
    """
    allocation = None if own_job else current()
    placement = place(site, request, allocation, mounts)
    return placement if placement.allocation is None else place(site, request, with_end(allocation), mounts)


def place(
    site: Site, request: Request, allocation: Allocation | None = None, mounts: tuple[Path, ...] = ()
) -> Placement:
    """Return the placement of a run; `allocation` is the one around the driver."""
    used = allocation if request.allocation and site.scheduler != "none" else None
    origin: Origin = "local" if site.scheduler == "none" else "allocation" if used is not None else "slurm"
    nodes = len(used.nodes) if used is not None else request.nodes if origin == "slurm" else 1
    return Placement(
        facts=site,
        site=_as_used(site, request, used),
        request=request,
        origin=origin,
        nodes=nodes,
        allocation=used,
        mounts=mounts,
    )


def _as_used(site: Site, request: Request, used: Allocation | None) -> Site:
    """Return a site with the GPUs, processors and features that one node gives to this run."""
    gpus = site.gpus_per_node if request.gpus_per_node is None else request.gpus_per_node
    cpus = site.cpus_per_node and max(1, int(site.cpus_per_node * _share(site, request)))
    if used is not None:
        cpus = cpus and min(cpus, used.cpus_per_node or cpus)
        gpus = gpus if used.gpus_per_node is None else min(gpus, used.gpus_per_node)
    return replace(
        site,
        gpus_per_node=gpus,
        gpu_workers=gpus or site.gpu_workers,
        cpus_per_node=cpus,
        exclusive=site.exclusive and not _is_shared(site, request),
        features=(request.constraint,) if request.constraint else site.features,
    )


def _qos(site: Site, request: Request) -> Qos | None:
    name = request.qos or site.default_qos
    return next((qos for qos in site.qos if qos.name == name), None)


def _is_shared(site: Site, request: Request) -> bool:
    """Return whether other users' jobs run on the same nodes."""
    qos = _qos(site, request)
    return qos is not None and qos.max_gpus_per_node is not None


def _share(site: Site, request: Request) -> float:
    if not _is_shared(site, request) or request.gpus_per_node is None or not site.gpus_per_node:
        return 1.0
    return min(1.0, request.gpus_per_node / site.gpus_per_node)
