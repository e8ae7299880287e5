"""The machine in front of you: real worker processes, so that whatever runs here also travels to a cluster."""

from __future__ import annotations

import os

from quatrain.hpc.site import Site


def site() -> Site:
    """Return the machine that the driver runs on, with one worker for each processor it may use, at most eight."""
    cpus = len(os.sched_getaffinity(0))
    workers = min(cpus, 8)  # each worker holds a model and the libraries: about half a gigabyte
    return Site(
        name="local",
        description="this machine, with worker processes",
        cpus_per_node=cpus,
        gpu_workers=workers,
        address="127.0.0.1",
        startup_s=10,
    )
