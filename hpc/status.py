"""`quatrain status RUN_DIR`: what a run folder tells, while the run lives and afterwards."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quatrain.hpc.progress import as_line, readings, span
from quatrain.hpc.run import recorded
from quatrain.records import read_json, read_lines

ORDER = ("pending", "running", "done", "remembered", "retried", "failed")
LAST = 5


def report(run_dir: Path) -> str:
    """Return the state of a run as text: state, tasks by state, progress with time left, retries, last events.

    UsageError when `run_dir` is no run folder; files that are torn or not there yet are passed over.
    """
    facts, summary = recorded(run_dir), _summary(run_dir)
    events = [line for line in read_lines(run_dir / "events.jsonl") if isinstance(line, dict) and "state" in line]
    sections = [
        [f"{facts['workflow']} in {run_dir}: {_state(facts, summary)}, {span(summary.get('seconds', 0.0))} so far"],
        [f"error: {summary['error']}"] if "error" in summary else [],
        [_counts(events)],
        [as_line(reading) for reading in readings(run_dir)],
        [
            f"{line['state']}: {_told(line)}"
            for line in events
            if line["state"] in ("retried", "failed") and line.get("task")
        ],
        ["last events:", *(f"  {line.get('time', '')} {line['state']} {_told(line)}" for line in events[-LAST:])],
    ]
    return "\n".join(line for section in sections for line in section)


def _summary(run_dir: Path) -> dict[str, Any]:
    try:
        summary = read_json(run_dir / "summary.json")
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _state(facts: dict[str, Any], summary: dict[str, Any]) -> str:
    """Return the recorded state; a driver that was killed could not change it, so look whether it is there."""
    state = str(summary.get("state", "unknown"))
    driver = facts.get("driver") or {}
    if state == "running" and driver.get("host") == socket.gethostname() and not _alive(driver.get("pid", 0)):
        return "interrupted (its driver is gone: go on with --resume)"
    return state


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _counts(events: Sequence[dict[str, Any]]) -> str:
    latest = {line["task"]: line["state"] for line in events if line.get("task")}
    counts = Counter(latest.values())
    return "tasks: " + (", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state]) or "none yet")


def _told(line: dict[str, Any]) -> str:
    place = f" on {line['node']}" if line.get("node") else ""
    tries = f" (try {line['try']})" if line.get("try", 0) > 1 else ""
    message = f": {line['message']}" if line.get("message") else ""
    return f"{line.get('task') or 'run'}{place}{tries}{message}"
