"""The virtual cluster with workers in shifter's containers, as Perlmutter has them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import virtual_site

from quatrain.hpc.site import Site


def site() -> Site:
    """Return the virtual nodes with a container; the tests' own tasks are seen in it under another path."""
    return dataclasses.replace(
        virtual_site.site(),
        name="virtual-shifter",
        container="shifter",
        container_options=("--module=gpu,nccl-plugin",),
        volumes=((str(Path(__file__).parent), "/tasks"),),
    )
