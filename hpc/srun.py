"""srun command lines: the only place that composes them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from quatrain.hpc.allocation import Allocation

SRUN_OPTIONS = "QUATRAIN_SRUN"
"""Set on workers of Slurm sites: programs start with srun on all nodes of the block, with these site options."""


def step_options(
    *,
    nodes: int | None = None,
    names: Sequence[str] = (),
    cpus: int | str | None = None,
    gpus: int = 0,
    overlap: bool = True,
    relative: int | None = None,
    further: Sequence[str] = (),
) -> list[str]:
    """Return srun's options for one task per node, with `cpus` processors and `gpus` GPUs each.

    `nodes` None takes every node of the allocation. `overlap` shares the nodes with the step that starts this one.
    Since version 22.05 srun takes no processor count from sbatch, so `cpus` is always passed if it is known.
    """
    return [
        *([f"--nodes={nodes}", f"--ntasks={nodes}"] if nodes is not None else []),
        "--ntasks-per-node=1",
        *([f"--nodelist={','.join(names)}"] if names else []),
        *([f"--relative={relative}"] if relative is not None else []),
        *(["--overlap"] if overlap else []),
        *([f"--gpus-per-node={gpus}"] if gpus else []),
        *([f"--cpus-per-task={cpus}"] if cpus is not None else []),
        *further,
    ]


def srun_argv(
    allocation: Allocation, command: Sequence[str], environment: Mapping[str, str], *, gpus: int = 0
) -> list[str]:
    """Return srun that starts `command` once on each node of an allocation; if one fails, all are ended.

    `environment` is the worker's: it holds the site's options for srun.
    """
    options = step_options(
        nodes=len(allocation.nodes),
        names=allocation.nodes,
        cpus=allocation.cpus_per_node,
        gpus=gpus,
        further=["--kill-on-bad-exit=1", *shlex.split(environment.get(SRUN_OPTIONS, ""))],
    )
    return ["srun", *options, *command]
