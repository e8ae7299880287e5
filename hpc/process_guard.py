"""Stands beside a program and ends its whole process group when the one who started it dies.

Started as `guard.py GROUP` with a pipe as standard input. The pipe closes when its other end's process dies, in
whatever way; if the word `done` came before, the program has ended by itself and nothing is killed.
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


_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # of linux/prctl.h


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent, of that number, ends; at once where it has ended.

    Elsewhere than on Linux nothing happens.
    """
    _control(_SET_PARENT_DEATH_SIGNAL, number)
    if os.getppid() != parent:  # it was gone before the kernel knew of the wish
        sys.exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends; elsewhere than on Linux nothing happens."""
    _control(_SET_CHILD_SUBREAPER, 1)


def _control(wish: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(wish, value, 0, 0, 0)
