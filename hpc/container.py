"""Containers around workers and programs: options of the batch script, and the words before a command."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from quatrain.hpc.placement import Placement
from quatrain.hpc.site import Site

BLIND = ("podman-hpc", "apptainer")
"""Runtimes whose containers see only what is mounted; shifter shows the site's file systems."""


def mounts(site: Site, configuration: object, folders: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders that a site's containers must mount; empty if they see the site's file systems anyway.

    They are the working folder, `folders`, and the folder of every existing path in the run's configuration.
    """
    if site.container not in BLIND:
        return ()
    wanted = [Path.cwd(), *map(_absolute, folders), *_paths(configuration)]
    return tuple(path for path in dict.fromkeys(wanted) if not set(path.parents) & set(wanted))


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
    """Return an absolute path without resolving its links, because tasks open it by its own name."""
    return Path(os.path.abspath(path))


def script_options(placement: Placement) -> list[str]:
    """Return the batch script's options: shifter reads the image there and prepares it once per node."""
    name = placement.image
    if placement.site.container != "shifter" or name is None:
        return []
    return [f"--image={name}", *_shifter(placement.site)]


def words(placement: Placement, folders: Sequence[Path]) -> list[str]:
    """Return the words before a command that run it in the container; empty without a container.

    `folders` have their own paths inside. In a submitted job the batch script has already named shifter's image.
    """
    site, name = placement.site, placement.image
    if name is None:
        return []
    if site.container == "shifter":
        return ["shifter"] if placement.origin == "slurm" else ["shifter", f"--image={name}", *_shifter(site)]
    bound = [f"{folder}:{folder}" for folder in folders] + [f"{there}:{here}" for there, here in site.volumes]
    bound += [f"{folder}:{folder}" for folder in placement.mounts]
    if site.container == "podman-hpc":
        workdir = [f"--workdir={Path.cwd()}"] if placement.mounts else []
        command = ["podman-hpc", "run", "--rm", "--env-host", "--net=host", "--ipc=host", *site.container_options]
        return [*command, *workdir, *[f"--volume={mount}" for mount in bound], name]
    return ["apptainer", "exec", *site.container_options, *[f"--bind={mount}" for mount in bound], name]


def _shifter(site: Site) -> list[str]:
    volumes = ";".join(f"{there}:{here}" for there, here in site.volumes)
    return [*site.container_options, *([f"--volume={volumes}"] if volumes else [])]


def lookup_command(placement: Placement) -> list[str] | None:
    """Return the command that succeeds if the image is present; None without an image or if the image is a file."""
    name, kind = placement.image, placement.site.container
    if name is None or kind == "apptainer":
        return None
    return ["shifterimg", "lookup", name] if kind == "shifter" else ["podman-hpc", "image", "exists", name]


def pull_command(placement: Placement) -> str:
    """Return the command line that fetches the image."""
    name = shlex.quote(placement.image or "NAME:TAG")
    commands = {"shifter": "shifterimg pull", "podman-hpc": "podman-hpc pull", "apptainer": "apptainer pull"}
    return f"{commands.get(placement.site.container, '')} {name}"
