"""The virtual cluster with a line before its workers that fails."""

from __future__ import annotations

import dataclasses

import virtual_site

from quatrain.hpc.site import Site


def site() -> Site:
    """Return the site whose workers never start."""
    failing = """echo "Lmod has no module 'pytorch/99'" >&2; exit 7"""
    return dataclasses.replace(virtual_site.site(), worker_init=(failing,))
