"""What does quatrain cost on top of Parsl? No-op tasks on real worker processes, beside a bare Parsl script.

    python benchmarks/overhead.py [--quick]

Every repeat starts a fresh process for each side in turn: a bare Parsl script with the same executor, workers and
scaling; quatrain with its run folder and events.jsonl, and the same with results remembered for --resume. The first
result counts from the start of Parsl, the rate from the first result on, when all workers are up.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from lines import emit

WORKERS = 2
SIDES = ("bare", "quatrain", "remembered")
Start = Callable[..., "Future[Any]"]


def main() -> None:
    """Measure all sides in turn and print one JSON line a figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two repeats of 200 tasks")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    tasks, repeats = (200, 2) if asked.quick else (asked.tasks, asked.repeats)
    if asked.side:
        print(json.dumps(measure(asked.side, asked.tasks)))
        return
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for repeat in range(repeats):
        turn = repeat % len(SIDES)
        for side in (*SIDES[turn:], *SIDES[:turn]):
            found[side].append(_apart(side, tasks))
    report(found, tasks)


def _apart(side: str, tasks: int) -> dict[str, float]:
    """Measure one side in a process and a folder of its own."""
    # a bare script finds Parsl's own commands on the PATH, as in an active environment
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, str(Path(__file__).resolve()), "--side", side, "--tasks", str(tasks)]
        done = subprocess.run(argv, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(side: str, tasks: int) -> dict[str, float]:
    """Return the seconds to the first result and the rate of the tasks after it."""
    began = time.perf_counter()
    return bare(tasks, began) if side == "bare" else ours(tasks, began, remember=side == "remembered")


def bare(tasks: int, began: float) -> dict[str, float]:
    """Run the tasks as a script of Parsl's guide would."""
    import parsl
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.launchers import SimpleLauncher
    from parsl.providers import LocalProvider

    executor = HighThroughputExecutor(
        label="gpu",
        address="127.0.0.1",
        cores_per_worker=1e-3,
        max_workers_per_node=WORKERS,
        provider=LocalProvider(launcher=SimpleLauncher(), init_blocks=0, max_blocks=1),
    )
    with parsl.load(Config(executors=[executor], strategy="simple", strategy_period=0.5, usage_tracking=0)):
        return timed(parsl.python_app(operator.add), tasks, began)


def ours(tasks: int, began: float, *, remember: bool) -> dict[str, float]:
    """Run the tasks as a workflow does."""
    import dataclasses

    from quatrain.hpc import site_registry
    from quatrain.hpc.apps import open_workers
    from quatrain.hpc.placement import place
    from quatrain.hpc.run import Run
    from quatrain.hpc.site import Request

    site = dataclasses.replace(site_registry.find("local"), gpu_workers=WORKERS)
    with Run.create("overhead", {}, root=Path("runs")) as run, open_workers(run, place(site, Request())) as workers:
        return timed(workers.app(operator.add, shape="gpu", remember=remember), tasks, began)


def timed(start: Start, tasks: int, began: float) -> dict[str, float]:
    """Wait for one result, then for all of the others."""
    start(0, -1).result()
    first = time.perf_counter()
    wait([start(number, 1) for number in range(2 * WORKERS)])  # every worker has imported what it needs
    begin = time.perf_counter()
    futures = [start(number, 2) for number in range(tasks)]
    wait(futures)
    end = time.perf_counter()
    assert [future.result() for future in futures] == [number + 2 for number in range(tasks)]
    return {"first_s": first - began, "rate": tasks / (end - begin)}


def report(found: dict[str, list[dict[str, float]]], tasks: int) -> None:
    """Print every side's figures, and ours beside Parsl's of the same repeat."""
    for side, rows in found.items():
        emit("overhead", side, "tasks per second", [row["rate"] for row in rows], unit="1/s", goal="", ok=None)
        emit("overhead", side, "first result", [row["first_s"] for row in rows], unit="s", goal="", ok=None)
    for side in SIDES[1:]:
        pairs = list(zip(found[side], found["bare"], strict=True))
        shares = [row["rate"] / other["rate"] for row, other in pairs]
        later = [row["first_s"] - other["first_s"] for row, other in pairs]
        case = f"{side}, {tasks} tasks"
        share, late = statistics.median(shares), statistics.median(later)
        emit("overhead", case, "rate against bare Parsl", shares, unit="x", goal=">= 0.9", ok=share >= 0.9)
        emit("overhead", case, "first result later by", later, unit="s", goal="<= 1", ok=late <= 1)


if __name__ == "__main__":
    main()
