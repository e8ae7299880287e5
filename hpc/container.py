"""Containers around workers and programs: what the batch script asks for, and the words before a command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from quatrain.hpc.site import Request, Site


def image(site: Site, request: Request) -> str | None:
    """Return the image that a run takes; None where its site has no containers or nobody named one."""
    return None if site.container == "none" else request.image or site.image


def script_options(site: Site, request: Request) -> list[str]:
    """Return the batch script's options: shifter is told there, so that the prolog prepares the image once a node."""
    name = image(site, request)
    if site.container != "shifter" or name is None:
        return []
    return [f"--image={name}", *_shifter(site)]


def words(site: Site, request: Request, folders: Sequence[Path], *, prepared: bool) -> list[str]:
    """Return the words before a command that put it into the container; none where there is no container.

    `folders` are seen inside under their own paths. `prepared` is True where the batch script has told the image.
    """
    name = image(site, request)
    if name is None:
        return []
    if site.container == "shifter":
        return ["shifter"] if prepared else ["shifter", f"--image={name}", *_shifter(site)]
    mounts = [f"{folder}:{folder}" for folder in folders] + [f"{there}:{here}" for there, here in site.volumes]
    if site.container == "podman-hpc":
        bound = [f"--volume={mount}" for mount in mounts]
        return [
            "podman-hpc",
            "run",
            "--rm",
            "--env-host",
            "--net=host",
            "--ipc=host",
            *site.container_options,
            *bound,
            name,
        ]
    return ["apptainer", "exec", *site.container_options, *[f"--bind={mount}" for mount in mounts], name]


def _shifter(site: Site) -> list[str]:
    volumes = ";".join(f"{there}:{here}" for there, here in site.volumes)
    return [*site.container_options, *([f"--volume={volumes}"] if volumes else [])]


def looked_up(site: Site, request: Request) -> list[str] | None:
    """Return the command that succeeds when the image is there, or None where a look at the file is enough."""
    name = image(site, request)
    if name is None or site.container == "apptainer":
        return None
    if site.container == "shifter":
        return ["shifterimg", "lookup", name]
    return ["podman-hpc", "image", "exists", name]


def pulled(site: Site, request: Request) -> str:
    """Return the command line that fetches the image."""
    name = shlex.quote(image(site, request) or "NAME:TAG")
    commands = {"shifter": "shifterimg pull", "podman-hpc": "podman-hpc pull", "apptainer": "apptainer pull"}
    return f"{commands.get(site.container, '')} {name}"
