"""The virtual cluster as a site: what a user of such a machine would write."""

from __future__ import annotations

from quatrain.hpc.site import Site


def site() -> Site:
    """Return two nodes of four GPUs each, which jobs share, and a queue that may be asked every second."""
    return Site(
        name="virtual",
        description="virtual nodes of this machine",
        cpus_per_node=2,
        gpus_per_node=4,
        gpu_workers=4,
        scheduler="slurm",
        exclusive=False,
        startup_s=40,  # one small machine starts the workers of all nodes
        poll_s=1,
        features=("gpu",),
        licenses=("scratch", "cfs"),
        account_pattern=r"[a-z][a-z0-9]*_g",
        account_example="m1234_g",
        scheduler_options=("--gpu-bind=none",),
        srun_options=("--gpu-bind=none",),
    )
