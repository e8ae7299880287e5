"""Starts Parsl's interchange so that it lives exactly as long as the driver.

In a session of its own it does not see the terminal's Ctrl-C, which the driver answers in order; and when the driver
dies in whatever way, the kernel sends it SIGTERM, whereupon the workers leave and their allocation with them.
"""

from __future__ import annotations

import os
import runpy
import signal

from quatrain.hpc.process_guard import end_with_parent


def main() -> None:
    """Bind this process to its parent and become the interchange, which reads its settings from standard input."""
    parent = os.getppid()
    os.setsid()
    end_with_parent(parent, signal.SIGTERM)
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")


if __name__ == "__main__":
    main()
