"""What is known about a machine, as data, and what a user asks of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from quatrain.errors import unknown

Shape = Literal["gpu", "block"]
"""How a worker stands: `gpu` is one worker for each GPU (or core), `block` is one for a whole block of nodes."""
SHAPES: tuple[Shape, ...] = ("gpu", "block")
SCHEDULERS = ("none", "slurm")
CONTAINERS = ("none", "shifter", "podman-hpc", "apptainer")
MARGIN_S = 60
"""Kept free between the last task's end and the end of the walltime, or a tenth of it where that is less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Qos:
    """One quality of service of a scheduler, with the limits that its jobs must keep."""

    name: str
    max_walltime_min: int
    max_nodes: int | None = None
    """None where the machine's size is the only limit."""
    max_gpus_per_node: int | None = None
    """Set where jobs share a node."""
    charge: float = 1.0
    """Node-hours charged for each node-hour used."""
    interactive: bool = False
    """True where only salloc may ask for it."""

    def __post_init__(self) -> None:
        if self.max_walltime_min < 1:
            raise ValueError(f"max_walltime_min of {self.name!r} is {self.max_walltime_min}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSystem:
    """A place for files, as its users name it."""

    name: str
    path: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """The facts of one machine; no account, no address and no person's folder stand here."""

    name: str
    description: str
    cpus_per_node: int | None
    """Logical processors that a job may use on a node; None leaves it to the scheduler."""
    gpu_workers: int
    """Workers of shape `gpu` on a node: its GPUs, or without any as many as its cores can feed."""
    memory_gb: int | None = None
    gpus_per_node: int = 0
    gpu_order: Literal["natural", "reversed"] = "natural"
    """`reversed` where the last GPU sits beside the first cores."""
    scheduler: Literal["none", "slurm"] = "none"
    executor: Literal["htex", "threads"] = "htex"
    container: Literal["none", "shifter", "podman-hpc", "apptainer"] = "none"
    """What runs workers of shape `gpu`, and the programs that the others start, inside an image."""
    image: str | None = None
    """The image of runs that name none."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Folders of the host and where the image sees them."""
    container_options: tuple[str, ...] = ()
    """Further options of the container's command, such as `--module=gpu` or `--nv`."""
    address: str | None = None
    """Where workers reach the driver; None offers every address of its interfaces."""
    startup_s: int = 120
    """Seconds from the start of a job to its first task: modules, imports, connection."""
    poll_s: int = 30
    """Seconds between two questions to the scheduler; centres ask for few."""
    max_blocks: int = 1
    """Jobs of one shape in the queue at a time."""
    features: tuple[str, ...] = ()
    """Node features that a job asks for, all of them (--constraint)."""
    licenses: tuple[str, ...] = ()
    exclusive: bool = True
    qos: tuple[Qos, ...] = ()
    """Empty where nothing is known, so nothing is checked."""
    default_qos: str | None = None
    limits_checked: str = ""
    """The date on which the limits were last compared with what the centre publishes."""
    account_pattern: str = ""
    """A regular expression that accounts match whole; empty where none is needed."""
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
            raise ValueError(f"site {self.name!r}: default_qos is {self.default_qos!r}; it is none of its qos")

    def workers(self, shape: Shape, nodes: int) -> int:
        """Return how many tasks of a shape run at once on a block of `nodes` nodes."""
        return self.gpu_workers * nodes if shape == "gpu" else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What one run asks of a site."""

    account: str | None = None
    nodes: int = 1
    walltime_min: int = 30
    qos: str | None = None
    partition: str | None = None
    constraint: str | None = None
    """Replaces the site's features."""
    gpus_per_node: int | None = None
    """Fewer, or for a generic site some, GPUs a node."""
    image: str | None = None
    """The container image, in place of the site's."""
    allocation: bool = True
    """Use the allocation that the driver runs in, where there is one."""
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
    """Read a walltime as Slurm writes it: MM, HH:MM:SS or D-HH:MM:SS; parts of a minute count whole."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)|(\d+)", text.strip())
    if match is None:
        raise ValueError(f"walltime is {text!r}; write minutes (90), HH:MM:SS (01:30:00) or D-HH:MM:SS")
    days, hours, mins, seconds, plain = (int(part or 0) for part in match.groups())
    return plain + days * 1440 + hours * 60 + mins + (seconds > 0)


def find_qos(site: Site, request: Request) -> Qos | None:
    """Return the quality of service that a request gets, or None where the site knows none of that name."""
    name = request.qos or site.default_qos
    return next((qos for qos in site.qos if qos.name == name), None)


def fitted(site: Site, request: Request) -> Site:
    """Return the site as a request sees it: its GPUs, its features, and its share of a node that others share."""
    gpus = site.gpus_per_node if request.gpus_per_node is None else request.gpus_per_node
    share = node_share(site, request)
    return replace(
        site,
        gpus_per_node=gpus,
        gpu_workers=gpus or site.gpu_workers,
        cpus_per_node=None if site.cpus_per_node is None else max(1, int(site.cpus_per_node * share)),
        exclusive=site.exclusive and not _shares(site, request),
        features=(request.constraint,) if request.constraint else site.features,
    )


def _shares(site: Site, request: Request) -> bool:
    """Tell whether jobs of a request share their nodes with others."""
    qos = find_qos(site, request)
    return qos is not None and qos.max_gpus_per_node is not None


def node_share(site: Site, request: Request) -> float:
    """Return the part of each node that a request gets and pays for: by its GPUs where nodes are shared, else all."""
    if not _shares(site, request) or request.gpus_per_node is None or not site.gpus_per_node:
        return 1.0
    return min(1.0, request.gpus_per_node / site.gpus_per_node)


def broken_limits(site: Site, request: Request, longest_task_s: float = 0.0) -> Sequence[str]:
    """Return one sentence for each rule of the site that a request breaks, with the way out; none when it is fine."""
    if site.scheduler == "none":
        return []
    return [
        *_account_problem(site, request),
        *_qos_problems(site, request),
        *_drain_problem(site, request, longest_task_s),
        *image_problem(site, request),
    ]


def _account_problem(site: Site, request: Request) -> list[str]:
    if not site.account_pattern:
        return []
    if request.account is None:
        return [f"{site.name} charges an account: add --account {site.account_example}"]
    if not re.fullmatch(site.account_pattern, request.account):
        return [f"account {request.account!r} is none for {site.name}: its form is {site.account_example}"]
    return []


def _qos_problems(site: Site, request: Request) -> list[str]:
    if request.unchecked or not site.qos or (request.qos or site.default_qos) is None:
        return []
    qos = find_qos(site, request)
    if qos is None:
        what = unknown("qos", str(request.qos), [known.name for known in site.qos])
        return [f"{what}; --unchecked leaves it to Slurm, and a site file of your own (--site) can name it"]
    checks = (
        (
            qos.interactive,
            f"qos {qos.name} is for salloc only: start this command inside `salloc`, or take another --qos",
        ),
        (
            request.walltime_min > qos.max_walltime_min,
            f"--walltime {request.walltime_min} is over {qos.max_walltime_min} minutes",
        ),
        (request.nodes > (qos.max_nodes or request.nodes), f"--nodes {request.nodes} is over {qos.max_nodes}"),
        (
            (request.gpus_per_node or site.gpus_per_node) > (qos.max_gpus_per_node or site.gpus_per_node),
            f"--gpus-per-node {request.gpus_per_node or site.gpus_per_node} is over {qos.max_gpus_per_node}",
        ),
    )
    return [f"{text} (qos {qos.name}, limits of {site.limits_checked})" for broken, text in checks if broken]


def image_problem(site: Site, request: Request) -> list[str]:
    """Return what is wrong with the image of a request in one sentence, wherever nodes come from; else nothing."""
    if site.container == "none" or request.image or site.image:
        return []
    return [f"workers of {site.name} run in a container: add --image with the name of one that has quatrain in it"]


def _drain_problem(site: Site, request: Request, longest_task_s: float) -> list[str]:
    """Tell of a walltime in which a worker would never take the longest task."""

    def leaves_room(walltime_s: float) -> bool:
        return walltime_s > site.startup_s + reserve_s(walltime_s, longest_task_s)

    least = request.walltime_min
    while not leaves_room(least * 60):
        least += 1
    if least == request.walltime_min:
        return []
    return [f"--walltime {request.walltime_min} leaves no room for the longest task: take {least} or more"]


def reserve_s(left_s: float, longest_task_s: float) -> int:
    """Return the seconds before the end of a walltime, of which `left_s` are left, in which no task may begin."""
    return int(longest_task_s + min(MARGIN_S, left_s / 10))
