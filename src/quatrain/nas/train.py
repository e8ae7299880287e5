"""Train one role of a nas run: the supernet by the sandwich rule, or one network alone.

By hand, with any number of processes, on a run folder that `quatrain nas` has prepared:

    torchrun --nproc-per-node 4 -m quatrain.nas.train RUN_DIR --role supernet

Roles: supernet (sandwich rule), supernet-none and supernet-random (the same with channels unsorted and sorted at
random), finetune (the full network alone, with the same images), tuned (one sub-network of the supernet, alone).

A killed run resumes from its last checkpoint and ends with the same weights; see `supernet.trainer`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import distributed

from quatrain.errors import UsageError
from quatrain.files import append_line
from quatrain.nas.study import NasStudy, Weights
from quatrain.progress import Meter
from quatrain.supernet.space import Subnet
from quatrain.supernet.trainer import SamTrainer, StepRecord, fit, join_group

ROLES: dict[str, Weights] = {
    "supernet": "start",
    "supernet-none": "start-none",
    "supernet-random": "start-random",
    "finetune": "start",
    "tuned": "supernet",
}
"""The roles of a study and their initial weights."""
TUNED_LR = 0.3
"""Highest learning rate of role tuned, as a share of the supernet's."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train one role of the study in a run folder; return an exit code (2 for the user's mistakes)."""
    parser = argparse.ArgumentParser(prog="quatrain.nas.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="the folder of a nas run")
    parser.add_argument("--role", choices=ROLES, default="supernet", help="what to train")
    parser.add_argument("--subnet", type=Subnet.parse, help="of role tuned: the sub-network, such as 384-0-256")
    parser.add_argument("--steps", type=int, help="of role tuned: number of steps")
    arguments = parser.parse_args(argv)
    if (arguments.role == "tuned") != (arguments.subnet is not None) or (arguments.role == "tuned") != bool(
        arguments.steps
    ):
        parser.error("role tuned takes --subnet and --steps, the others neither")
    try:
        train(arguments.folder, arguments.role, arguments.subnet, arguments.steps)
    except (UsageError, ValueError) as error:
        print(f"quatrain: {error}", file=sys.stderr)
        return 2
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    return 0


def train(folder: Path, role: str, subnet: Subnet | None = None, steps: int | None = None) -> None:
    """Train one role of a study; in a process group that torchrun started, with all of its processes."""
    study = NasStudy.read(folder)
    model = study.network(ROLES[role]).to(join_group())
    config, what = study.config.train, subnet or (None if role == "finetune" else study.known_space())
    if steps:
        config = replace(config, steps=steps, warmup=min(config.warmup, steps // 5), lr=TUNED_LR * config.lr)
    trainer = SamTrainer(model, config, study.seed, what)
    meter = Meter(folder, f"train-{role}", total=config.steps)

    def report(step: int, done: StepRecord) -> None:
        append_line(folder / f"training-{role}.jsonl", {"step": step, **done})
        first = next(iter(done["losses"].values()))
        meter.set(step, f"loss {first:.3f}")

    fit(trainer, study.items(), study.checkpoints / f"{role}.pt", report)


if __name__ == "__main__":
    sys.exit(main())
