"""Ends the whole process group of a program when the process that started it dies.

Started as `process_guard.py GROUP` with a pipe as standard input. The pipe closes when the process at its other end
dies. If the text `done` was sent before, the program has ended by itself and nothing is killed.
"""

from __future__ import annotations

import ctypes
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
    """Send SIGTERM to a process group, and SIGKILL if some of it still runs after `grace_s`."""
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


_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # of linux/prctl.h


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent, of that number, ends; exit if it has ended already.

    Does nothing on systems other than Linux.
    """
    _control(_SET_PARENT_DEATH_SIGNAL, number)
    if os.getppid() != parent:  # it ended before the request took effect
        sys.exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends; does nothing on systems other than Linux."""
    _control(_SET_CHILD_SUBREAPER, 1)


def _control(request: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(request, value, 0, 0, 0)
