"""A measurement that takes its worker down with it on one network; workers import it, so it is a module of its own."""

from __future__ import annotations

import os
import signal

from quatrain.supernet.space import Subnet

ENDS = {"exit": lambda: os._exit(1), "kill": lambda: os.kill(os.getpid(), signal.SIGKILL)}


def measure(key: str, poison: str, end: str) -> dict[str, float]:
    """Return made-up figures of a network, or die of it."""
    if key == poison:
        ENDS[end]()
    return {"miou_oracle": sum(Subnet.parse(key).widths) / 5000, "images": 4.0, "objects": 9.0}
