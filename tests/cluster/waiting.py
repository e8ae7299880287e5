"""Waiting with a deadline, for the tests of this folder."""

from __future__ import annotations

import time

PATIENCE_S = 900
"""Nothing here takes so long; it only keeps a broken test from waiting for ever."""


def await_true(ask, what, seconds=PATIENCE_S):
    """Ask until the answer is true and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds} s")
