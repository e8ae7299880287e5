"""Checks a run against a site's limits; each broken limit is one sentence with the flag to change."""

from __future__ import annotations

import re
from collections.abc import Sequence

from quatrain.errors import unknown
from quatrain.hpc.placement import Placement
from quatrain.hpc.plan import Step, longest_s
from quatrain.hpc.site import Request

MARGIN_S = 60
"""Seconds kept free between the end of the last task and the walltime; at most a tenth of the walltime."""


GRACE_S = 300
"""Seconds before the walltime at which a driver in its own job stops; at most a quarter of the walltime."""


def grace_s(request: Request) -> int:
    """Return how many seconds before the end of its own job a driver stops."""
    return min(GRACE_S, request.walltime_min * 60 // 4)


def problems(placement: Placement, plan: Sequence[Step], *, submitted: bool = False) -> Sequence[str]:
    """Return the limits that a run would break, for every origin of its nodes; empty if it breaks none."""
    if placement.origin != "slurm":
        return image_problem(placement)
    return broken_limits(placement, longest_s(plan) + (grace_s(placement.request) if submitted else 0))


def broken_limits(placement: Placement, longest_task_s: float = 0.0) -> Sequence[str]:
    """Return one sentence for each limit of the site that a request breaks; empty if it keeps all of them."""
    if placement.site.scheduler == "none":
        return []
    return [
        *_account_problem(placement),
        *_qos_problems(placement),
        *_walltime_problem(placement, longest_task_s),
        *image_problem(placement),
    ]


def _account_problem(placement: Placement) -> list[str]:
    site, account = placement.site, placement.request.account
    if not site.account_pattern:
        return []
    if account is None:
        return [f"{site.name} charges an account: add --account {site.account_example}"]
    if not re.fullmatch(site.account_pattern, account):
        return [f"account {account!r} does not have the form of {site.name}'s: {site.account_example}"]
    return []


def _qos_problems(placement: Placement) -> list[str]:
    site, request = placement.facts, placement.request
    if request.unchecked or not site.qos or (request.qos or site.default_qos) is None:
        return []
    qos = placement.qos
    if qos is None:
        what = unknown("qos", str(request.qos), [known.name for known in site.qos])
        return [f"{what}; --unchecked leaves the check to Slurm, and your own site file (--site) can add it"]
    gpus = request.gpus_per_node or site.gpus_per_node
    most_gpus = qos.max_gpus_per_node or site.gpus_per_node
    checks = (
        (qos.interactive, f"qos {qos.name} needs salloc: start this command inside `salloc`, or change --qos"),
        (
            request.walltime_min > qos.max_walltime_min,
            f"--walltime {request.walltime_min} is over {qos.max_walltime_min} minutes",
        ),
        (request.nodes > (qos.max_nodes or request.nodes), f"--nodes {request.nodes} is over {qos.max_nodes}"),
        (gpus > most_gpus, f"--gpus-per-node {gpus} is over {most_gpus}"),
    )
    return [f"{text} (qos {qos.name}, limits of {site.limits_checked})" for broken, text in checks if broken]


def image_problem(placement: Placement) -> list[str]:
    """Return one sentence if the site's workers need a container image and none is named; else an empty list."""
    if placement.site.container == "none" or placement.image:
        return []
    return [f"workers of {placement.site.name} run in a container: add --image with one that contains quatrain"]


def _walltime_problem(placement: Placement, longest_task_s: float) -> list[str]:
    """Return one sentence if no worker would start the longest task within the walltime."""

    def fits(walltime_s: float) -> bool:
        return walltime_s > placement.site.startup_s + reserve_s(walltime_s, longest_task_s)

    asked = least = placement.request.walltime_min
    while not fits(least * 60):
        least += 1
    if least == asked:
        return []
    return [f"--walltime {asked} is too short for the longest task: use at least {least}"]


def reserve_s(left_s: float, longest_task_s: float) -> int:
    """Return the seconds before the end of a walltime, with `left_s` left of it, in which no task starts."""
    return int(longest_task_s + min(MARGIN_S, left_s / 10))
