"""Containers around workers and programs: what the batch script asks for, and the words before a command."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from quatrain.hpc.site import Request, Site

BLIND = ("podman-hpc", "apptainer")
"""Runtimes whose containers see of the host only what is mounted; shifter shows the site's file systems."""


def image(site: Site, request: Request) -> str | None:
    """Return the image that a run takes; None where its site has no containers or nobody named one."""
    return None if site.container == "none" else request.image or site.image


def seeing(site: Site, configuration: object, folders: Iterable[Path]) -> Site:
    """Return the site with what a run reads and writes mounted in its containers, under the same paths as outside.

    That is the working folder, `folders`, and every path in the run's configuration that is there.
    """
    if site.container not in BLIND:
        return site
    wanted = [Path.cwd(), *map(_absolute, folders), *_paths(configuration)]
    outermost = [path for path in dict.fromkeys(wanted) if not set(path.parents) & set(wanted)]
    workdir = (f"--workdir={Path.cwd()}",) if site.container == "podman-hpc" else ()
    return dataclasses.replace(
        site,
        volumes=(*site.volumes, *((str(path), str(path)) for path in outermost)),
        container_options=(*site.container_options, *workdir),
    )


def _paths(value: object) -> Iterator[Path]:
    """Yield the folders of the files and folders that a configuration names."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, str | os.PathLike) and value and os.path.exists(value):
        for path in (_absolute(Path(value)), Path(value).resolve()):
            folder = path if path.is_dir() else path.parent
            yield folder.parent if folder.name == "checkpoints" else folder  # the run to which they belong


def _absolute(path: Path) -> Path:
    """Return a path from the root, with its links left as they are: tasks open it by its own name."""
    return Path(os.path.abspath(path))


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
