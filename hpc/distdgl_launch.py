"""Starts the machines of a DistDGL job on the nodes of a block: one supervisor per node by srun, or one here."""

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
from quatrain.hpc.srun import SRUN_OPTIONS, srun_argv

MODULE = "quatrain.graph.distdgl.launcher"


def launch(folder: Path, machines: int, *, log: Path) -> None:
    """Run the supervisors of `machines` machines until the job in `folder` is done; errors as for commands.launch."""
    environment = dict(os.environ)
    allocation = slurm.current(environment) if SRUN_OPTIONS in environment else None
    if allocation is None:
        commands.python(["-m", MODULE, folder, *range(machines)], log=log)
        return
    shares = deal(machines, allocation.nodes)
    table = folder / "cluster" / "srun.conf"
    python = commands.inside(commands.container_words(environment))
    lines = [shlex.join([*python, "-m", MODULE, str(folder), *map(str, share)]) for share in shares]
    write_text(table, "".join(f"{rank} {line}\n" for rank, line in enumerate(lines)))
    used = dataclasses.replace(allocation, nodes=allocation.nodes[: len(shares)])
    argv = srun_argv(used, ["--multi-prog", str(table)], environment)
    commands.run(argv, log=log, environment=slurm.step_environment(environment))


def deal(machines: int, nodes: Sequence[object]) -> list[list[int]]:
    """Return the numbers of the machines of each node, contiguous; nodes beyond the last machine stay idle."""
    used = min(machines, len(nodes))
    if machines % used:
        raise UsageError(f"{machines} machines do not fit {used} nodes evenly: give another --cluster.machines")
    each = machines // used
    return [list(range(rank * each, (rank + 1) * each)) for rank in range(used)]
