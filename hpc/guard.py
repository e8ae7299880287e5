"""Stands beside a program and ends its whole process group when the one who started it dies.

Started as `guard.py GROUP` with a pipe as standard input. The pipe closes when its other end's process dies, in
whatever way; if the word `done` came before, the program has ended by itself and nothing is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time

GRACE_S = 10.0


def main() -> None:
    """Wait for the pipe to close, then end the group unless it is done."""
    group = int(sys.argv[1])
    if sys.stdin.buffer.read() != b"done":
        end(group)


def end(group: int, grace_s: float = GRACE_S) -> None:
    """Send SIGTERM to a process group, and SIGKILL when some of it is still there after `grace_s`."""
    deadline = time.monotonic() + grace_s
    try:
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
