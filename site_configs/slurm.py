"""Any Slurm cluster: what it needs comes from flags (--partition, --constraint, --qos, --gpus-per-node)."""

from __future__ import annotations

from quatrain.hpc.site import Site


def site() -> Site:
    """Return a cluster of which nothing is known, so no limit is checked before Slurm checks it."""
    return Site(
        name="slurm",
        description="any Slurm cluster: add --partition, --account, --gpus-per-node as it needs them",
        cpus_per_node=None,
        gpu_workers=1,
        scheduler="slurm",
    )
