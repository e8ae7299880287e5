"""Facts of a machine and the request of a user, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Shape = Literal["gpu", "block"]
"""Placement of workers: `gpu` is one worker per GPU (or core), `block` is one for a whole block of nodes."""
SHAPES: tuple[Shape, ...] = ("gpu", "block")
SCHEDULERS = ("none", "slurm")
CONTAINERS = ("none", "shifter", "podman-hpc", "apptainer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Qos:
    """One quality of service of a scheduler, with the limits that its jobs must keep."""

    name: str
    max_walltime_min: int
    max_nodes: int | None = None
    """None if the machine's size is the only limit."""
    max_gpus_per_node: int | None = None
    """Set if jobs share a node."""
    charge: float = 1.0
    """Node-hours charged for each node-hour used."""
    interactive: bool = False
    """True if only salloc may request it."""

    def __post_init__(self) -> None:
        if self.max_walltime_min < 1:
            raise ValueError(f"max_walltime_min of {self.name!r} is {self.max_walltime_min}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSystem:
    """A file system of a site, under the name that its users know."""

    name: str
    path: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """The facts of one machine; it contains no account, no network address and no user's folder."""

    name: str
    description: str
    cpus_per_node: int | None
    """Logical processors that a job may use on a node; None leaves it to the scheduler."""
    gpu_workers: int
    """Workers of shape `gpu` on a node: its GPUs, or without any as many as its cores can feed."""
    memory_gb: int | None = None
    gpus_per_node: int = 0
    gpu_order: Literal["natural", "reversed"] = "natural"
    """`reversed` if the last GPU is attached to the first cores."""
    scheduler: Literal["none", "slurm"] = "none"
    executor: Literal["htex", "threads"] = "htex"
    container: Literal["none", "shifter", "podman-hpc", "apptainer"] = "none"
    """What runs workers of shape `gpu`, and the programs that the others start, inside an image."""
    image: str | None = None
    """The image of runs without --image."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Pairs of a host folder and its mount point in the image."""
    container_options: tuple[str, ...] = ()
    """Further options of the container's command, such as `--module=gpu` or `--nv`."""
    address: str | None = None
    """Address at which workers reach the driver; None offers every address of its interfaces."""
    startup_s: int = 120
    """Seconds from the start of a job to its first task: modules, imports, connection."""
    poll_s: int = 30
    """Seconds between two queries to the scheduler; centres ask for few queries."""
    max_blocks: int = 1
    """Jobs of one shape in the queue at a time."""
    features: tuple[str, ...] = ()
    """Node features that a job asks for, all of them (--constraint)."""
    licenses: tuple[str, ...] = ()
    exclusive: bool = True
    qos: tuple[Qos, ...] = ()
    """Empty if no limits are known; then none is checked."""
    default_qos: str | None = None
    limits_checked: str = ""
    """The date on which the limits were last compared with what the centre publishes."""
    account_pattern: str = ""
    """A regular expression for a whole account name; empty if no account is needed."""
    account_example: str = ""
    file_systems: tuple[FileSystem, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of every worker."""
    worker_init: tuple[str, ...] = ()
    """Shell lines that run before a worker starts."""
    scheduler_options: tuple[str, ...] = ()
    """Further lines for the batch script, such as `--gpu-bind=none`."""
    srun_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        cpus = 1 if self.cpus_per_node is None else self.cpus_per_node
        if min(self.gpu_workers, self.max_blocks, self.poll_s, cpus) < 1:
            raise ValueError(
                f"site {self.name!r}: cpus_per_node, gpu_workers, max_blocks and poll_s must be at least 1"
            )
        if self.gpus_per_node and self.gpu_workers > self.gpus_per_node:
            raise ValueError(
                f"site {self.name!r}: gpu_workers is {self.gpu_workers}; a node has {self.gpus_per_node} GPUs"
            )
        for name, known in (("scheduler", SCHEDULERS), ("container", CONTAINERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"site {self.name!r}: {name} is {getattr(self, name)!r}; known: {', '.join(known)}")
        if self.default_qos is not None and self.default_qos not in {qos.name for qos in self.qos}:
            raise ValueError(f"site {self.name!r}: default_qos is {self.default_qos!r}; it is not one of its qos")

    def workers(self, shape: Shape, nodes: int) -> int:
        """Return how many tasks of a shape run at once on a block of `nodes` nodes."""
        return self.gpu_workers * nodes if shape == "gpu" else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The resources that one run requests from a site."""

    account: str | None = None
    nodes: int = 1
    walltime_min: int = 30
    qos: str | None = None
    partition: str | None = None
    constraint: str | None = None
    """Replaces the site's features."""
    gpus_per_node: int | None = None
    """GPUs per node: fewer than the site's, or any number for a generic site."""
    image: str | None = None
    """The container image, in place of the site's."""
    allocation: bool = True
    """Use the allocation that the driver runs in, if any."""
    unchecked: bool = False
    """Leave the limits of the site's qos to Slurm."""
    monitoring: bool = False
    """Let Parsl's own monitoring write parsl/monitoring.db."""

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ValueError(f"nodes is {self.nodes}; it must be at least 1")
        if self.walltime_min < 1:
            raise ValueError(f"walltime is {self.walltime_min} minutes; it must be at least 1")
        if self.gpus_per_node is not None and self.gpus_per_node < 0:
            raise ValueError(f"gpus_per_node is {self.gpus_per_node}; it must be at least 0")
        for name in ("account", "qos", "partition", "constraint", "image"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"\S+", value):  # each is a word of a batch script
                raise ValueError(f"{name} is {value!r}; it must be one word")


def minutes(text: str) -> int:
    """Return the minutes of a Slurm walltime, MM, HH:MM:SS or D-HH:MM:SS; seconds are rounded up."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)|(\d+)", text.strip())
    if match is None:
        raise ValueError(f"walltime is {text!r}; write minutes (90), HH:MM:SS (01:30:00) or D-HH:MM:SS")
    days, hours, mins, seconds, plain = (int(part or 0) for part in match.groups())
    return plain + days * 1440 + hours * 60 + mins + (seconds > 0)
