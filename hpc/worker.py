"""The part of a task that is sent to a worker; it imports nothing of Parsl's driver side."""

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
    """A task ended with an exception, or was lost too often; the message names the task, its node and the reason."""


class MachineError(TaskError):
    """No worker can run tasks any more: the scheduler, a batch script or a pool failed, not a task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One task, as it is sent to a worker."""

    task: str
    body: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    reports: str
    """The folder in which workers report the tasks that they begin."""


def perform(call: Call) -> dict[str, Any]:
    """Report the start of a task on this worker, run it, and return its plain result with the node's name."""
    node = node_name()
    report(Path(call.reports), call.task, node)
    return {"node": node, "result": plain(call.body(*call.arguments, **call.keywords))}


def node_name() -> str:
    """Return the name of this computer: Slurm's name for it if there is one, else the host name."""
    return meaning("node_name", os.environ) or socket.gethostname()


def report(folder: Path, task: str, node: str) -> None:
    """Append a line to this worker's report file: a task begins now on a node."""
    append_line(folder / f"{node}-{os.getpid()}.jsonl", {"task": task, "node": node, "at": time.time()})


class Reports:
    """Reads the workers' report files for the driver; each line is returned once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._read: dict[Path, int] = {}

    def new(self) -> list[dict[str, Any]]:
        """Return the reports that were not returned before; incomplete and malformed lines are skipped."""
        with self._lock:
            lines = [line for path in sorted(self.folder.glob("*.jsonl")) for line in self._lines(path)]
        return [parsed for line in lines if (parsed := _parsed(line)) is not None]

    def _lines(self, path: Path) -> list[bytes]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            whole = file.read().rpartition(b"\n")[0]
        self._read[path] = self._read.get(path, 0) + len(whole) + bool(whole)
        return whole.splitlines()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return a report; None for a line that a worker's death or a file system damaged."""
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(parsed, dict) and parsed.keys() >= {"task", "node", "at"}
    return parsed if whole and isinstance(parsed["at"], int | float) else None
