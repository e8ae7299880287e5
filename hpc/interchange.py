"""Starts Parsl's interchange so that it lives exactly as long as the driver.

It runs in its own session, so the terminal's Ctrl-C reaches only the driver, which then shuts down in order. If the
driver dies, the kernel sends SIGTERM to the interchange. The workers then end and release their allocation.
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
