"""The machines of a DistDGL job on the nodes of a block: one keeper of processes on each, by srun, or one here."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from quatrain.errors import UsageError
from quatrain.files import write_text
from quatrain.hpc import allocation as slurm
from quatrain.hpc import commands
from quatrain.hpc.allocation import Allocation

MODULE = "quatrain.graph.distdgl.launcher"


def launch(folder: Path, machines: int, *, log: Path) -> None:
    """Run the keepers of `machines` machines until the job in `folder` is done; errors as for commands.launch."""
    environment = dict(os.environ)
    found = slurm.current(environment) if environment.get(commands.BY_SRUN) else None
    if found is None:
        commands.python(["-m", MODULE, folder, *range(machines)], log=log)
        return
    shares = deal(machines, found.nodes)
    table = folder / "cluster" / "srun.conf"
    python = commands.inside(commands.container_words(environment))
    lines = [shlex.join([*python, "-m", MODULE, str(folder), *map(str, share)]) for share in shares]
    write_text(table, "".join(f"{rank} {line}\n" for rank, line in enumerate(lines)))
    used = dataclasses.replace(found, nodes=found.nodes[: len(shares)])
    commands.run(srun_argv(table, used), log=log, environment=slurm.step_environment(environment))


def deal(machines: int, nodes: Sequence[object]) -> list[list[int]]:
    """Return the numbers of the machines of each node, contiguous; nodes beyond the last machine stay idle."""
    used = min(machines, len(nodes))
    if machines % used:
        raise UsageError(f"{machines} machines do not fit {used} nodes evenly: give another --cluster.machines")
    each = machines // used
    return [list(range(rank * each, (rank + 1) * each)) for rank in range(used)]


def srun_argv(table: Path, allocation: Allocation) -> list[str]:
    """Return srun that starts a line of `table` on each node of an allocation; when one fails, all end."""
    nodes = allocation.nodes
    return [
        "srun",
        "--overlap",  # the step of the worker that starts this one goes on
        f"--nodes={len(nodes)}",
        f"--ntasks={len(nodes)}",
        "--ntasks-per-node=1",
        f"--nodelist={','.join(nodes)}",
        "--kill-on-bad-exit=1",
        "--gpu-bind=none",
        *slurm.cpus_option(allocation),
        "--multi-prog",
        str(table),
    ]
