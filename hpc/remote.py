"""The part of a task that travels: what a worker imports before the body, so nothing of Parsl's driver side."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quatrain.hpc.allocation import meaning
from quatrain.hpc.reports import report
from quatrain.records import plain


class TaskError(Exception):
    """A task ended with an exception, or was lost too often; the message says which, where and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One task on its way to a worker."""

    task: str
    body: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    reports: str
    """The folder in which workers tell what they begin."""


def perform(call: Call) -> dict[str, Any]:
    """Run one task on a worker: tell that it begins and where, then return its plain result with the node's name."""
    node = node_name()
    report(Path(call.reports), call.task, node)
    return {"node": node, "result": plain(call.body(*call.arguments, **call.keywords))}


def node_name() -> str:
    """Return the name of this computer, as Slurm calls it where there is Slurm."""
    return meaning("node_name", os.environ) or socket.gethostname()
