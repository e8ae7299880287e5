"""`quatrain sites NAME` and `quatrain sites check NAME`: a site's facts, and its problems on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from quatrain.errors import UsageError
from quatrain.hpc import container, site_registry
from quatrain.hpc.cli import Common
from quatrain.hpc.flags import parse_flags
from quatrain.hpc.limits import broken_limits
from quatrain.hpc.placement import Placement, find_placement
from quatrain.hpc.site import Qos, Site

COMMANDS = ("sbatch", "squeue", "scancel", "srun", "scontrol", "salloc")
RUNTIMES = {"shifter": "shifterimg", "podman-hpc": "podman-hpc", "apptainer": "apptainer"}
"""The command on a login node that knows a runtime's images."""
TIMEOUT_S = 60


def command(arguments: Sequence[str]) -> None:
    """Print every site with its description, one site's facts, or its problems on this machine."""
    match list(arguments):
        case ["check", name, *flags] if not name.startswith("-"):
            check(name, flags)
        case [name] if not name.startswith("-") and name != "check":
            print(explain(site_registry.find(name)))
        case []:
            width = max(len(name) for name in site_registry.names())
            for name in site_registry.names():
                print(f"{name:{width}}  {site_registry.find(name).description}")
        case _:
            raise UsageError("usage: quatrain sites [NAME] | quatrain sites check NAME [--account ... --nodes ...]")


def check(name: str, flags: Sequence[str]) -> None:
    """Print the problems that prevent a run on a site from this machine; UsageError if there are any."""
    asked = parse_flags(Common, flags, prog=f"quatrain sites check {name}", description=check.__doc__ or "")
    site = site_registry.find(name)
    found = problems(find_placement(site, asked.request, own_job=True), asked.run_root)
    if found:
        print("\n".join(f"  {text}" for text in found))
        raise UsageError(f"{len(found)} problem{'s' * (len(found) > 1)} with site {site.name} on this machine")
    print(f"{site.name}: no problems on this machine")


def explain(site: Site) -> str:
    """Return the facts of a site as text."""
    gpus = f", {site.gpus_per_node} GPUs ({site.gpu_order} order)" if site.gpus_per_node else ""
    cores = "its cores are left to the scheduler" if site.cpus_per_node is None else f"{site.cpus_per_node} processors"
    lines = [
        f"{site.name}: {site.description}",
        f"  a node: {cores}{gpus}" + (f", {site.memory_gb} GB" if site.memory_gb else ""),
        f"  workers: {site.gpu_workers} of shape gpu on a node, 1 of shape block for all nodes",
        f"  nodes come from: {'Slurm' if site.scheduler == 'slurm' else 'this machine'}",
        f"  container: {site.container} {' '.join(site.container_options)}".rstrip(),
    ]
    if site.account_pattern:
        lines.append(f"  account: asked for, such as --account {site.account_example}")
    if site.features or site.licenses:
        lines.append(
            f"  asks for: features {' '.join(site.features) or '-'}, licences {' '.join(site.licenses) or '-'}"
        )
    lines += [f"  {_quality(qos, site)}" for qos in site.qos]
    lines += [f"  limits as of {site.limits_checked}"] if site.qos else []
    lines += [f"  files: {place.name} {place.path} ({place.note})" for place in site.file_systems]
    return "\n".join(lines)


def _quality(qos: Qos, site: Site) -> str:
    parts = [
        f"at most {qos.max_walltime_min} min",
        f"{qos.max_nodes} nodes" if qos.max_nodes else "",
        f"{qos.max_gpus_per_node} GPUs" if qos.max_gpus_per_node else "",
        f"charged x {qos.charge:g}",
        "salloc only" if qos.interactive else "",
        "the default" if qos.name == site.default_qos else "",
    ]
    return f"qos {qos.name}: {', '.join(filter(None, parts))}"


def problems(placement: Placement, run_root: Path) -> list[str]:
    """Return one line for each problem that prevents a run from this machine; empty without problems."""
    return [
        *_missing_commands(placement.site),
        *broken_limits(placement),
        *_image(placement),
        *_folder(run_root),
    ]


def _missing_commands(site: Site) -> Iterator[str]:
    wanted = COMMANDS if site.scheduler == "slurm" else ()
    if lacking := [name for name in wanted if shutil.which(name) is None]:
        yield f"{', '.join(lacking)} not found: start this on a login node of {site.name}, or load its Slurm module"
    elif site.scheduler == "slurm" and (said := _failure(["sinfo", "--version"]) or _failure(["squeue", "--me"])):
        yield f"Slurm does not answer: {said}"
    runtime = RUNTIMES.get(site.container)
    if runtime is not None and shutil.which(runtime) is None:
        yield f"{runtime} not found: {site.name} runs its workers with {site.container}"


def _image(placement: Placement) -> Iterator[str]:
    name, lookup = placement.image, container.lookup_command(placement)
    if name is None:
        return
    if lookup is None:
        if not Path(name).exists():
            yield f"image {name!r} is not a file here: {container.pull_command(placement)}"
    elif shutil.which(lookup[0]) is not None and _failure(lookup) is not None:
        yield f"image {name!r} is not pulled: {container.pull_command(placement)}"


def _folder(run_root: Path) -> Iterator[str]:
    there = next(path for path in (run_root.resolve(), *run_root.resolve().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        yield f"run folders cannot be made in {str(run_root)!r}: {there} cannot be written; take another --run-root"


def _failure(argv: list[str]) -> str | None:
    """Return what a command said when it failed, None when it succeeded."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]}: {error}"
    return None if done.returncode == 0 else " ".join((done.stderr or done.stdout).split()) or f"code {done.returncode}"
