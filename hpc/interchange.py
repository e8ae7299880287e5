"""Starts Parsl's interchange so that it lives exactly as long as the driver.

In a session of its own it does not see the terminal's Ctrl-C, which the driver answers in order; and when the driver
dies in whatever way, the kernel sends it SIGTERM, whereupon the workers leave and their allocation with them.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def main() -> None:
    """Bind this process to its parent and become the interchange, which reads its settings from standard input."""
    parent = os.getppid()
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the driver was gone before the kernel knew of the wish
        sys.exit(1)
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")


if __name__ == "__main__":
    main()
