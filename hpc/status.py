"""`quatrain status RUN_DIR`: the state of a run from its folder, during the run and afterwards."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from quatrain.errors import UsageError
from quatrain.files import read_json, read_lines
from quatrain.hpc.blocks import Block, gpu_hours
from quatrain.hpc.blocks import read as read_blocks
from quatrain.hpc.progress import as_line, readings, span
from quatrain.hpc.run import HEARTBEAT, recorded

ORDER = ("pending", "running", "done", "remembered", "retried", "failed")
LIVE = ("running", "queued", "requeued")
"""States in which something may still change."""
LAST = 5
REASONS = 8
WATCH_S = 2.0
SILENT_S = 60.0
"""Seconds without a heartbeat after which a driver counts as ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The state of a run, read from its folder at one moment."""

    run_dir: Path
    facts: dict[str, Any]
    summary: dict[str, Any]
    events: list[dict[str, Any]]
    blocks: list[Block]
    now: float
    silent_s: float = 0.0
    """Seconds since the driver's last heartbeat."""

    @property
    def name(self) -> str:
        """The recorded state; `gone` if the driver was killed and could not record it.

        `requeued` if the driver was interrupted and Slurm will start it again.
        """
        state = str(self.summary.get("state", "unknown"))
        if state == "interrupted" and self.summary.get("requeued"):
            return "requeued"
        return "gone" if state == "running" and self._gone() else state

    def _gone(self) -> bool:
        driver = self.facts.get("driver") or {}
        here = driver.get("host") == socket.gethostname()
        return self.silent_s > SILENT_S or (here and not _alive(driver.get("pid", 0)))

    @property
    def until(self) -> float:
        """Unix time up to which blocks without a recorded end are counted."""
        last = max((_seconds(line) for line in self.events), default=self.now)
        return self.now if self.name in LIVE else last

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of every block while it had its nodes; blocks of one allocation count once."""
        return gpu_hours(self.blocks, self.until)


def look(run_dir: Path) -> State:
    """Return the present state of a run; UsageError if it is not a run folder. Torn and missing files are skipped."""
    facts = recorded(run_dir)
    try:
        summary = read_json(run_dir / "summary.json")
    except (OSError, ValueError):
        summary = {}
    return State(
        run_dir=run_dir,
        facts=facts,
        summary=summary if isinstance(summary, dict) else {},
        events=[line for line in read_lines(run_dir / "events.jsonl") if isinstance(line, dict) and "state" in line],
        blocks=read_blocks(run_dir),
        now=time.time(),
        silent_s=_silence_s(run_dir),
    )


def _silence_s(run_dir: Path) -> float:
    """Return the age of the driver's heartbeat in seconds by the file system's own clock; 0 without a heartbeat."""
    try:
        with (run_dir / HEARTBEAT).open("rb") as beat:  # a network file system refreshes attributes on open
            last = os.fstat(beat.fileno()).st_mtime
    except OSError:
        return 0.0
    try:
        with tempfile.TemporaryFile(dir=run_dir) as fresh:
            return os.fstat(fresh.fileno()).st_mtime - last
    except OSError:  # a read-only folder or a full disk: use this computer's clock
        return time.time() - last


def command(arguments: Sequence[str]) -> None:
    """Print the state of the run in one folder, with --watch until it ends."""
    folders = [word for word in arguments if word != "--watch"]
    if len(folders) != 1 or folders[0].startswith("-"):
        raise UsageError("usage: quatrain status RUN_DIR [--watch]")
    if "--watch" in arguments:
        watch(Path(folders[0]))
    else:
        print(report(Path(folders[0])))


def report(run_dir: Path) -> str:
    """Return the state of a run as text: tasks, blocks, GPU-hours, progress, retries with reasons, last events."""
    return _text(look(run_dir))


def _text(state: State) -> str:
    sections = [
        [_head(state)],
        [f"error: {state.summary['error']}"] if "error" in state.summary else [],
        [_counts(state.events)],
        _blocks(state),
        [as_line(reading) for reading in readings(state.run_dir)],
        _reasons(state.events),
        [
            "last events:",
            *(f"  {line.get('time', '')} {line['state']} {_event_text(line)}" for line in state.events[-LAST:]),
        ],
    ]
    return "\n".join(line for section in sections for line in section)


def watch(run_dir: Path, stream: TextIO | None = None) -> None:
    """Show the state again and again until the run ends: in place on a terminal, else after each change."""
    stream = stream or sys.stdout
    painted = ""
    while True:
        state = look(run_dir)
        text = _text(state)
        if text != painted:
            print(f"\x1b[H\x1b[2J{text}" if stream.isatty() else f"{text}\n", file=stream, flush=True)
        painted = text
        if state.name not in LIVE:
            return
        time.sleep(WATCH_S)


def _head(state: State) -> str:
    words = {
        "gone": "interrupted (its driver has ended: continue with --resume)",
        "queued": "waits in the queue",
        "requeued": "interrupted for a while (its job waits in the queue again)",
    }
    seconds = span(state.summary.get("seconds", 0.0)) + (" so far" if state.name in LIVE else "")
    return f"{state.facts['workflow']} in {state.run_dir}: {words.get(state.name, state.name)}, {seconds}"


def _seconds(line: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(line.get("time", "")).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _blocks(state: State) -> list[str]:
    if not state.blocks:
        return []
    lines = [f"  {_block(block, state)}" for block in state.blocks]
    return ["blocks:", *lines, f"GPU-hours: {state.gpu_hours:.2f}"]


def _block(block: Block, state: State) -> str:
    name = block.name.partition(" ")[2]
    if block.began is None:
        return f"{name}, job {block.job}: {block.how or ('queued' if state.name in LIVE else 'never began')}"
    nodes = f"{len(block.nodes)} node{'s' * (len(block.nodes) != 1)} ({' '.join(block.nodes)}), {block.gpus} GPUs"
    spent = span(block.seconds(state.until))
    if block.ended is not None or state.name not in LIVE:
        return f"{name}, job {block.job}: {nodes}, {block.how or 'its end was not seen'}, {spent}"
    left = f", {span(max(0.0, block.until - state.now))} left" if block.until is not None else ""
    return f"{name}, job {block.job}: {nodes}, for {spent}{left}"


def _counts(events: Iterable[dict[str, Any]]) -> str:
    latest = {line["task"]: line["state"] for line in events if line.get("task")}
    counts = Counter(latest.values())
    return "tasks: " + (", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state]) or "none yet")


def _reasons(events: Iterable[dict[str, Any]]) -> list[str]:
    lines = [line for line in events if line["state"] in ("retried", "failed") and line.get("task")]
    before = [f"{len(lines) - REASONS} earlier retries and failures in events.jsonl"] if len(lines) > REASONS else []
    return before + [f"{line['state']}: {_event_text(line)}" for line in lines[-REASONS:]]


def _event_text(line: dict[str, Any]) -> str:
    place = f" on {line['node']}" if line.get("node") else ""
    tries = f" (try {line['try']})" if line.get("try", 0) > 1 else ""
    message = f": {line['message']}" if line.get("message") else ""
    return f"{line.get('task') or 'run'}{place}{tries}{message}"
