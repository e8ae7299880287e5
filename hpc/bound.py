"""Processes that end with the one that started them, in whatever way that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

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
