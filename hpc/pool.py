"""Starts a pool of workers and leaves none of its processes behind, also where its manager is killed.

A manager that gets SIGKILL cannot end its workers, and they would hold the job's output open until Slurm takes the node
for broken. So this process stays beside: it adopts what the manager leaves and ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

import psutil

from quatrain.hpc.bound import adopt_orphans

ACCELERATORS = "--available-accelerators"
"""The last option of Parsl's command; the names of a node's GPUs follow it."""
TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command given as arguments; return its exit code once all of its processes are gone."""
    words = list(sys.argv[1:] if argv is None else argv)
    adopt_orphans()
    with subprocess.Popen(with_given_gpus(words, os.environ)) as pool:

        def hand_on(number: int, _frame: FrameType | None) -> None:
            with contextlib.suppress(ProcessLookupError):
                pool.send_signal(number)

        for number in TOLD:
            signal.signal(number, hand_on)
        code = pool.wait()
    clear()
    return code if code >= 0 else 128 - code


def with_given_gpus(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return a pool's command with the GPUs that this node's environment names, of which Slurm gave it the use.

    On a node that others share they need not begin at 0, and only the job itself is told of them.
    """
    given = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if ACCELERATORS not in words or not given:
        return list(words)
    first = words.index(ACCELERATORS) + 1
    return [*words[:first], *given[: len(words) - first]]


def clear() -> None:
    """Kill every descendant of this process, and what those leave, until there is none."""
    while left := psutil.Process(os.getpid()).children(recursive=True):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)


if __name__ == "__main__":
    sys.exit(main())
