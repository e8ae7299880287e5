"""Perlmutter with its workers in podman-hpc containers (docs.nersc.gov: development/containers/podman-hpc)."""

from __future__ import annotations

import dataclasses

from quatrain.hpc.site import Site
from quatrain.site_configs import perlmutter


def site() -> Site:
    """Return Perlmutter's GPU nodes with podman-hpc, the GPU's libraries and NERSC's NCCL put into the image."""
    return dataclasses.replace(
        perlmutter.site(),
        name="perlmutter-podman",
        description="Perlmutter GPU nodes, workers in a podman-hpc image (--image NAME:TAG)",
        container="podman-hpc",
        container_options=("--gpu", "--nccl"),
    )
