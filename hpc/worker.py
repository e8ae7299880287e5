"""The part of a task that travels: what a worker imports before the body, so nothing of Parsl's driver side."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quatrain.files import append_line, plain
from quatrain.hpc.allocation import meaning


class TaskError(Exception):
    """A task ended with an exception, or was lost too often; the message says which, where and why."""


class MachineError(TaskError):
    """No worker can run tasks any more: the scheduler, a batch script or a pool failed; no task is to blame."""


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


def report(folder: Path, task: str, node: str) -> None:
    """Tell, from a worker, that a task begins now on a node."""
    append_line(folder / f"{node}-{os.getpid()}.jsonl", {"task": task, "node": node, "at": time.time()})


class Reports:
    """The driver's view on a folder of reports; each line is given once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._read: dict[Path, int] = {}

    def new(self) -> list[dict[str, Any]]:
        """Return the reports that were not returned before; lines that are none, or not whole, are passed over."""
        with self._lock:
            lines = [line for path in sorted(self.folder.glob("*.jsonl")) for line in self._lines(path)]
        return [told for line in lines if (told := _parsed(line)) is not None]

    def _lines(self, path: Path) -> list[bytes]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            whole = file.read().rpartition(b"\n")[0]
        self._read[path] = self._read.get(path, 0) + len(whole) + bool(whole)
        return whole.splitlines()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return a report, None where a worker's death or a file system left something else."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(told, dict) and told.keys() >= {"task", "node", "at"} and isinstance(told["at"], int | float)
    return told if whole else None
