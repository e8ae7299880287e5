"""Perlmutter with its workers in Shifter containers (docs.nersc.gov: development/containers/shifter)."""

from __future__ import annotations

import dataclasses

from quatrain.hpc.site import Site
from quatrain.site_configs import perlmutter


def site() -> Site:
    """Return Perlmutter's GPU nodes with Shifter, the GPU's libraries and NERSC's NCCL put into the image."""
    return dataclasses.replace(
        perlmutter.site(),
        name="perlmutter-shifter",
        description="Perlmutter GPU nodes, workers in a Shifter image (--image docker:NAME:TAG)",
        container="shifter",
        container_options=("--module=gpu,nccl-plugin",),
    )
