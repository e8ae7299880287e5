"""Everything in the driver's own process: for a debugger, whose breakpoints then hold."""

from __future__ import annotations

import os

from quatrain.hpc.site import Site


def site() -> Site:
    """Return the driver's process, one thread for each shape, so that tasks of a shape run one after the other."""
    return Site(
        name="local-threads",
        description="this machine, tasks in threads of the driver (for a debugger)",
        cpus_per_node=len(os.sched_getaffinity(0)),
        gpu_workers=1,
        executor="threads",
        startup_s=0,
    )
