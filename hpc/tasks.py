"""What runs on workers: plain functions of plain data, which import the science they need inside."""

from __future__ import annotations

import os
import platform
import socket
from typing import Any


def probe() -> dict[str, Any]:
    """Return where it runs: host, process, Python's version, the GPUs it was given and the processors it may use."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "cpus": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }
