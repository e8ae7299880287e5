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
from collections.abc import Sequence
from types import FrameType

import psutil

from quatrain.hpc.bound import adopt_orphans

TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command given as arguments; return its exit code once all of its processes are gone."""
    words = list(sys.argv[1:] if argv is None else argv)
    adopt_orphans()
    with subprocess.Popen(words) as pool:

        def hand_on(number: int, _frame: FrameType | None) -> None:
            with contextlib.suppress(ProcessLookupError):
                pool.send_signal(number)

        for number in TOLD:
            signal.signal(number, hand_on)
        code = pool.wait()
    clear()
    return code if code >= 0 else 128 - code


def clear() -> None:
    """Kill every descendant of this process, and what those leave, until there is none."""
    while left := psutil.Process(os.getpid()).children(recursive=True):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)


if __name__ == "__main__":
    sys.exit(main())
