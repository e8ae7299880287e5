"""A workflow without science: tasks that hold a worker for a while."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Literal

import pieces

from quatrain.hpc import cli
from quatrain.hpc.plan import Step


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """How many tasks, how long, on which workers."""

    count: int = 16
    seconds: float = 0.5
    shape: Literal["gpu", "block"] = "gpu"
    stuck_s: float = 0.0
    """How much longer than planned the first try of the first task takes."""
    late_s: float = 0.0
    """How long the driver waits before it has any task, and so before a pool starts."""
    program: bool = False
    """Start a torch program, and keepers of machines, from a worker of shape block, too."""


def plan(asked: Trial) -> tuple[Step, ...]:
    """Equal tasks, and a program where one is asked for."""
    hold = Step(name="hold", shape=asked.shape, count=asked.count, seconds=asked.seconds)
    return (hold, Step(name="meet", shape="block", count=int(asked.program), seconds=20))


def work(asked: Trial, session: cli.Session) -> None:
    """Start all tasks and keep what they return."""
    hold = session.app(pieces.hold, shape=asked.shape)
    time.sleep(asked.late_s)
    folder = session.run.path
    futures = [hold(folder, number, asked.seconds, asked.stuck_s * (number == 0)) for number in range(asked.count)]
    session.run.summarise(places=[future.result() for future in futures])
    if asked.program:
        reported = session.app(pieces.meet, shape="block")(folder).result()
        kept = session.app(pieces.keep, shape="block")(folder).result()
        session.run.summarise(processes=reported, keepers=kept)


if __name__ == "__main__":
    workflow = cli.Workflow(name="trial", description="Holds workers.", presets={"only": Trial}, plan=plan, work=work)
    sys.exit(cli.main(workflow))
