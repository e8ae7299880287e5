"""Starts a pool of workers and ends all of its processes, even if its manager is killed.

A manager that gets SIGKILL cannot end its workers. They would hold the job's output open until Slurm drains the node.
So this process keeps running: it adopts and ends the processes that the manager leaves. It also sets the time at which
the manager stops taking tasks, counted back from the end of its nodes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

import psutil

from quatrain.hpc.allocation import BLOCK_END
from quatrain.hpc.process_guard import adopt_orphans

ACCELERATORS = "--available-accelerators"
"""The last option of Parsl's command; the names of a node's GPUs follow it."""
DRAIN = "--drain_period="
"""The option of Parsl's command for the seconds after which a pool takes no more tasks."""
GRACE_S = 6.0
"""Seconds that the remaining processes of a pool get to end; longer than a supervisor gives its children."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command given as arguments; return its exit code when all of its processes have ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reserve", type=float, default=0.0, help="seconds to keep free before the nodes' end")
    parser.add_argument("--stay", action="store_true", help="if no time is left, wait for the nodes' end")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(argv)
    end = float(os.environ.get(BLOCK_END) or "inf")
    left_s = end - given.reserve - time.time()
    if left_s < 1:
        return _stand_by(end, given.stay)
    return run(with_time_left(with_given_gpus(given.command, os.environ), left_s))


def _stand_by(end: float, stay: bool) -> int:
    """Start nothing, because no task would end in time; return the exit code of the pool's block."""
    at = time.strftime("%H:%M:%S", time.localtime(end))
    print(f"quatrain: no task would end before the nodes are taken back at {at}, so none begins", file=sys.stderr)
    sys.stderr.flush()
    if stay:
        time.sleep(max(0.0, end - time.time()))
    return 1


def run(words: Sequence[str]) -> int:
    """Run a pool's command and adopt its processes; return its exit code when all of them have ended."""
    adopt_orphans()
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def hand_on(number: int, _frame: FrameType | None = None) -> None:
        if not started:
            early.append(number)
        for pool in started:
            with contextlib.suppress(ProcessLookupError):
                pool.send_signal(number)

    for number in FORWARDED:
        signal.signal(number, hand_on)
    with subprocess.Popen(words) as pool:
        started.append(pool)
        for signal_number in early:
            hand_on(signal_number)
        code = pool.wait()
    clear()
    return code if code >= 0 else 128 - code


def with_given_gpus(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return a pool's command with the GPUs that Slurm gave to the job on this node, from its environment.

    On a shared node they need not begin at 0, and only the job's environment names them.
    """
    given = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if ACCELERATORS not in words or not given:
        return list(words)
    first = words.index(ACCELERATORS) + 1
    return [*words[:first], *given[: len(words) - first]]


def with_time_left(words: Sequence[str], left_s: float) -> list[str]:
    """Return a pool's command with the seconds that are left for taking tasks."""
    if left_s == float("inf"):
        return list(words)
    return [f"{DRAIN}{int(left_s)}" if word.startswith(DRAIN) else word for word in words]


def clear() -> None:
    """End all descendants of this process, and the processes that those leave.

    They get SIGTERM first, because only the supervisor of graph servers removes their shared memory.
    """
    asked = psutil.Process(os.getpid()).children(recursive=True)
    for process in asked:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(asked, timeout=GRACE_S)
    while left := psutil.Process(os.getpid()).children(recursive=True):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)


if __name__ == "__main__":
    sys.exit(main())
